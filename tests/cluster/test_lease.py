"""One process at a time works on an output; the second is told who is there, and a dead one stands in no one's way."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ray_rerank.cluster import lease
from ray_rerank.cluster.errors import OutputBusyError
from ray_rerank.cluster.lease import LEASE, held
from ray_rerank.cluster.records import read_record
from ray_rerank.cluster.storage import join, write_whole
from support.paths import ROOT

HOLD = """
import sys, time
from ray_rerank.cluster.lease import held
with held(sys.argv[1], 'rerank'):
    print('in', flush=True)
"""


def read_json(uri: str) -> dict[str, Any] | None:
    return read_record(uri, dict[str, Any])


@pytest.fixture(params=["local", "object store"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}/out"


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, seconds in (("_BEAT_S", 0.05), ("_FIRST_BEAT_S", 0.05), ("_PATIENCE_S", 0.3)):
        monkeypatch.setattr(lease, name, seconds)


def another(folder: str) -> "subprocess.Popen[str]":
    """A process that holds the folder until it is killed."""
    code = f"{HOLD}    time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", code, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "in\n"
    return process


def elsewhere(folder: str, beat: float) -> lease.Holder:
    """What a process of another machine has left."""
    there = lease._myself("label").model_copy(
        update={"host": "node-7", "place": "node-7 x", "pid": 1, "user": "ann", "beat": beat}
    )
    lease._write(join(folder, LEASE), there)
    return there


def test_a_second_process_is_told_who_is_there_and_a_killed_one_is_taken_over_at_once(tmp_path: Path) -> None:
    process = another(str(tmp_path))
    who = rf"{tmp_path}: another job is at work here: `ray-rerank rerank` of \S+ on \S+, pid {process.pid}, since 20"
    with pytest.raises(OutputBusyError, match=who), held(str(tmp_path), "label"):
        pass
    process.kill()  # and not waited for: it stays as a zombie
    deadline = time.monotonic() + 5
    while lease._is_running(lease.Holder(**(read_json(str(tmp_path / LEASE)) or {}))) and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    with held(str(tmp_path), "label"):
        assert time.monotonic() - began < 1
        assert (read_json(str(tmp_path / LEASE)) or {})["job"] == "label"
    process.wait()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", ["end", "fault", "interrupt"])
def test_a_folder_is_free_when_the_work_ends_in_whatever_way(folder: str, how: str) -> None:
    fault = {"end": None, "fault": ValueError, "interrupt": KeyboardInterrupt}[how]
    try:
        with held(folder, "rerank"):
            assert read_json(join(folder, LEASE))
            if fault:
                raise fault
    except (ValueError, KeyboardInterrupt):
        pass
    assert read_json(join(folder, LEASE)) is None
    with held(folder, "rerank"):
        pass


def test_a_pid_that_came_again_is_not_the_one_that_held(folder: str) -> None:
    lease._write(join(folder, LEASE), lease._myself("rerank").model_copy(update={"born": 1.0}))
    with held(folder, "rerank"):
        pass


@pytest.mark.usefixtures("quick")
def test_a_holder_elsewhere_without_a_sign_of_life_is_taken_over(
    folder: str, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere(folder, time.time() - 30)
    with held(folder, "rerank"):
        pass
    assert "last held by `ray-rerank label` of ann on node-7, pid 1" in capsys.readouterr().err


def test_one_of_long_ago_is_not_waited_for(folder: str, capsys: pytest.CaptureFixture[str]) -> None:
    elsewhere(folder, time.time() - 7200)
    with held(folder, "rerank"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("clock", [0, -600, 600])
def test_a_holder_elsewhere_that_lives_is_left_alone_whatever_its_clock(folder: str, clock: float) -> None:
    there = elsewhere(folder, time.time() + clock)
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(0.05):
            lease._write(join(folder, LEASE), there.model_copy(update={"beat": time.time() + clock}))

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(OutputBusyError, match="of ann on node-7, pid 1"), held(folder, "rerank"):
            pass
    finally:
        ended.set()
        thread.join()


@pytest.mark.usefixtures("quick")
def test_signs_of_life_are_written(folder: str) -> None:
    with held(folder, "rerank"):
        first = read_json(join(folder, LEASE))
        deadline = time.monotonic() + 5
        while read_json(join(folder, LEASE)) == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert (read_json(join(folder, LEASE)) or {})["beat"] > (first or {})["beat"]


@pytest.mark.usefixtures("quick")
def test_one_that_was_taken_over_stops_and_leaves_the_other_alone(folder: str) -> None:
    began = time.monotonic()
    with pytest.raises(OutputBusyError, match="of ann on node-7"), held(folder, "rerank"):
        there = elsewhere(folder, time.time())
        time.sleep(10)
    assert time.monotonic() - began < 5
    assert lease.Holder(**(read_json(join(folder, LEASE)) or {})) == there


def test_ctrl_c_is_still_ctrl_c(folder: str) -> None:
    with pytest.raises(KeyboardInterrupt), held(folder, "rerank"):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"token": "of another version"}'])
def test_a_lease_that_cannot_be_read_stands_in_no_ones_way(tmp_path: Path, content: bytes) -> None:
    (tmp_path / LEASE).write_bytes(content)
    with held(str(tmp_path), "rerank"):
        pass


def test_of_many_that_start_at_once_one_gets_in(tmp_path: Path) -> None:
    code = f"{HOLD}    sys.stdin.read()"
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, cwd=ROOT, text=True, **pipes) for _ in range(4)]  # type: ignore[call-overload]
    refused: list[subprocess.Popen[str]] = []
    while len(refused) < 3:
        refused = [process for process in processes if process.poll() is not None]
        time.sleep(0.02)
    (winner,) = [process for process in processes if process.poll() is None]
    assert all("another job is at work here" in process.communicate()[1] for process in refused)
    told, _ = winner.communicate("")
    assert (told, winner.returncode) == ("in\n", 0)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"{", b"[]", b"7", b"null", b"{}", b"\xff", b"[" * 10_000, b'{"pid": "1"}', {"pid": -1}, {"pid": 10**30},
     {"pid": "1"}, {"since": 1e300}, {"born": None}, {"beat": "now"}, {"token": 7}],
)  # fmt: skip
def test_a_damaged_lease_counts_as_none(folder: str, damaged: bytes | dict[str, Any]) -> None:
    content = (
        damaged if isinstance(damaged, bytes) else json.dumps(lease._myself("label").model_dump() | damaged).encode()
    )
    write_whole(join(folder, LEASE), content)
    with held(folder, "rerank"):
        assert (read_json(join(folder, LEASE)) or {})["job"] == "rerank"
