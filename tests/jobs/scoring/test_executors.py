"""`executor: inline` writes what Ray's workers write: the same rows, commits and records, and resumes them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.executors import open_executor
from ray_rerank.cluster.steps import Pool, UnitSteps
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.cli.command import execute
from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.marks import on_ray


def table(folder: Path) -> list[dict[str, Any]]:
    return pads.dataset(folder).to_table().sort_by("query_id").to_pylist()


def records(folder: Path) -> dict[str, Any]:
    """What a run notes down, but for times, places and the executor."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".json" and name != "_run/report.json":
            record = json.loads(path.read_text())
            for work in record.get("works", []):
                work.pop("seconds")
            for moment in ("created", "finished", "started"):
                record.pop(moment, None)
            found[name] = record
        elif path.is_file():
            found[name] = None
    return found


def scorer(model: Path, field: str) -> list[str]:
    """On one thread: on several, sums come in another order, and scores differ in their last digits."""
    return [f"--{field}", json.dumps([{"scorer": {"model": str(model), "precision": "fp32"}, "cpus": 1}])]


@on_ray
@pytest.mark.parametrize("job", ["rerank", "label"])
def test_both_executors_write_the_same_rows_and_records(tmp_path: Path, cross_encoder: Path, job: str) -> None:
    content = rows(9, 5)
    content[3]["candidates"][1]["text"] = ""  # a reject
    write_candidates(tmp_path / "in" / "a.parquet", content)
    command = [
        job,
        "--input",
        str(tmp_path / "in"),
        *scorer(cross_encoder, "stages" if job == "rerank" else "teachers"),
    ]
    command += ["--unit-pairs", "15", "--cache", str(tmp_path / "cache")]
    assert execute([*command, "--output", str(tmp_path / "ray")]) == ExitCode.DONE_WITH_ERRORS
    (tmp_path / "cache").rename(tmp_path / "other cache")
    inline = ["--executor", "inline", "--output", str(tmp_path / "inline")]
    assert execute([*command, *inline]) == ExitCode.DONE_WITH_ERRORS
    assert table(tmp_path / "inline") == table(tmp_path / "ray")
    assert records(tmp_path / "inline") == records(tmp_path / "ray")


@on_ray
def test_an_executor_resumes_what_the_other_began(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(9, 5))
    command = ["rerank", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--unit-pairs", "15"]
    command += scorer(cross_encoder, "stages")
    assert execute([*command, "--executor", "inline"]) == ExitCode.DONE
    before = table(tmp_path / "out")
    marker = sorted((tmp_path / "out" / "_run" / "done").iterdir())[0]
    marker.unlink()
    assert execute(command) == ExitCode.DONE
    assert table(tmp_path / "out") == before


def test_an_inline_job_starts_no_ray(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(3, 3))
    command = ["rerank", "--input", "in", "--model", str(cross_encoder), "--output", "out", "--executor", "inline"]
    program = (
        "import sys; from ray_rerank.jobs import execute; code = execute(sys.argv[1:]); "
        "import ray; assert not ray.is_initialized(); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == ExitCode.DONE, done.stderr
    assert pq.ParquetDataset(tmp_path / "out").read().num_rows == 3


def test_inline_takes_no_address(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["rerank", "--input", "in", "--model", "m", "--output", "out", "--executor", "inline"]
    assert execute([*command, "--address", "10.0.0.1:6379"]) == ExitCode.REFUSED
    assert "`address` goes with `executor: ray`" in capsys.readouterr().err


def units(count: int) -> list[Unit]:
    return [Unit(f"{number}-unit", "file", number, number + 1, 1) for number in range(count)]


def read(unit: Unit) -> bytes:
    if unit.start == 1:
        raise ValueError("cannot be read")
    return b"read"


def commit(unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
    if unit.start == 3:
        raise ClusterError("the disk is full")
    if unit.start == 2 and payload is not None:
        raise KeyError("odd")
    return {"unit": unit.name, "payload": payload, "failure": failure}


def test_an_exception_in_a_step_costs_its_unit_and_storage_that_takes_nothing_ends_the_job() -> None:
    with open_executor("inline", None, cpus=1) as executor:
        pools = [Pool(lambda: lambda unit, payload: payload + b" scored", 1)]
        stream = executor.stream(units(4), UnitSteps(read, pools, commit))
        first, second, third = (next(stream) for _ in range(3))
        assert (first["payload"], first["failure"]) == (b"read scored", None)
        assert second["payload"] is None and "ValueError: cannot be read" in second["failure"]
        assert third["payload"] is None and "it could not be committed: KeyError" in third["failure"]
        with pytest.raises(ClusterError, match="a unit could not be committed: the disk is full; what is committed"):
            next(stream)


def test_a_stage_that_cannot_be_loaded_ends_the_job_with_its_reason() -> None:
    def load() -> Any:
        raise ValueError("no such model")

    with open_executor("inline", None, cpus=1) as executor:
        stream = executor.stream(units(1), UnitSteps(read, [Pool(load, 1)], commit))
        with pytest.raises(ClusterError, match="stage 1 cannot be started: ValueError: no such model"):
            next(stream)
