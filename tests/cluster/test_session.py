"""Ray on this machine is started again where it did not come up in time; anything else is told at once."""

import os
import shutil
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ray_rerank.cluster import ray_folder, session
from ray_rerank.cluster.address import Address
from ray_rerank.cluster.errors import ClusterError

SLOW = "The current node timed out during startup."


def attempts(monkeypatch: pytest.MonkeyPatch, *faults: str) -> list[str]:
    """How often Ray was started, of which the first fail so."""
    tried: list[str] = []

    def connect(*_: Any) -> None:
        tried.append(faults[len(tried)] if len(tried) < len(faults) else "")
        if tried[-1]:
            raise Exception(tried[-1])

    monkeypatch.setattr(session, "_connect", connect)
    monkeypatch.setattr(session, "check_alive", lambda _: None)
    return tried


def connect(given: str | None) -> None:
    here = SimpleNamespace(gcs_address="nowhere:0")
    ray = SimpleNamespace(__file__="/nowhere/ray/__init__.py", shutdown=lambda: None, get_runtime_context=lambda: here)
    with session._connection(ray, Address.of(given), 1):
        pass


def test_a_start_that_took_too_long_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = attempts(monkeypatch, SLOW)
    connect("local")
    assert tried == [SLOW, ""]


@pytest.mark.parametrize(("faults", "count"), [((SLOW, SLOW, SLOW), 2), (("no space left",), 1)])
def test_what_does_not_pass_is_told(monkeypatch: pytest.MonkeyPatch, faults: tuple[str, ...], count: int) -> None:
    tried = attempts(monkeypatch, *faults)
    with pytest.raises(ClusterError, match=f"did not start on this machine: {faults[0]}"):
        connect("local")
    assert len(tried) == count


def test_a_cluster_elsewhere_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = attempts(monkeypatch, SLOW)
    with pytest.raises(ClusterError, match=r"head:6379 \(from --address\) cannot be reached"):
        connect("head:6379")
    assert len(tried) == 1


def test_a_port_that_never_answers_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(session, "_connect", lambda *_: ended.wait(60))
    monkeypatch.setattr(session, "check_alive", lambda _: None)
    monkeypatch.setattr(session, "_CONNECT_S", 0.1)
    try:
        with pytest.raises(
            ClusterError, match=r"head:6379 \(from --address\) cannot be reached: timed out: no answer in 0.1 s"
        ):
            connect("head:6379")
    finally:
        ended.set()


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sessions that connect to nothing, and write into the environment as Ray does."""

    @contextmanager
    def connection(*_: Any) -> Iterator[None]:
        os.environ.update({"PYTHONPATH": "rays", "RAY_AUTH_MODE": "token", "RAY_NEW": "1", "OTHER": "kept"})
        yield

    monkeypatch.setattr(session, "_connection", connection)
    monkeypatch.setattr(session, "_resources", lambda _: {})
    monkeypatch.setattr("ray.is_initialized", lambda: False)


@pytest.mark.parametrize("path", [None, "mine"])
def test_the_environment_is_left_as_it_was(no_ray: None, monkeypatch: pytest.MonkeyPatch, path: str | None) -> None:
    monkeypatch.setenv("RAY_DATA_DISABLE_PROGRESS_BARS", "0")
    monkeypatch.setenv("OTHER", "")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path:
        monkeypatch.setenv("PYTHONPATH", path)
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), session.session(cpus=1):
        assert os.environ["RAY_NEW"] == "1" and os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] == "0"
        raise ZeroDivisionError
    assert dict(os.environ) == before | {"OTHER": "kept"}


def test_a_second_thread_is_refused_and_a_session_within_one_is_not(no_ray: None) -> None:
    told: list[str] = []

    def other() -> None:
        try:
            with session.session(cpus=1):
                told.append("two at once")
        except ClusterError as error:
            told.append(str(error))

    with session.session(cpus=1), session.session(cpus=1):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    other()
    assert told[0].startswith("another job of this process is using Ray") and told[1] == "two at once"


@pytest.mark.parametrize(("most", "refused"), [(64, True), (1023, True), (1024, False), (-1, False)])
def test_too_few_open_files_are_refused(monkeypatch: pytest.MonkeyPatch, most: int, refused: bool) -> None:
    attempts(monkeypatch)
    monkeypatch.setattr("resource.getrlimit", lambda _: (most, most))
    if refused:
        with pytest.raises(ClusterError, match=rf"{most} files open here, .*`ulimit -n 4096`"):
            connect("local")
    else:
        connect("local")


def test_a_folder_that_ray_cannot_use_is_stood_in_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_TMPDIR", raising=False)
    short, long = Path(f"/tmp/{uuid.uuid4().hex[:8]}"), tmp_path / ("long" * 20)
    try:
        for folder in (short, long):
            monkeypatch.setenv("TMPDIR", str(folder))
            told = ray_folder.ray_folder()
            if folder == short:
                assert told == {}
            else:
                assert Path(told["_temp_dir"]).parent == Path("/tmp") and told["object_spilling_directory"] == str(long)
        (short / "ray").rmdir()
        (short / "ray").touch()
        monkeypatch.setenv("TMPDIR", str(short))
        assert ray_folder.ray_folder()["_temp_dir"] == str(short / f"ray-{os.getuid()}")
    finally:
        shutil.rmtree(short)


def test_where_no_folder_will_do_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_folder, "_unwritable", lambda _: "cannot be written")
    with pytest.raises(ClusterError, match=r"/tmp/ray cannot be written; .* Set RAY_TMPDIR to a folder of at most 37"):
        ray_folder.ray_folder()
