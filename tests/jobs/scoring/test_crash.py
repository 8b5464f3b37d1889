"""`kill -9` of the driver at any moment, then the same command: the rows of an uninterrupted run, once each.

The run that is killed fills a score cache and goes on with it; the other has none: the same bits all the same.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest

from support.candidates import rows, write_candidates
from support.paths import ROOT


def command(tmp_path: Path, output: Path, model: Path) -> list[str]:
    stages = '[{"scorer": {"model": "%s", "precision": "fp32"}, "actors": 1}]' % model  # noqa: UP031
    job = ["rerank", "--input", str(tmp_path / "in"), "--output", str(output), "--stages", stages]
    return [sys.executable, "-m", "ray_rerank.jobs", *job, "--unit-pairs", "60"]


def start(arguments: list[str]) -> "subprocess.Popen[bytes]":
    """A driver in a process group of its own, so that Ray's processes die with it as on a lost machine."""
    return subprocess.Popen(arguments, cwd=ROOT, start_new_session=True)


def kill(process: "subprocess.Popen[bytes]") -> None:
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def table(output: Path) -> list[dict[str, Any]]:
    found = pads.dataset(str(output)).to_table().to_pylist()
    return sorted(found, key=lambda row: str(row["query_id"]))


def markers(output: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (output / "_run" / "done").glob("*.json")}


@pytest.mark.slow  # in the suite, tests/chaos kills a driver
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_killed_run_goes_on_to_the_rows_of_an_uninterrupted_one(
    tmp_path: Path, cross_encoder: Path, seed: int
) -> None:
    for number in range(4):
        content = [row | {"query_id": f"{number}-{row['query_id']}"} for row in rows(30, 20, number)]
        write_candidates(tmp_path / "in" / f"{number}.parquet", content, row_group_size=3)
    whole, torn = tmp_path / "whole", tmp_path / "torn"
    subprocess.run(command(tmp_path, whole, cross_encoder), cwd=ROOT, check=True)

    draw = random.Random(seed)
    cached = [*command(tmp_path, torn, cross_encoder), "--cache", str(tmp_path / "cache")]
    process = start(cached)
    wanted = draw.randint(1, 30)
    deadline = time.monotonic() + 180
    while len(markers(torn)) < wanted and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    kill(process)
    before = markers(torn)
    assert 0 < len(before) < 40, f"killed too early or too late to prove anything: {len(before)} of 40 units"

    subprocess.run(cached, cwd=ROOT, check=True)
    assert table(torn) == table(whole)
    after = markers(torn)
    assert len(after) == 40
    assert {name: after[name] for name in before} == before, "a finished unit was done again"
