"""`ray-rerank loop`: every step of the distillation, each reading what the one before wrote."""

import json
from pathlib import Path

import pytest

from jobs.command import ExitCode, execute
from jobs.demo import STARTER


@pytest.mark.timeout(900)
def test_the_loop_mines_labels_trains_and_compares_and_is_done_only_once(
    tmp_path: Path, cross_encoder: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "loop"
    texts = ["--passages", str(STARTER / "passages.tsv"), "--queries", str(STARTER / "queries.tsv")]
    sizes = ["--count", "24", "--negatives", "2", "--depth", "10", "--max-length", "64", "--no-timing"]
    models = ["--teacher", str(cross_encoder), "--student", "layers=1"]
    command = ["loop", *texts, "--qrels", str(STARTER / "qrels.txt"), *models, *sizes, "--output", str(output)]
    assert execute(command) == ExitCode.DONE, capsys.readouterr().err
    told = capsys.readouterr().out
    assert "random" in told and "bm25" in told and "distilled" in told
    assert "82 judged queries that trained none of them" in told
    compared = json.loads((output / "comparison" / "comparison.json").read_text())
    names = {one["name"] for one in compared["scorers"]}
    assert {"teacher", "random", "bm25", "distilled"} <= names
    for name in ("random", "bm25", "distilled"):
        config = json.loads((output / "students" / name / "config.json").read_text())
        assert config["num_hidden_layers"] == 1
    trained = (output / "students" / "distilled" / "model.safetensors").stat().st_mtime_ns
    assert execute(command) == ExitCode.DONE
    assert (output / "students" / "distilled" / "model.safetensors").stat().st_mtime_ns == trained


def test_a_training_query_that_is_a_judged_one_is_refused(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passages, queries, qrels = (tmp_path / name for name in ("passages.tsv", "queries.tsv", "qrels.txt"))
    passages.write_text("p1\tWhat is a kiln?\n")
    queries.write_text("q1\tWHAT IS A KILN\n")
    qrels.write_text("q1 0 p1 1\n")
    command = ["loop", "--passages", str(passages), "--queries", str(queries), "--qrels", str(qrels)]
    command += ["--teacher", str(cross_encoder), "--count", "2", "--output", str(tmp_path / "out")]
    assert execute(command) == ExitCode.REFUSED
    assert "what is a kiln" in capsys.readouterr().err.lower()
