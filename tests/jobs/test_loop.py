"""`ray-rerank loop`: every step of the distillation, each reading what the one before wrote."""

import json
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest
from small_models import write_bi_encoder

from jobs.command import ExitCode, execute
from jobs.demo import STARTER
from operators.cross_encoder import CrossEncoderConfig


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


def beir(folder: Path, tests: int) -> Path:
    """The starter collection as a BEIR folder: its first queries to measure on, the others to train on."""
    (folder / "qrels").mkdir(parents=True)
    for source, target in (("passages.tsv", "corpus.jsonl"), ("queries.tsv", "queries.jsonl")):
        rows = [line.split("\t", 1) for line in (STARTER / source).read_text().splitlines()]
        lines = [json.dumps({"_id": row[0], "text": row[1]}) + "\n" for row in rows]
        (folder / target).write_text("".join(lines))
    judged = [line.split() for line in (STARTER / "qrels.txt").read_text().splitlines()]
    ids = list(dict.fromkeys(row[0] for row in judged))
    for split, own in (("test", ids[:tests]), ("train", ids[tests:])):
        lines = [f"{query}\t{doc}\t{grade}\n" for query, _, doc, grade in judged if query in own]
        (folder / "qrels" / f"{split}.tsv").write_text("query-id\tcorpus-id\tscore\n" + "".join(lines))
    return folder


@pytest.mark.timeout(900)
def test_real_judgements_are_trained_on_where_there_are_some_and_the_guard_keeps_its_bound(
    tmp_path: Path, cross_encoder: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = beir(tmp_path / "beir", tests=70), tmp_path / "loop"
    sizes = ["--negatives", "2", "--depth", "5", "--max-length", "64", "--no-timing", "--guard", "0.9"]
    models = ["--teacher", str(cross_encoder), "--student", "layers=1"]
    models += ["--encoder", str(write_bi_encoder(tmp_path / "encoder"))]
    assert execute(["loop", "--beir", str(folder), *models, *sizes, "--output", str(output)]) == ExitCode.DONE
    assert "70 judged queries that trained none of them" in capsys.readouterr().out
    trained = set((folder / "qrels" / "train.tsv").read_text().split()[3::3])
    scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    for kind in ("random", "bm25", "bi-encoder"):
        rows = pads.dataset(str(output / "mined" / kind)).to_table().to_pylist()
        assert {row["query_id"] for row in rows} == trained
        scores = 1 / (1 + np.exp(-scorer.score([(row["query"], row["text"]) for row in rows]).astype(float)))
        lowest = {one: min(s for row, s in zip(rows, scores, strict=True) if row["query_id"] == one and row["label"])
                  for one in trained}  # fmt: skip
        above = [
            s > 0.9 * lowest[row["query_id"]] + 1e-5 for row, s in zip(rows, scores, strict=True) if not row["label"]
        ]
        assert any(above) if kind == "random" else not any(above)


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
