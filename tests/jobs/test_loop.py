"""`ray-rerank loop`: every step of the distillation, each reading what the one before wrote."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.demo import STARTER
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_qrels, load_queries
from ray_rerank.jobs.loop import Config, StudentTraining, collection_of, scorers, step, train_student, training_queries
from ray_rerank.operators.comparison.schema import FIRST_STAGE
from ray_rerank.operators.rejects import RejectLog
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.command import execute


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


def steps(printed: str) -> list[str]:
    """What the loop says of its students at its end, without how long it took."""
    return printed.split("\nstudents on ")[1].splitlines()[:-1]


def test_the_loop_trains_on_real_judgements_with_guarded_negatives_and_is_done_only_once(
    tmp_path: Path, cross_encoder: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, output = beir(tmp_path / "beir", tests=70), tmp_path / "loop"
    sizes = ["--negatives", "2", "--depth", "5", "--max-length", "64", "--no-timing", "--guard", "0.9"]
    models = ["--teacher", str(cross_encoder), "--student", "layers=1", "--trainings", "2"]
    command = ["loop", "--beir", str(folder), *models, *sizes, "--output", str(output)]
    assert execute(command) == ExitCode.DONE, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert "70 judged queries that trained none of them, nDCG@10\n(intervals are over queries and the seeds" in printed
    compared = json.loads((output / "comparison" / "comparison.json").read_text())
    students = [f"{name}-{seed}" for name in ("random", "bm25", "distilled") for seed in (0, 1)]
    figures = {one["name"]: one["quality"]["nDCG@10"]["value"] for one in compared["scorers"]}
    assert list(figures) == [FIRST_STAGE, "teacher", *students]
    assert f"  first stage {figures[FIRST_STAGE]:.4f}, teacher {figures['teacher']:.4f}" in printed
    for name in ("random", "bm25", "distilled"):
        each = [figures[f"{name}-{seed}"] for seed in (0, 1)]
        assert f"  {name} {np.mean(each):.4f} (each training: {each[0]:.4f}, {each[1]:.4f})" in printed
    gain = np.mean([figures[f"distilled-{seed}"] - figures[f"bm25-{seed}"] for seed in (0, 1)])
    assert f"  bm25 -> distilled: {gain:+.4f} (95 % " in printed
    weights = {name: (output / "students" / name / "model.safetensors").read_bytes() for name in students}
    assert len(set(weights.values())) == len(students)
    assert {
        json.loads((output / "students" / name / "config.json").read_text())["num_hidden_layers"] for name in students
    } == {1}

    trained = set((folder / "qrels" / "train.tsv").read_text().split()[3::3])
    scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    for kind in ("random", "bm25"):
        rows = pads.dataset(str(output / "mined" / kind)).to_table().to_pylist()
        assert {row["query_id"] for row in rows} == trained
        scores = 1 / (1 + np.exp(-scorer.score([(row["query"], row["text"]) for row in rows]).astype(float)))
        scored = list(zip(rows, scores.tolist(), strict=True))
        lowest = {row["query_id"]: score for row, score in sorted(scored, key=lambda one: -one[1]) if row["label"]}
        above = [score > 0.9 * lowest[row["query_id"]] + 1e-5 for row, score in scored if not row["label"]]
        assert any(above) if kind == "random" else not any(above)

    capsys.readouterr()
    assert execute([*command, "--negatives", "3"]) == ExitCode.REFUSED
    assert "negatives: 2 -> 3" in capsys.readouterr().err
    kept, lost = (output / "students" / name / "model.safetensors" for name in ("distilled-0", "distilled-1"))
    written = kept.stat().st_mtime_ns
    shutil.rmtree(lost.parent)
    shutil.rmtree(output / "comparison")
    assert execute(command) == ExitCode.DONE
    assert lost.read_bytes() == weights["distilled-1"] and kept.stat().st_mtime_ns == written
    assert steps(capsys.readouterr().out) == steps(printed)

    lost.write_bytes(b"no weights")
    more = ["--trainings", "3"]
    assert execute([*command, *more]) == ExitCode.DONE_WITH_ERRORS
    after = steps(capsys.readouterr().out)
    assert kept.stat().st_mtime_ns == written
    assert "  distilled: 1 of 3 trainings have no ranking; what is above says why" in after
    assert any(f"(each training: {figures['distilled-0']:.4f}, " in line for line in after if "  distilled " in line)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--teacher", "nowhere"], "nowhere"),
        (["--student", "layers=9"], "9 layers are asked for, and the model has 2"),
        (["--student", "layers=0,7"], "has layers 0 to 1"),
        (["--student", "layers=1 vocabulary=5"], "a vocabulary of 5 pieces is too small"),
        (["--encoder", "nowhere"], "nowhere"),
    ],
)
def test_models_that_cannot_be_used_are_refused_before_any_work(
    tmp_path: Path, cross_encoder: Path, more: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["loop", "--beir", str(beir(tmp_path / "beir", tests=70)), "--output", str(tmp_path / "out")]
    assert execute([*command, "--teacher", str(cross_encoder), "--student", "layers=1", *more]) == ExitCode.REFUSED
    assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_queries_are_made_of_the_passages_where_there_are_none_to_train_on(tmp_path: Path) -> None:
    texts = {name: str(STARTER / f"{name}.tsv") for name in ("passages", "queries")}
    config = Config(**texts, qrels=str(STARTER / "qrels.txt"), teacher="t", count=24)
    code, taught = training_queries(config, collection_of(config), tmp_path)
    assert code == ExitCode.DONE
    assert len(load_queries(str(taught.train_queries), RejectLog()).texts) == 24
    assert len(load_qrels(str(taught.train_qrels)).grades) == 24


def test_a_training_query_that_is_a_judged_one_is_refused(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    passages, queries, qrels = (tmp_path / name for name in ("passages.tsv", "queries.tsv", "qrels.txt"))
    trained, positives = tmp_path / "train.tsv", tmp_path / "train.txt"
    passages.write_text("p1\tWhat is a kiln?\n")
    queries.write_text("q1\tWHAT IS A KILN\n")
    qrels.write_text("q1 0 p1 1\n")
    trained.write_text("t1\twhat is a kiln?\n")
    positives.write_text("t1 0 p1 1\n")
    command = ["loop", "--passages", str(passages), "--queries", str(queries), "--qrels", str(qrels)]
    command += ["--train-queries", str(trained), "--train-qrels", str(positives)]
    command += ["--teacher", str(cross_encoder), "--student", "layers=1", "--output", str(tmp_path / "out")]
    assert execute(command) == ExitCode.REFUSED
    assert "what is a kiln" in capsys.readouterr().err.lower()


def test_a_training_that_fails_is_said_and_is_not_the_end_of_the_loop(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = tmp_path / "pairs.tsv"
    rows = [f"q{number}\tanswer {place}\t{int(place == 1)}\n" for number in range(4) for place in range(3)]
    pairs.write_text("query\tdocument\tlabel\n" + "".join(rows))
    config = Config(teacher=str(cross_encoder), student="layers=1", learning_rate=1e20, batch_size=4)
    assert train_student(config, tmp_path, StudentTraining("bm25", 4, pairs, "bce")) == ExitCode.DONE_WITH_ERRORS
    assert "student bm25-4 failed, the others go on: the training diverged" in capsys.readouterr().out


def test_every_training_is_compared_and_one_student_of_the_shape_is_timed(tmp_path: Path) -> None:
    texts = {name: str(STARTER / f"{name}.tsv") for name in ("passages", "queries")}
    config = Config(**texts, qrels=str(STARTER / "qrels.txt"), teacher="t", seed=5, trainings=2)
    entries = scorers(config, tmp_path, ["bm25", "distilled"])
    assert [(one["name"], one["timing"]) for one in entries] == [
        ("teacher", True),
        ("bm25-5", False),
        ("bm25-6", False),
        ("distilled-5", True),
        ("distilled-6", False),
    ]
    assert [Path(one["scorer"]["model"]).name for one in entries] == ["t", *(one["name"] for one in entries[1:])]


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ([[0.4, 0.5, 0.6]], [[0.5, 0.6, 0.7]], "+0.1000 (95 % +0.1000 to +0.1000: higher)"),
        ([[0.5, 0.6, 0.7]], [[0.4, 0.5, 0.6]], "-0.1000 (95 % -0.1000 to -0.1000: lower)"),
        # where only the trainings vary, the interval is that of Welch's t test (scipy.stats.ttest_ind)
        ([[0.5, 0.5], [0.1, 0.1]], [[0.4, 0.4], [0.6, 0.6]], "+0.2000 (95 % -1.1837 to +1.5837: no difference shown)"),
        ([[0.5], [0.1]], [[0.4], [0.6]], "+0.2000 (one query has no interval)"),
    ],
)
def test_a_step_is_higher_or_lower_only_where_its_interval_is(
    first: list[list[float]], second: list[list[float]], told: str
) -> None:
    assert step(np.array(first), np.array(second)) == told
