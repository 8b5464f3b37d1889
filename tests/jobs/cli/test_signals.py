"""SIGINT, SIGTERM and SIGHUP at five moments of a job: its exit code, no process left, and the same command goes on."""

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, sentence, write_candidates
from support.models import write_bi_encoder
from support.paths import ROOT

CODES = {signal.SIGINT: ExitCode.INTERRUPTED, signal.SIGTERM: ExitCode.TERMINATED, signal.SIGHUP: ExitCode.HUNG_UP}
MOMENTS = ("imports", "ray starts", "workers load", "half-way", "report")
WITHOUT_RAY = ("imports", "half-way", "report")
JOBS = dict.fromkeys(("rerank", "label", "compare", "mine", "train", "loop"), MOMENTS) | {"alone": WITHOUT_RAY}
PATIENCE_S = 240


@dataclass
class Driver:
    """One run of a job, in a session and a process group of its own; all that it starts carries its mark."""

    folder: Path
    arguments: list[str]

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        self.done_before = len(self.markers())
        self.log = self.folder / f"{self.mark}.log"
        environment = os.environ | {"TRIAL": self.mark, "PYTHONUNBUFFERED": "1"}
        with self.log.open("w") as log:
            command = [sys.executable, "-m", "ray_rerank.jobs", *self.arguments]
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def markers(self) -> list[Path]:
        return [*self.folder.glob("out/**/_run/done/*.json"), *self.folder.glob("out.checkpoints/checkpoint-*")]

    def told(self) -> str:
        return self.log.read_text()

    def names(self) -> list[str]:
        return [" ".join(one.cmdline()) for one in self.alive() if one.pid != self.process.pid]

    def alive(self) -> Iterator[psutil.Process]:
        for process in psutil.process_iter():
            try:
                if process.environ().get("TRIAL") == self.mark:
                    yield process
            except psutil.Error:
                continue

    def wait_for(self, seen: Callable[[], bool]) -> bool:
        """Whether it came to that before the job ended."""
        deadline = time.monotonic() + PATIENCE_S
        while self.process.poll() is None:
            if seen():
                return True
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.01)
        return False

    def end(self) -> int:
        try:
            return self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            raise AssertionError(f"no end\n{self.told()}") from None


def hears(driver: Driver) -> bool:
    """Whether the process has set its handlers; before it does, a signal has its usual effect on Python."""
    caught = Path(f"/proc/{driver.process.pid}/status").read_text().split("SigCgt:")[1].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def seen(driver: Driver, moment: str) -> Callable[[], bool]:
    job = driver.arguments[0]
    report = {"rerank": "report.json", "label": "report.json", "mine": "part-*", "loop": "comparison/comparison.json"}
    report |= {"train": "*.safetensors"}
    deep = "" if job == "mine" else "**/"  # its vectors are parts, too
    found: dict[str, Callable[[], bool]] = {
        "imports": lambda: hears(driver),
        "ray starts": lambda: any("gcs_server" in name for name in driver.names()),
        "workers load": lambda: any("MapBatches" in name or "TrainWorker" in name for name in driver.names()),
        "half-way": lambda: len(driver.markers()) > driver.done_before,
        "report": lambda: (
            "\ntiming " in driver.told() if job == "compare" else any(driver.folder.glob(f"out/{deep}{report[job]}"))
        ),
    }
    return lambda: hears(driver) and found[moment]()


def stop(driver: Driver, number: signal.Signals, moment: str, group: bool) -> bool:
    """Send the signal at that moment, to the job alone or as a terminal and `timeout` do; whether it came to that."""
    arrived = driver.wait_for(seen(driver, moment))
    if arrived:
        if group:
            os.killpg(driver.process.pid, number)
        driver.process.send_signal(number)
    code, told = driver.end(), driver.told()
    assert not [f"{one.pid} {' '.join(one.cmdline())}" for one in driver.alive()], told
    assert "Traceback" not in told and "Fatal Python error" not in told and "Stack trace" not in told, told
    if moment == "report" and code in {ExitCode.DONE, ExitCode.DONE_WITH_ERRORS}:
        return False
    assert arrived, f"{moment}: never came\n{told}"
    assert code == CODES[number], told
    assert told.endswith("stopped; the same command goes on from here\n") or moment == "imports", told
    return True


def inputs(folder: Path, model: Path, job: str) -> list[str]:
    """A job's command line on something small, in many units."""
    (folder / "in").mkdir(parents=True)
    one = {"scorer": {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}}
    if job in {"rerank", "label"}:
        write_candidates(folder / "in" / "0.parquet", rows(120, 10), row_group_size=2)
        given = ["--input", str(folder / "in"), "--stages", json.dumps([one | {"actors": 1}])]
        if job == "label":
            given = ["--input", str(folder / "in"), "--teachers", json.dumps([one["scorer"]])]
        return [job, *given, "--unit-pairs", "20", "--output", str(folder / "out")]
    if job == "compare":
        write_candidates(folder / "in" / "0.parquet", rows(40, 10))
        (folder / "qrels.txt").write_text("".join(f"q{n} 0 d{n}-3 1\n" for n in range(40)))
        scorers = [{"name": name, "scorer": one["scorer"]} for name in ("a", "b", "c", "d")]
        given = ["--candidates", str(folder / "in"), "--qrels", str(folder / "qrels.txt")]
        return [job, *given, "--scorers", json.dumps(scorers), "--output", str(folder / "out")]
    if job in {"train", "alone"}:
        flat = [
            {"query": row["query"], "document": candidate["text"], "label": float(place == 0)}
            for row in rows(60, 4)
            for place, candidate in enumerate(row["candidates"])
        ]
        pq.write_table(pa.Table.from_pylist(flat), folder / "in" / "0.parquet")
        given = ["--input", str(folder / "in"), "--model", str(model), "--threads", "1"]
        given += ["--num-workers", "2"] if job == "train" else []
        more = ["--epochs", "20", "--checkpoint-every", "10", "--max-length", "32", "--batch-size", "8"]
        return ["train", *given, *more, "--output", str(folder / "out")]
    return collection(folder, model, job)


def collection(folder: Path, model: Path, job: str) -> list[str]:
    import random

    draw = random.Random(1)
    texts = [sentence(draw) for _ in range(600)]
    (folder / "passages.tsv").write_text("".join(f"d{n}\t{text} {n}\n" for n, text in enumerate(texts)))
    asked = [" ".join(text.split()[:4]) + f" {n}" for n, text in enumerate(texts[:40])]
    (folder / "queries.tsv").write_text("".join(f"q{n}\t{text}\n" for n, text in enumerate(asked)))
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 d{n} 1\n" for n in range(40)))
    given = ["--passages", str(folder / "passages.tsv"), "--queries", str(folder / "queries.tsv")]
    given += ["--qrels", str(folder / "qrels.txt"), "--output", str(folder / "out")]
    encoder = write_bi_encoder(folder / "encoder")
    scorer = {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}
    if job == "mine":
        sources = [{"kind": "bi-encoder", "encoder": {"model": str(encoder)}, "count": 2}]
        guard = {"scorer": scorer, "at_most": 1.0}
        return [job, *given, "--sources", json.dumps(sources), "--guard", json.dumps(guard)]
    sizes = ["--count", "40", "--negatives", "2", "--depth", "5", "--max-length", "64", "--trainings", "1"]
    return [job, *given, "--teacher", str(model), "--encoder", str(encoder), "--student", "layers=1", *sizes]


def walk(folder: Path, model: Path, job: str, number: signal.Signals, moments: tuple[str, ...]) -> None:
    """One output: stopped at each moment, gone on with after each, and done in the end."""
    arguments = inputs(folder, model, job)
    for place, moment in enumerate(moments):
        if not stop(Driver(folder, arguments), number, moment, group=place % 2 == 0):
            break
    last = Driver(folder, arguments)
    assert last.end() in {ExitCode.DONE, ExitCode.DONE_WITH_ERRORS}, last.told()
    assert not list(last.alive())


def test_a_job_is_stopped_while_ray_starts_and_half_way(tmp_path: Path, cross_encoder: Path) -> None:
    arguments = inputs(tmp_path, cross_encoder, "rerank")
    assert stop(Driver(tmp_path, arguments), signal.SIGTERM, "ray starts", group=True)
    assert stop(Driver(tmp_path, arguments), signal.SIGHUP, "half-way", group=False)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", list(CODES), ids=lambda number: number.name)
@pytest.mark.parametrize("job", JOBS)
def test_a_job_that_is_stopped_leaves_nothing_and_goes_on(
    tmp_path: Path, cross_encoder: Path, job: str, number: signal.Signals
) -> None:
    walk(tmp_path, cross_encoder, job, number, JOBS[job])
