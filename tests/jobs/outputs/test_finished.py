"""Jobs that read what a run writes: half of it is refused by all of them, and what it left out is told."""

import shutil
from pathlib import Path

import pytest
from hypothesis import strategies as st

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute, without_ray
from support.trial import fuzz, try_command


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> Path:
    """Labels of three units, of which the first left a candidate out."""
    top = tmp_path_factory.mktemp("labels")
    content = rows(3, 4)
    content[0]["candidates"][0]["text"] = ""
    write_candidates(top / "in" / "a.parquet", content, row_group_size=1)
    (top / "qrels.txt").write_text("q0 0 d0-1 1\nq1 0 d1-1 1\nq2 0 d2-1 1\n")
    given = ["--input", str(top / "in"), "--output", str(top / "labels"), "--model", str(cross_encoder)]
    with without_ray():
        assert execute(["label", *given, "--unit-pairs", "4"]) == ExitCode.DONE_WITH_ERRORS
    return top


READERS = {
    "export": ["--input", "{labels}", "--output", "{out}", "--format", "mse"],
    "train": ["--input", "{labels}", "--output", "{out}", "--model", "{model}", "--epochs", "0.1"],
    "rerank": ["--input", "{labels}", "--output", "{out}", "--model", "{model}"],
    "label": ["--input", "{labels}", "--output", "{out}", "--model", "{model}"],
    "compare": ["--candidates", "{labels}", "--output", "{out}", "--models", "{model}", "--qrels", "{qrels}"],
}


@pytest.mark.parametrize("job", READERS)
def test_half_of_what_a_run_writes_is_refused(
    labels: Path, tmp_path: Path, cross_encoder: Path, in_process: None, job: str
) -> None:
    names = sorted(path.stem for path in (labels / "labels" / "_run" / "done").iterdir())
    places = {"out": tmp_path / "out", "model": cross_encoder, "qrels": labels / "qrels.txt"}

    def check(left: set[str]) -> None:
        folder = tmp_path / "-".join(["labels", *sorted(left)])
        shutil.copytree(labels / "labels", folder, dirs_exist_ok=True)
        for name in left:
            (folder / "_run" / "done" / f"{name}.json").unlink()
        tried = try_command([job, *(part.format(labels=folder, **places) for part in READERS[job])])
        tried.check()
        assert tried.code == ExitCode.REFUSED
        assert f"{folder}: the job has not finished here ({len(left)} units are left)" in tried.err
        assert not places["out"].exists()

    fuzz(st.sets(st.sampled_from(names), min_size=1), check, 5)


@pytest.mark.parametrize("job", ["export", "rerank"])
def test_what_a_run_left_out_is_told_by_what_reads_it(
    labels: Path, tmp_path: Path, cross_encoder: Path, in_process: None, job: str
) -> None:
    places = {"out": tmp_path / "out", "model": cross_encoder, "labels": labels / "labels"}
    tried = try_command([job, *(part.format(**places) for part in READERS[job])])
    assert tried.code == ExitCode.DONE_WITH_ERRORS
    assert "1 lines of its error tables: 1 x the text is empty" in tried.out
