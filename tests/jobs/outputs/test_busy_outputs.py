"""Every job that writes a folder is refused where another is at work, and told who; what was killed is taken over."""

from collections.abc import Callable
from pathlib import Path

import pytest

from ray_rerank.cluster.lease import LEASE, held
from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here
from support.paths import STARTER

COLLECTION = ["--passages", str(STARTER / "passages.tsv"), "--queries", str(STARTER / "queries.tsv")]
QRELS = ["--qrels", str(STARTER / "qrels.txt")]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> Path:
    """Candidates, and their labels with a cache, below one folder."""
    from support.command import without_ray

    folder = tmp_path_factory.mktemp("busy")
    write_candidates(folder / "candidates" / "a.parquet", rows(8, 4))
    (folder / "qrels.txt").write_text("".join(f"q{number} 0 d{number}-0 1\n" for number in range(8)))
    given = ["--input", str(folder / "candidates"), "--output", str(folder / "labels")]
    with without_ray():
        assert execute(["label", *given, "--model", str(cross_encoder), "--cache", str(folder / "cache")]) == 0
    return folder


JOBS: dict[str, Callable[[Path, str], list[str]]] = {
    "prepare": lambda _, model: [*COLLECTION, "--bm25", "3"],
    "rerank": lambda at, model: ["--input", f"{at}/candidates", "--model", model],
    "label": lambda at, model: ["--input", f"{at}/candidates", "--model", model],
    "export": lambda at, model: ["--input", f"{at}/labels", "--format", "mse"],
    "compare": lambda at, model: [
        "--candidates", f"{at}/candidates", "--qrels", f"{at}/qrels.txt", "--models", model, "--no-timing"
    ],
    "cache export": lambda at, model: [f"{at}/cache"],
    "mine": lambda _, model: [*COLLECTION, *QRELS, "--source", "random"],
    "train": lambda at, model: ["--input", f"{at}/labels", "--model", model, "--epochs", "0.1"],
    "loop": lambda _, model: [*COLLECTION, *QRELS, "--teacher", model, "--student", "layers=1", "--no-timing"],
}  # fmt: skip


@here
@pytest.mark.parametrize("job", JOBS)
def test_a_second_job_on_an_output_is_refused_with_who_is_there(
    labels: Path, cross_encoder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], job: str
) -> None:
    output = tmp_path / "out"
    command = [*job.split(), *JOBS[job](labels, str(cross_encoder)), "--output", str(output)]
    with held(str(output), "rerank"):
        assert execute(command) == ExitCode.REFUSED
    assert f"{output}: another job is at work here: `ray-rerank rerank` of " in capfd.readouterr().err
    if job != "loop":  # which takes a while
        (output / LEASE).write_text('{"token": "left by one that was killed"}')
        assert execute(command) in {ExitCode.DONE, ExitCode.DONE_WITH_ERRORS}, capfd.readouterr().err
        assert not (output / LEASE).exists()
