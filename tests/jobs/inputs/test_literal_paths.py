"""In a folder whose name looks like a glob, or a URI, every job does what it does elsewhere, and meets no other."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute, without_ray
from support.models import write_bi_encoder

URI_SIGNS = "@b#c=d;e&f"
ODD = f"a[1]*?{URI_SIGNS}"
DECOY = f"a1xx{URI_SIGNS}"
"""What the odd one matches."""

PAIRS = 6 * 4
Do = Callable[..., str]


def done(capfd: pytest.CaptureFixture[str]) -> Do:
    def do(*arguments: str, code: int = ExitCode.DONE) -> str:
        capfd.readouterr()
        got = execute(list(arguments))
        told = capfd.readouterr()
        assert got == code, told.out + told.err
        return told.out

    return do


def fill(folder: Path, model: Path, seed: int) -> None:
    write_candidates(folder / "in" / "part-0.parquet", rows(6, 4, seed))
    shutil.copytree(model, folder / "model")
    (folder / "qrels.txt").write_text("".join(f"q{n} 0 d{n}-1 1\n" for n in range(6)))
    (folder / "queries.tsv").write_text("q0\thow to water a cactus\nq1\tthe soil number 3\n")
    passages = [f"d{n}-{place}\tthe soil number {n} {place} of a cactus\n" for n in range(6) for place in range(4)]
    (folder / "passages.tsv").write_text("".join(passages))


def score(do: Do, at: str) -> None:
    more = ("--unit-pairs", "8", "--cache", f"{at}/cache", "--trec-run", f"{at}/run.trec")
    do("rerank", "--input", f"{at}/in", "--model", f"{at}/model", "--output", f"{at}/ranked", *more)


@pytest.fixture
def top(tmp_path: Path, cross_encoder: Path) -> Path:
    """An odd folder, a decoy that it would match as a glob, and a plain one with the same as the odd."""
    for name, seed in ((ODD, 1), (DECOY, 2), ("plain", 1)):
        fill(tmp_path / name, cross_encoder, seed)
    return tmp_path


def table(folder: Path) -> list[dict[str, Any]]:
    return sorted(pads.dataset(str(folder)).to_table().to_pylist(), key=lambda row: str(row))


def test_rerank_resume_inspect_evaluate_and_the_cache(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    do, at = done(capfd), f"{top}/{ODD}"
    with without_ray():
        for name in (DECOY, ODD, "plain"):
            score(do, f"{top}/{name}")
        assert table(top / ODD / "ranked") == table(top / "plain" / "ranked") != table(top / DECOY / "ranked")
        assert (top / ODD / "run.trec").read_bytes() == (top / "plain" / "run.trec").read_bytes()

        marker, *_ = (top / ODD / "ranked" / "_run" / "done").iterdir()
        marker.unlink()
        before = json.loads(do("inspect", f"{at}/ranked", "--json", code=ExitCode.DONE_WITH_ERRORS))
        assert (before["units"], before["left"]) == (3, 1)
        score(do, at)
        assert json.loads((top / ODD / "ranked" / "_run" / "report.json").read_text())["units_done_before"] == 2
    assert "all is as it was written" in do("inspect", f"{at}/ranked", "--verify")
    assert table(top / ODD / "ranked") == table(top / "plain" / "ranked")

    figures = []
    for own in (top / ODD, top / "plain"):
        do("evaluate", "--ranking", f"{own}/ranked", "--qrels", f"{own}/qrels.txt", "--json", f"{own}/figures.json")
        figures.append((own / "figures.json").read_bytes())
    assert figures[0] == figures[1]

    (stats,) = json.loads(do("cache", "stats", f"{at}/cache", "--json"))
    assert (stats["entries"], stats["bad_files"]) == (PAIRS, [])
    assert "are now 1 of" in do("cache", "compact", f"{at}/cache")
    assert json.loads(do("cache", "verify", f"{at}/cache", "--json")) == []
    told = do("cache", "export", f"{at}/cache", "--output", f"{at}/scores", "--candidates", f"{at}/in")
    assert told.startswith(f"{PAIRS} scores") and len(table(top / ODD / "scores")) == PAIRS
    with without_ray():
        flags = ("--input", f"{at}/in", "--model", f"{at}/model", "--output", f"{at}/new", "--cache", f"{at}/cache")
        assert re.search(
            f"100% .* of {PAIRS} pairs of stage 1", do("rerank", *flags, "--dry-run", "--unit-pairs", "99")
        )


def test_label_and_export(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    do = done(capfd)
    for name in (DECOY, ODD, "plain"):
        at = f"{top}/{name}"
        with without_ray():
            do("label", "--input", f"{at}/in", "--model", f"{at}/model", "--output", f"{at}/labels")
        for _ in range(2):  # the second finds the first
            do("export", "--input", f"{at}/labels", "--format", "listwise", "--output", f"{at}/listwise")
    assert table(top / ODD / "listwise") == table(top / "plain" / "listwise") != table(top / DECOY / "listwise")


def test_prepare_queries_and_mine(top: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    do, encoder = done(capfd), write_bi_encoder(tmp_path / "encoder")
    for name in (DECOY, ODD, "plain"):
        at = f"{top}/{name}"
        texts = ("--queries", f"{at}/queries.tsv", "--passages", f"{at}/passages.tsv")
        for _ in range(2):
            told = do("prepare", *texts, "--bm25", "3", "--output", f"{at}/candidates")
        assert "already prepared" in told
        do("mine", *texts, "--source", "bm25", "--count", "2", "--output", f"{at}/mined")
        with without_ray():
            for output in ("near", "again"):
                source = ("--source", "bi-encoder", "--encoder", str(encoder), "--count", "2")
                do("mine", *texts, *source, "--vectors", f"{at}/vectors", "--output", f"{at}/{output}")
        do("queries", "--passages", f"{at}/passages.tsv", "--count", "3", "--output", f"{at}/made.tsv")
    for made in ("candidates", "mined", "near", "again"):
        assert table(top / ODD / made) == table(top / "plain" / made)
    assert (top / ODD / "made.tsv").read_bytes() == (top / "plain" / "made.tsv").read_bytes()


def test_compare(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    do, values = done(capfd), []
    for name in (ODD, "plain"):
        at = f"{top}/{name}"
        flags = ("--candidates", f"{at}/in", "--qrels", f"{at}/qrels.txt", "--models", f"{at}/model", "--no-timing")
        with without_ray():
            for _ in range(2):
                do("compare", *flags, "--output", f"{at}/comparison", "--cache", f"{at}/cache")
        found = json.loads((top / name / "comparison" / "comparison.json").read_text())
        values.append([one["quality"] for one in found["scorers"]])
    assert values[0] == values[1]


def test_train_and_its_checkpoints(top: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("accelerate")
    do, at = done(capfd), f"{top}/{ODD}"
    (top / ODD / "pairs.tsv").write_text(
        "query\tdocument\tlabel\n" + "".join(f"query {n // 2}\tthe soil of {n}\t{n % 2}\n" for n in range(16))
    )
    flags = ("--epochs", "1", "--max-length", "16", "--batch-size", "8", "--threads", "1", "--held-out", "0")
    flags = ("--input", f"{at}/pairs.tsv", "--model", f"{at}/model", "--output", f"{at}/student", *flags)
    do("train", *flags, "--checkpoints", f"{at}/steps")
    assert "already trained" in do("train", *flags, "--checkpoints", f"{at}/steps")
    assert not (top / ODD / "steps").exists()
    assert sorted(os.listdir(top)) == sorted([ODD, DECOY, "plain"])  # noqa: PTH208


def test_an_output_and_a_cache_that_are_not_there_yet_are_made_as_they_are_called(
    top: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    do = done(capfd)
    with without_ray():
        score(do, f"{top}/{DECOY}")
        flags = ("--input", f"{top}/plain/in", "--model", f"{top}/plain/model", "--cache", f"{top}/a[1]xx/cache")
        do("rerank", *flags, "--output", f"{top}/a1*{URI_SIGNS}/ranked")
    assert sorted(os.listdir(top)) == sorted([ODD, DECOY, "plain", f"a1*{URI_SIGNS}", "a[1]xx"])  # noqa: PTH208
    (stats,) = json.loads(do("cache", "stats", f"{top}/a[1]xx/cache", "--json"))
    assert stats["entries"] == PAIRS
    assert len(table(top / f"a1*{URI_SIGNS}" / "ranked")) == 6
    assert "no run has begun" in _refused(capfd, "inspect", f"{top}/a?xx{URI_SIGNS}/ranked")
    assert "there is no such file or folder" in _refused(capfd, "cache", "stats", f"{top}/a1x?{URI_SIGNS}/cache")


def _refused(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert execute(list(arguments)) == ExitCode.REFUSED
    return capfd.readouterr().err
