"""Each unit goes through every stage once, with its own payload, however Ray cuts and bundles blocks."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cluster.errors import ClusterError
from cluster.pipeline import Pool, stream
from cluster.units import Unit

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
    said = {told["unit"]: told for told in stream(asked, read, [Pool(load, 2), Pool(load, 1)], commit)}
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
        list(stream(units(2), read, [Pool(refuse, 1)], commit))


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
    said = [told["unit"] for told in stream(units(5), read, [Pool(die_once(tmp_path / "died"), 1)], commit)]
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
    said = {told["unit"]: told for told in stream(units(12), read, [Pool(load_poisoned, 2)], commit)}
    assert sorted(said) == [unit.name for unit in units(12)]
    for unit in units(12):
        if unit.start == 3:
            assert said[unit.name]["failure"] == "left out: 3 workers died while they scored it in stage 1"
        elif unit.start not in {7}:
            assert said[unit.name]["failure"] is None and said[unit.name]["stages"] == 1
