"""Who is at work on an output: one process at a time, which says so in a file there and shows that it lives."""

import fcntl
import os
import platform
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psutil
from pydantic import Field

from ray_rerank.cluster.errors import OutputBusyError, StorageError
from ray_rerank.cluster.records import DamagedRecordError, Record, read_record
from ray_rerank.cluster.storage import absolute, join, remove, write_whole

LEASE = ".lease"  # no ending: tools read every .json of a folder

_BEAT_S = 10.0  # between two signs of life
_FIRST_BEAT_S = 2.0  # soon, for two that began in the same moment where nothing is exclusive
_PATIENCE_S = 45.0  # without a sign of life, after which a holder elsewhere counts as dead
_LONG_AGO_S = 3600.0  # clocks of two machines do not differ by so much
_Time = Annotated[float, Field(ge=0, lt=1e11)]  # seconds since 1970, in years that have four digits


class Holder(Record):
    """The process that works on an output.

    Attributes:
        token: of this one lease.
        place: within which a pid is one process: a boot of a machine, a container.
        born: when the process started: pids come again.
        beat: the last sign of life, in seconds since 1970 by the holder's clock.
    """

    token: str
    job: str
    user: str
    host: str
    place: str
    pid: int = Field(gt=0, lt=1 << 31)
    born: _Time
    since: _Time
    beat: _Time

    def __str__(self) -> str:
        since = datetime.fromtimestamp(self.since).astimezone().isoformat(" ", "seconds")
        return f"`ray-rerank {self.job}` of {self.user} on {self.host}, pid {self.pid}, since {since}"


@contextmanager
def held(folder: str, job: str) -> Iterator[None]:
    """Be the only process that works on a folder, for the length of a with-block.

    What a process left that was killed is taken over: at once where it ran on this machine, else when no sign of
    life has come for a while.

    Raises:
        OutputBusyError: another is at work there, or has taken over while this process was suspended.
        StorageError: the folder cannot be written.
    """
    lease, mine = join(absolute(folder), LEASE), _myself(job)
    with _one_at_a_time(folder):
        there = _holder(lease)
        if there and _lives(lease, there, folder):
            raise _busy(folder, there)
        _write(lease, mine)
    beating = _Beating(lease, mine)
    beating.start()
    try:
        yield
    except KeyboardInterrupt:
        if beating.lost_to:
            raise _busy(folder, beating.lost_to) from None
        raise
    finally:
        beating.stop()
        with suppress(StorageError):
            if (there := _holder(lease)) and there.token == mine.token:
                remove(lease)


def check_free(folder: str) -> None:
    """See that nobody is at work on a folder; nothing is written.

    Raises:
        OutputBusyError: somebody is.
    """
    lease = join(absolute(folder), LEASE)
    if (there := _holder(lease)) and _lives(lease, there, folder):
        raise _busy(folder, there)


class _Beating(threading.Thread):
    """Shows that this process lives, as long as the lease is its own; else interrupts it."""

    def __init__(self, lease: str, mine: Holder) -> None:
        super().__init__(daemon=True)
        self.lost_to: Holder | None = None
        self._lease, self._mine = lease, mine
        self._ended = threading.Event()
        self._by_main = threading.current_thread() is threading.main_thread()

    def run(self) -> None:
        wait = _FIRST_BEAT_S
        while not self._ended.wait(wait):
            wait = _BEAT_S
            with suppress(StorageError):  # storage that does not answer is met by the work itself
                there = _holder(self._lease)
                if there and there.token != self._mine.token:
                    self._give_up(there)
                    return
                if there and not self._ended.is_set():  # else the folder went, as a training's checkpoints do
                    _write(self._lease, self._mine.model_copy(update={"beat": time.time()}))

    def stop(self) -> None:
        """No more signs of life."""
        self._ended.set()
        self.join(_BEAT_S)  # storage may hang

    def _give_up(self, other: Holder) -> None:
        if self._by_main:
            self.lost_to = other
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _myself(job: str) -> Holder:
    process, now = psutil.Process(), time.time()
    return Holder(
        token=uuid.uuid4().hex,
        job=job,
        user=process.username(),
        host=platform.node(),
        place=_place(),
        pid=process.pid,
        born=process.create_time(),
        since=now,
        beat=now,
    )


def _place() -> str:
    parts = [platform.node()]
    with suppress(OSError):  # Linux only
        parts += [
            Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
            str(Path("/proc/self/ns/pid").readlink()),
        ]
    return " ".join(parts)


def _lives(lease: str, there: Holder, folder: str) -> bool:
    if there.place == _place():
        return _is_running(there)
    if time.time() - there.beat > _LONG_AGO_S:
        return False
    print(
        f"{folder}: was last held by {there}; waiting for a sign of life, {_PATIENCE_S:.0f} s at most", file=sys.stderr
    )
    deadline = time.monotonic() + _PATIENCE_S
    while time.monotonic() < deadline:
        time.sleep(min(1.0, _PATIENCE_S / 10))
        now = _holder(lease)
        if now is None:
            return False
        if now != there:
            return True
    return False


def _is_running(there: Holder) -> bool:
    try:
        process = psutil.Process(there.pid)
        same = abs(process.create_time() - there.born) < 2  # it is computed from a clock that may be set
        return same and process.status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False


def _busy(folder: str, there: Holder) -> OutputBusyError:
    return OutputBusyError(f"{folder}: another job is at work here: {there}; wait for its end, or use another output")


def _holder(lease: str) -> Holder | None:
    """Who holds the lease; None where it is free, or damaged."""
    try:
        return read_record(lease, Holder)
    except DamagedRecordError:
        return None


def _write(lease: str, holder: Holder) -> None:
    write_whole(lease, holder.model_dump_json(indent=2).encode())


@contextmanager
def _one_at_a_time(folder: str) -> Iterator[None]:
    """Processes of one machine look and write one after another; a store has no lock, and the first beat will tell."""
    path = absolute(folder)
    if "://" in path:
        yield
        return
    Path(path).mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDONLY)
    try:
        with suppress(OSError):  # some network disks have none either
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
