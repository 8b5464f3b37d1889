"""How often and how long a step of a unit is tried, so that each of them ends: what dies or stands still is counted."""

import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import psutil
from pydantic import BaseModel, ConfigDict, Field

_SLOWEST = 256 << 10  # bytes a second of storage that is slow and not dead
_GRACE_S = 15.0  # for a process to say that it is late before it is ended without a word
_BEAT_S = 5.0  # between two signs that the process runs at all


class Limits(BaseModel):
    """How often a step is tried, and how long it may take. A worker that died or stood still is one attempt."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    attempts: int = Field(3, ge=1, description="workers that may die or stand still over one unit, or in one start")
    read: float | None = Field(
        None, gt=0, description="seconds to read a unit; default: 600, and one for each 256 KiB of it"
    )
    load: float = Field(1800, gt=0, description="seconds to start an actor and load its model")
    batch: float = Field(600, gt=0, description="seconds to score one batch of a unit")
    commit: float | None = Field(None, gt=0, description="seconds to write a unit's results; default: as for reading")

    def reading(self, size: int) -> float:
        """Seconds to read a unit of so many bytes."""
        return self.read or 600 + size / _SLOWEST

    def committing(self, size: int) -> float:
        """Seconds to write what came of a unit of so many bytes."""
        return self.commit or 600 + size / _SLOWEST


def _nothing() -> None:
    pass


@contextmanager
def time_limit(
    seconds: float, late: Callable[[], None] = _nothing, beat: Callable[[], None] = _nothing
) -> Iterator[None]:
    """End this process when a with-block takes longer, counted from its last sign of life (`alive`).

    For processes whose end somebody else sees: no exception would stop native code that does not return. One at a time
    in a process.

    Args:
        late: called before the end, from another thread; not where native code keeps Python itself from going on.
        beat: called every few seconds, from another thread: the process runs, whatever becomes of the step.
    """
    global _watch
    _watch = _Watch(seconds, late, beat)
    try:
        yield
    finally:
        _watch.stop()
        _watch = None


def alive() -> None:
    """Say that the step under way goes on: its time limit begins anew. Nothing outside a `time_limit`."""
    if _watch is not None:
        _watch.alive()


class _Watch:
    def __init__(self, seconds: float, late: Callable[[], None], beat: Callable[[], None]) -> None:
        self._seconds, self._late, self._beat = seconds, late, beat
        self._ended = threading.Event()
        self._armed = 0.0
        self.alive()
        threading.Thread(target=self._wait, daemon=True).start()

    def alive(self) -> None:
        self._last = time.monotonic()
        if self._last - self._armed > 1:  # not for each of a thousand small batches
            self._armed = self._last
            faulthandler.dump_traceback_later(self._seconds + _GRACE_S + 1, exit=True, file=_nowhere())

    def stop(self) -> None:
        self._ended.set()
        faulthandler.cancel_dump_traceback_later()

    def _wait(self) -> None:
        while (left := self._last + self._seconds - time.monotonic()) > 0:
            if self._ended.wait(min(left, _BEAT_S)):
                return
            self._beat()
        if not self._ended.is_set():
            self._late()
            os._exit(1)


_watch: _Watch | None = None
_sink: list[IO[str]] = []


def _nowhere() -> IO[str]:
    if not _sink:
        _sink.append(open(os.devnull, "w"))  # noqa: SIM115, PTH123
    return _sink[0]


Place = tuple[str, int, float]
"""A process: its node's id, its number there, and when it was started."""


def this_process() -> Place:
    """For whoever is to end it."""
    import ray

    return ray.get_runtime_context().get_node_id(), os.getpid(), psutil.Process().create_time()


def ledger_class() -> type:
    """Made here, so that Ray takes it to the workers by value: by name it could be another's there."""
    grace = 2 * _GRACE_S

    def end_process(number: int, started: float) -> None:
        process = psutil.Process(number)
        if process.create_time() == started:
            process.kill()

    class Ledger:
        """An actor that outlives the workers and counts what they began and did not end.

        A process that does not run at all (stopped, frozen with its container) cannot watch itself: where one has not
        been heard of for its time limit and a while, the ledger ends it.

        Where its node is lost it starts anew elsewhere and counts from nothing; calls wait for it meanwhile.
        """

        def __init__(self, attempts: int) -> None:
            self._attempts = attempts
            self._begun: dict[tuple[str, str], int] = {}
            self._late: dict[tuple[str, str], int] = {}
            self._starts: dict[str, dict[str, int]] = {}
            self._starting: set[tuple[str, str]] = set()
            self._running: dict[tuple[str, str], tuple[Place, float, float]] = {}
            threading.Thread(target=self._watch, daemon=True).start()

        def _watch(self) -> None:
            while True:
                time.sleep(1)
                for key, (place, seconds, heard) in list(self._running.items()):
                    if time.monotonic() - heard > seconds + grace:
                        self._running.pop(key, None)
                        self.late(*key)
                        self._end(place)

        def _end(self, place: Place) -> None:
            import ray
            from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

            node, number, started = place
            there = NodeAffinitySchedulingStrategy(node, soft=False)
            ray.remote(end_process).options(num_cpus=0, max_retries=0, scheduling_strategy=there).remote(
                number, started
            )

        def beat(self, step: str, unit: str) -> None:
            """The worker's process runs."""
            if (found := self._running.get((step, unit))) is not None:
                self._running[step, unit] = (*found[:2], time.monotonic())

        def begin(self, step: str, unit: str, place: Place, seconds: float) -> tuple[int, int]:
            """How often a step of a unit was begun before and not ended, and how often of these for want of time."""
            key = step, unit
            self._running[key] = place, seconds, time.monotonic()
            self._begun[key] = self._begun.get(key, 0) + 1
            return self._begun[key] - 1, self._late.get(key, 0)

        def late(self, step: str, unit: str) -> None:
            """The worker gives up for want of time."""
            self._late[step, unit] = self._late.get((step, unit), 0) + 1

        def end(self, step: str, unit: str) -> None:
            """The worker is alive."""
            self._running.pop((step, unit), None)
            self._begun.pop((step, unit), None)
            self._late.pop((step, unit), None)

        def start(self, stage: str, actor: str, place: Place, seconds: float) -> tuple[int, int, bool]:
            """A stage's actor is about to load: how often it failed to before, for want of time, and as `hopeless`."""
            self._running[stage, actor] = place, seconds, time.monotonic()
            failures = self._starts.setdefault(stage, {}).setdefault(actor, 0)
            if (stage, actor) in self._starting:
                failures = self._starts[stage][actor] = failures + 1
            self._starting.add((stage, actor))
            return failures, self._late.get((stage, actor), 0), self._hopeless(stage)

        def loaded(self, stage: str, actor: str) -> None:
            """An actor has started."""
            self._running.pop((stage, actor), None)
            self._starting.discard((stage, actor))
            self._late.pop((stage, actor), None)
            self._starts[stage][actor] = 0

        def refused(self, stage: str, actor: str, final: bool) -> tuple[int, bool]:
            """An actor could not load; `final`: it never will. Its failures, and as `hopeless`."""
            self._running.pop((stage, actor), None)
            self._starting.discard((stage, actor))
            failures = self._starts[stage].get(actor, 0) + 1
            self._starts[stage][actor] = max(failures, self._attempts) if final else failures
            return failures, self._hopeless(stage)

        def _hopeless(self, stage: str) -> bool:
            """Whether no actor of the stage runs, and none has attempts left to start."""
            return all(failures >= self._attempts for failures in self._starts[stage].values())

    return Ledger
