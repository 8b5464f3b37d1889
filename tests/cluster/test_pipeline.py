"""Each unit goes through every stage once, with its own payload, however Ray cuts and bundles blocks."""

import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ray_rerank.cluster.attempts import Limits
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.pipeline import stream
from ray_rerank.cluster.steps import Pool, UnitSteps
from ray_rerank.cluster.units import Unit

pytestmark = pytest.mark.usefixtures("ray_here")


@pytest.fixture(autouse=True)
def _workers_cannot_import_this_file() -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])


def units(count: int) -> list[Unit]:
    return [Unit(f"{number:06d}-x", f"file-{number}", number, number + 1, number) for number in range(count)]


def read(unit: Unit) -> bytes:
    """Payloads of very different sizes, so that blocks would be split and bundled differently."""
    if unit.start == 7:
        raise OSError("the file is torn")
    return unit.name.encode() * (1 + (unit.start % 5) * 20_000)


def load() -> Callable[[Unit, bytes], bytes]:
    def step(unit: Unit, payload: bytes) -> bytes:
        assert payload.startswith(unit.name.encode())
        if unit.start == 11:
            raise ValueError("the model said no")
        return payload + b"|stage"

    return step


def commit(unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
    stages = payload.count(b"|stage") if payload else 0
    size = len(payload) - stages * 6 if payload else 0
    return {"unit": unit.name, "stages": stages, "size": size, "failure": failure}


def test_every_unit_is_committed_once_and_a_fault_is_its_own() -> None:
    asked = units(40)
    said = {told["unit"]: told for told in stream(asked, UnitSteps(read, [Pool(load, 2), Pool(load, 1)], commit))}
    assert sorted(said) == [unit.name for unit in asked]
    for unit in asked:
        told = said[unit.name]
        if unit.start == 7:
            assert "the file is torn" in told["failure"]
        elif unit.start == 11:
            assert "the model said no" in told["failure"]
        else:
            assert told == {
                "unit": unit.name,
                "stages": 2,
                "size": len(unit.name) * (1 + (unit.start % 5) * 20_000),
                "failure": None,
            }


def test_a_stage_that_cannot_be_loaded_stops_the_run_with_its_reason() -> None:
    def refuse() -> Callable[[Unit, bytes], bytes]:
        raise ValueError("no such weights")

    with pytest.raises(ClusterError, match="no such weights"):
        list(stream(units(2), UnitSteps(read, [Pool(refuse, 1)], commit)))


def die_once(marker: Path) -> Callable[[], Callable[[Unit, bytes], bytes]]:
    """A stage whose process is killed on its first unit."""

    def load_deadly() -> Callable[[Unit, bytes], bytes]:
        def step(unit: Unit, payload: bytes) -> bytes:
            if not marker.exists():
                marker.touch()
                import os
                import signal

                os.kill(os.getpid(), signal.SIGKILL)
            return payload + b"|stage"

        return step

    return load_deadly


def test_the_unit_of_a_worker_that_died_is_done_by_another(tmp_path: Path) -> None:
    said = [told["unit"] for told in stream(units(5), UnitSteps(read, [Pool(die_once(tmp_path / "died"), 1)], commit))]
    assert (tmp_path / "died").exists()
    assert sorted(said) == [unit.name for unit in units(5)]


def load_poisoned() -> Callable[[Unit, bytes], bytes]:
    def step(unit: Unit, payload: bytes) -> bytes:
        if unit.start == 3:
            import os

            os._exit(7)
        return payload + b"|stage"

    return step


def test_a_unit_that_kills_every_worker_is_left_out_and_the_others_are_done() -> None:
    said = {told["unit"]: told for told in stream(units(12), UnitSteps(read, [Pool(load_poisoned, 2)], commit))}
    assert sorted(said) == [unit.name for unit in units(12)]
    for unit in units(12):
        if unit.start == 3:
            assert said[unit.name]["failure"] == "left out: 3 workers died while scoring it in stage 1"
        elif unit.start not in {7}:
            assert said[unit.name]["failure"] is None and said[unit.name]["stages"] == 1


def ending(how: str, once: Path | None = None) -> Callable[[], None]:
    """What ends a worker, or keeps it for ever, or raises; with a file to leave, only the first time."""

    def end() -> None:
        import time

        if once is not None:
            if once.exists():
                return
            once.touch()
        if how == "dies":
            os._exit(7)
        if how == "stands still":
            time.sleep(3600)
        if how == "is stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        raise ValueError("it said no")

    return end


slow = pytest.mark.slow
QUICK = Limits(attempts=2, read=4, load=60, batch=4, commit=4)
WAYS = {
    "dies": "2 workers died",
    "stands still": "2 workers did not go on for 4 s",
    "is stopped": "2 workers did not go on for 4 s",
    "raises": "ValueError: it said no (",
}


@pytest.mark.parametrize(
    ("step", "how"),
    [
        ("reading", "dies"),
        ("committing", "raises"),
        pytest.param("reading", "stands still", marks=slow),
        pytest.param("reading", "raises", marks=slow),
        pytest.param("scoring", "dies", marks=slow),
        ("scoring", "stands still"),
        pytest.param("scoring", "raises", marks=slow),
        pytest.param("scoring", "is stopped", marks=slow),
        pytest.param("committing", "is stopped", marks=slow),
        pytest.param("committing", "dies", marks=slow),
        pytest.param("committing", "stands still", marks=slow),
    ],
)
def test_a_step_that_fails_is_tried_a_few_times_and_costs_its_unit(step: str, how: str) -> None:
    end = ending(how)

    def read_it(unit: Unit) -> bytes:
        if step == "reading" and unit.start == 1:
            end()
        return b"payload"

    def load_it() -> Callable[[Unit, bytes], bytes]:
        def score(unit: Unit, payload: bytes) -> bytes:
            if step == "scoring" and unit.start == 1:
                end()
            return payload + b"|stage"

        return score

    def commit_it(unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if step == "committing" and unit.start == 1 and failure is None:
            end()
        return commit(unit, payload, failure)

    said = {
        told["unit"]: told for told in stream(units(4), UnitSteps(read_it, [Pool(load_it, 1)], commit_it), limits=QUICK)
    }
    assert sorted(said) == [unit.name for unit in units(4)]
    for unit in units(4):
        if unit.start == 1:
            assert WAYS[how] in said[unit.name]["failure"]
            assert how == "raises" or step in said[unit.name]["failure"]
        else:
            assert said[unit.name]["failure"] is None and said[unit.name]["stages"] == 1


@pytest.mark.parametrize("how", ["dies", pytest.param("stands still", marks=slow), pytest.param("raises", marks=slow)])
def test_a_unit_that_cannot_even_be_said_to_have_failed_ends_the_job(how: str) -> None:
    end = ending(how)

    def commit_it(unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if unit.start == 1:
            end()
        return commit(unit, payload, failure)

    message = WAYS[how].replace("2 workers", "4 workers")
    with pytest.raises(ClusterError, match=f"a unit could not be committed: .*{re.escape(message)}"):
        list(stream(units(3), UnitSteps(read, [], commit_it), limits=QUICK))


@pytest.mark.parametrize("how", ["dies", pytest.param("stands still", marks=slow), pytest.param("raises", marks=slow)])
def test_a_stage_of_which_no_actor_can_be_started_ends_the_job(how: str) -> None:
    end = ending(how)

    def load_it() -> Callable[[Unit, bytes], bytes]:
        end()
        return lambda unit, payload: payload

    limits = QUICK.model_copy(update={"load": 4})
    with pytest.raises(ClusterError, match=f"stage 1 cannot be started: {re.escape(WAYS[how])}"):
        list(stream(units(3), UnitSteps(read, [Pool(load_it, 2)], commit), limits=limits))


@pytest.mark.parametrize("how", ["dies", pytest.param("stands still", marks=slow), pytest.param("raises", marks=slow)])
def test_an_actor_that_cannot_be_started_once_is_started_again(how: str, tmp_path: Path) -> None:
    end = ending(how, once=tmp_path / "ended")

    def load_it() -> Callable[[Unit, bytes], bytes]:
        end()
        return load()

    limits = QUICK.model_copy(update={"load": 4})
    said = list(stream(units(5), UnitSteps(read, [Pool(load_it, 2)], commit), limits=limits))
    assert (tmp_path / "ended").exists()
    assert sorted(told["unit"] for told in said) == [unit.name for unit in units(5)]
    assert not any(told["failure"] for told in said)


def test_a_long_unit_that_shows_signs_of_life_is_waited_for() -> None:
    def load_it() -> Callable[[Unit, bytes], bytes]:
        def score(unit: Unit, payload: bytes) -> bytes:
            import time

            from ray_rerank.cluster.attempts import alive

            for _ in range(5):
                time.sleep(1)
                alive()
            return payload + b"|stage"

        return score

    limits = QUICK.model_copy(update={"batch": 2})
    (said,) = stream(units(1), UnitSteps(read, [Pool(load_it, 1)], commit), limits=limits)
    assert said["failure"] is None and said["stages"] == 1


@slow
def test_a_step_that_keeps_python_from_going_on_ends_too() -> None:
    """As native code does that waits with the interpreter's lock held."""

    def load_it() -> Callable[[Unit, bytes], bytes]:
        from ray_rerank.cluster import attempts

        attempts._GRACE_S = 1.0

        def score(unit: Unit, payload: bytes) -> bytes:
            if unit.start == 1:
                import ctypes

                ctypes.PyDLL(None).sleep(3600)
            return payload + b"|stage"

        return score

    limits = QUICK.model_copy(update={"batch": 2})
    said = {told["unit"]: told for told in stream(units(3), UnitSteps(read, [Pool(load_it, 1)], commit), limits=limits)}
    assert "2 workers died while scoring it in stage 1" in said[units(3)[1].name]["failure"]
