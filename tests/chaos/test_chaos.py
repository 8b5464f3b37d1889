"""Whatever is killed, filled up or torn: the rows of an undisturbed run, each once.

The short form runs with the test suite; `make chaos` (CHAOS=long) is the long one: more seeds, all cases, with a
cross-encoder, where the short one has scores that take no model. Seeds are fixed and printed with a failure as part of
the test's name.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from chaos.books import Books, Rows
from chaos.failing_scorers import CHECKSUM, POISON, FailingConfig
from chaos.failing_steps import SAID, STEPS, VARIABLE, fault

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.paths import ROOT

HERE = Path(__file__).resolve().parent
LONG = os.environ.get("CHAOS") == "long"
UNITS = 24

pytestmark = [pytest.mark.timeout(1200)]
long_form = pytest.mark.skipif(not LONG, reason="in the long form: `make chaos`")


class Bench:
    """One input, what must come out of it, and the job that is to be disturbed."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self.expected: Rows = {}
        for number in range(4):
            content = [row | {"query_id": f"{number}-{row['query_id']}"} for row in rows(UNITS // 2, 5, number)]
            write_candidates(folder / "in" / f"{number}.parquet", content, row_group_size=2)
            self.expect(content)

    def expect(self, content: list[dict[str, Any]]) -> None:
        scorer = FailingConfig(model=self.model, precision="fp32").load()
        for row in content:
            scores = scorer.score([(row["query"], candidate["text"]) for candidate in row["candidates"]])
            for candidate, score in zip(row["candidates"], scores, strict=True):
                self.expected[row["query_id"], candidate["doc_id"]] = float(score)

    def command(self, output: Path, *more: str, actors: int = 2 if LONG else 1, **failings: Any) -> list[str]:
        scorer = {"kind": "failing", "model": self.model, "precision": "fp32", **failings}
        stages = json.dumps([{"scorer": scorer, "actors": actors}])
        job = ["rerank", "--input", str(self.folder / "in"), "--output", str(output), "--stages", stages]
        return [sys.executable, str(HERE / "job.py"), *job, "--unit-pairs", "10", *more]

    def start(self, arguments: list[str], fault: str | None = None) -> "subprocess.Popen[str]":
        """A driver in a process group of its own, so that its Ray can die with it as on a lost machine."""
        path = str(ROOT / "tests")
        environment = os.environ | {"PYTHONPATH": path} | ({VARIABLE: fault} if fault else {})
        return subprocess.Popen(
            arguments, cwd=ROOT, env=environment, start_new_session=True, stderr=subprocess.PIPE, text=True
        )

    def finish(self, arguments: list[str], code: int = ExitCode.DONE) -> str:
        """Run to the end; what it wrote to stderr."""
        process = self.start(arguments)
        _, told = process.communicate(timeout=600)
        assert process.returncode == code, told
        assert "Traceback" not in told
        return told


@pytest.fixture(scope="module")
def books(request: pytest.FixtureRequest) -> Iterator[Books]:
    """Prints the table at the end; one of several test processes (pytest-xdist) has no terminal."""
    kept = Books()
    yield kept
    plugins = request.config.pluginmanager
    if terminal := plugins.get_plugin("terminalreporter"):
        with plugins.get_plugin("capturemanager").global_and_fixture_disabled():
            for line in ["", *kept.lines_of_text()]:
                terminal.write_line(line)


@pytest.fixture(scope="module")
def model(cross_encoder: Path) -> str:
    return str(cross_encoder) if LONG else CHECKSUM


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory, model: str) -> Bench:
    return Bench(tmp_path_factory.mktemp("chaos"), model)


def markers(output: Path) -> int:
    return len(list((output / "_run" / "done").glob("*.json")))


def wait_for(output: Path, units: int, process: "subprocess.Popen[str]") -> None:
    """Until so many units are done, or the process has ended."""
    deadline = time.monotonic() + 300
    while markers(output) < units and process.poll() is None:
        assert time.monotonic() < deadline, f"{markers(output)} of {units} units are done after 300 s"
        time.sleep(0.01)


def workers(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The scoring actors of a driver's own Ray; right after a kill, as soon as one is there again."""
    found: list[psutil.Process] = []
    deadline = time.monotonic() + 120
    while not found and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(process.pid).children(recursive=True)
            found = [one for one in below if "_Stage" in " ".join(one.cmdline()) or "_Stage" in one.name()]
    return found


def kill_group(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    _, told = process.communicate()
    assert process.returncode in {-signal.SIGKILL, ExitCode.DONE}, told


@pytest.mark.parametrize("seed", range(20 if LONG else 1))
def test_the_driver_killed_at_a_random_moment(bench: Bench, books: Books, tmp_path: Path, seed: int) -> None:
    """Anywhere from the first import to the last commit; in the long form once more while it goes on."""
    draw = random.Random(seed)
    output = tmp_path / "out"
    for _ in range(2 if LONG else 1):
        process = bench.start(bench.command(output, seconds=0.1))
        wait_for(output, markers(output) + draw.randint(0, UNITS // 3), process)
        time.sleep(draw.random() * (3 if LONG else 0.5))
        kill_group(process)
    bench.finish(bench.command(output))
    books.enter("driver killed", bench.expected, output)


@pytest.mark.parametrize("seed", range(5 if LONG else 1))
def test_actors_killed_in_mid_unit(bench: Bench, books: Books, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    output = tmp_path / "out"
    process = bench.start(bench.command(output, actors=2, seconds=0.3))
    for number in (2, 8, 14) if LONG else (8,):
        wait_for(output, number, process)
        found = workers(process)
        assert found or process.poll() is not None, "no actor was found to kill"
        if found:
            with suppress(psutil.NoSuchProcess):
                draw.choice(found).kill()
    _, told = process.communicate(timeout=600)
    assert process.returncode == ExitCode.DONE, told
    books.enter("actor killed", bench.expected, output)


@pytest.fixture(scope="module")
def finished(bench: Bench, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output of a job whose worker exited once."""
    folder = tmp_path_factory.mktemp("finished")
    bench.finish(bench.command(folder / "out", exits_once=str(folder / "exited")))
    assert (folder / "exited").exists()
    return folder / "out"


def test_the_worker_process_exits_in_model_code(bench: Bench, books: Books, finished: Path) -> None:
    books.enter("worker exits in model code", bench.expected, finished)


def test_a_poison_unit_is_left_out_and_the_others_are_done(
    bench: Bench, books: Books, tmp_path: Path, model: str
) -> None:
    content = rows(10, 5, seed=5)
    content[4]["candidates"][2]["text"] += f" {POISON}"
    poisoned = Bench(tmp_path, model)
    poisoned.expected.clear()
    for path in (tmp_path / "in").glob("*.parquet"):
        path.unlink()
    write_candidates(tmp_path / "in" / "a.parquet", content, row_group_size=2)
    poisoned.expect(content)
    output = tmp_path / "out"
    poisoned.finish(poisoned.command(output, poison=True), code=ExitCode.DONE_WITH_ERRORS)
    (failure,) = [json.loads(path.read_text()) for path in (output / "_run" / "failed").glob("*.json")]
    assert "3 workers died" in failure["reason"]
    assert failure["start"] <= 4 < failure["stop"]
    books.enter("poison unit", poisoned.expected, output, left_out=(failure["stop"] - failure["start"]) * 5)
    if LONG:
        poisoned.finish(poisoned.command(output))  # the cause is mended: the same command does what was left
        books.enter("poison unit, mended", poisoned.expected, output)


@long_form
def test_batches_that_do_not_fit_are_halved_and_stay_so(bench: Bench, books: Books, tmp_path: Path) -> None:
    output = tmp_path / "out"
    bench.finish(bench.command(output, actors=1, memory=150))
    books.enter("out of memory above 150 tokens", bench.expected, output)
    (work,) = json.loads((output / "_run" / "report.json").read_text())["stages"]
    assert 0 < work["halvings"] < 10, "the size that fits was not remembered"


def test_a_truncated_part_and_a_torn_marker_are_done_again(
    bench: Bench, books: Books, finished: Path, tmp_path: Path
) -> None:
    output = Path(shutil.copytree(finished, tmp_path / "out"))
    parts = sorted(output.glob("part-*.parquet"))
    parts[0].write_bytes(parts[0].read_bytes()[:-30])
    parts[1].unlink()
    marker = sorted((output / "_run" / "done").glob("*.json"))[5]
    marker.write_text(marker.read_text()[:25])
    (output / "_run" / "done" / ".something.tmp").write_text("half")
    bench.finish(bench.command(output))
    books.enter("truncated output, torn marker", bench.expected, output)


@long_form
def test_two_drivers_on_one_output(bench: Bench, books: Books, tmp_path: Path) -> None:
    output = tmp_path / "out"
    both = [bench.start(bench.command(output, seconds=0.05, actors=1)) for _ in range(2)]
    said = [process.communicate(timeout=600)[1] for process in both]
    told = dict(zip((process.returncode for process in both), said, strict=True))
    assert set(told) == {ExitCode.DONE, ExitCode.REFUSED}, told
    assert "another job is at work here" in told[ExitCode.REFUSED]
    books.enter("two drivers on one output", bench.expected, output)


@long_form
def test_the_disk_full_at_commit(bench: Bench, books: Books, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        process = bench.start(bench.command(disk / "out"))
        _, told = process.communicate(timeout=600)
        assert process.returncode not in {ExitCode.DONE, ExitCode.FAILED} and "Traceback" not in told
        assert "No space left" in told or "No space left" in str(
            [path.read_text() for path in (disk / "out" / "_run" / "failed").glob("*.json")]
        )
        done = markers(disk / "out")
        assert 0 < done < UNITS
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        bench.finish(bench.command(disk / "out"))
        books.enter("disk full at commit", bench.expected, disk / "out")
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


@long_form
def test_a_node_removed_and_another_added(bench: Bench, books: Books, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    output = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        lost = cluster.add_node(num_cpus=1)
        process = bench.start(bench.command(output, "--address", cluster.address, seconds=0.3))
        wait_for(output, 4, process)
        cluster.remove_node(lost, allow_graceful=False)
        time.sleep(2)
        cluster.add_node(num_cpus=1)
        _, told = process.communicate(timeout=900)
        assert process.returncode == ExitCode.DONE, told
        books.enter("a node removed, another added", bench.expected, output)
    finally:
        cluster.shutdown()


@long_form
def test_the_head_lost_in_mid_run(bench: Bench, books: Books, tmp_path: Path) -> None:
    from ray.cluster_utils import Cluster

    output = tmp_path / "out"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        process = bench.start(bench.command(output, "--address", cluster.address, actors=1, seconds=2.0))
        wait_for(output, 2, process)
        cluster.head_node.kill_gcs_server()
        _, told = process.communicate(timeout=120)
        assert process.returncode == ExitCode.REFUSED, told
        assert "does not answer any more" in told and "Traceback" not in told
        assert 0 < markers(output) < UNITS
    finally:
        cluster.shutdown()
    bench.finish(bench.command(output))
    books.enter("the head lost", bench.expected, output)


WAYS = {"dies": "2 workers died", "stands still": "2 workers did not go on for 5 s", "raises": SAID}
QUICK = json.dumps({"attempts": 2, "read": 5, "load": 30, "batch": 5, "commit": 5})
IN_THE_SHORT_FORM = {("marker", "dies")}


def each_step_each_way() -> list[Any]:
    """All but what no worker does: the report is written by the driver, whom nobody waits for."""
    return [
        pytest.param(step, how, marks=[] if (step, how) in IN_THE_SHORT_FORM else long_form)
        for step in STEPS
        for how in WAYS
        if (step, how) != ("report", "stands still")
    ]


@pytest.mark.parametrize(("step", "how"), each_step_each_way())
def test_a_step_that_always_fails_costs_its_unit_and_the_same_command_does_it_once_it_is_mended(
    bench: Bench, books: Books, cross_encoder: Path, tmp_path: Path, step: str, how: str
) -> None:
    real = Bench(tmp_path, str(cross_encoder)) if step in {"tokenise", "forward"} else bench
    output = tmp_path / "out"
    command = real.command(output, "--limits", QUICK, actors=1)
    process = real.start(command, fault(step, how, unit=3))
    _, told = process.communicate(timeout=600)
    reasons = told + "".join(path.read_text() for path in (output / "_run" / "failed").glob("*.json"))
    reasons += "".join(str(row["reason"]) for row in errors(output))
    lost = sum(row["candidates"] for row in errors(output))
    if step == "report":
        assert process.returncode == 1, told
    elif step == "start":
        assert process.returncode == ExitCode.REFUSED, told
        assert WAYS[how].replace("5 s", "30 s") in told and "stage 1 cannot be started" in told
    else:
        assert process.returncode == ExitCode.DONE_WITH_ERRORS, told
        assert WAYS[how] in reasons
        assert markers(output) == UNITS - (0 if lost else 1)
    real.finish(command, code=ExitCode.DONE_WITH_ERRORS if lost else ExitCode.DONE)
    books.enter(f"{step} {how}", real.expected, output, left_out=lost)


@pytest.mark.parametrize(
    ("step", "how"), [pytest.param(*p.values, marks=long_form) for p in each_step_each_way() if p.values[0] != "report"]
)
def test_a_step_that_fails_once_loses_nothing_but_what_raised(
    bench: Bench, books: Books, cross_encoder: Path, tmp_path: Path, step: str, how: str
) -> None:
    real = Bench(tmp_path, str(cross_encoder)) if step in {"tokenise", "forward"} else bench
    output = tmp_path / "out"
    command = real.command(output, "--limits", QUICK)
    process = real.start(command, fault(step, how, unit=3, once=tmp_path / "failed"))
    _, told = process.communicate(timeout=600)
    assert (tmp_path / "failed").exists() and "Traceback" not in told
    costs = how == "raises" and step in {"read", "commit", "marker"}
    assert process.returncode == (ExitCode.DONE_WITH_ERRORS if costs else ExitCode.DONE), told
    real.finish(command)
    books.enter(f"{step} {how} once", real.expected, output)


def errors(output: Path) -> list[dict[str, Any]]:
    """What the error tables say."""
    return [row for path in (output / "_errors").glob("*.parquet") for row in pq.read_table(path).to_pylist()]
