"""`ray-rerank mine`: positives and hard negatives with their texts, which rerank and train read as they are."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.dataset as pads
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.mining.shards import MINED_SCHEMA
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.candidates import WORDS
from support.command import execute
from support.models import write_bi_encoder, write_cross_encoder

QUERIES = {"q1": "water a cactus", "q2": "bread rises as yeast", "q3": "stars shine"}
QRELS = {"q1": {"d0": 2, "d1": 1}, "q2": {"d2": 1}, "q3": {"nowhere": 1}}


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    draw = np.random.default_rng(0)
    texts = [" ".join(draw.choice(WORDS, 12)) for _ in range(60)]
    texts[5] = texts[0]  # the same text as a positive, under another id
    (tmp_path / "queries.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in QUERIES.items()))
    (tmp_path / "passages.tsv").write_text("".join(f"d{row}\t{text}\n" for row, text in enumerate(texts)))
    lines = [f"{query} 0 {doc} {grade}\n" for query, grades in QRELS.items() for doc, grade in grades.items()]
    (tmp_path / "qrels.txt").write_text("".join(lines))
    return tmp_path


def mine(folder: Path, *more: str, qrels: bool = True, output: str = "mined") -> int:
    texts = ["--queries", str(folder / "queries.tsv"), "--passages", str(folder / "passages.tsv")]
    judged = ["--qrels", str(folder / "qrels.txt")] if qrels else []
    return execute(["mine", *texts, *judged, "--output", str(folder / output), *more])


def mined(folder: Path) -> list[dict[str, Any]]:
    table = pads.dataset(str(folder)).to_table()
    assert table.schema == MINED_SCHEMA
    return table.to_pylist()


def by_query(rows: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["query_id"], []).append(row)
    return found


SEVERAL = json.dumps([{"kind": "bm25", "count": 3, "ranks": [1, 20]}, {"kind": "random", "count": 4}])


def test_positives_come_first_and_no_negative_is_one_of_them_or_their_text(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(collection, "--sources", SEVERAL) == ExitCode.DONE_WITH_ERRORS  # q3 has no positive with a text
    told = capsys.readouterr().out
    assert "query without a positive" in told and "nowhere" in told
    found = by_query(mined(collection / "mined"))
    assert list(found) == ["q1", "q2"]
    q1 = found["q1"]
    assert [(row["doc_id"], row["label"], row["source"]) for row in q1[:2]] == [
        ("d0", 1, "positive"),
        ("d1", 1, "positive"),
    ]
    assert [row["source"] for row in q1[2:]] == ["bm25"] * 3 + ["random"] * 4
    assert {row["label"] for row in q1[2:]} == {0}
    assert not {"d0", "d1", "d5"} & {row["doc_id"] for row in q1[2:]}
    assert len({row["text"] for row in q1}) == len(q1)
    assert all(row["score"] is not None for row in q1 if row["source"] == "bm25")


def test_a_passage_that_differs_from_a_positive_in_dress_alone_is_no_negative(collection: Path) -> None:
    passages = "d0\tParis, the capital\nd1\tparis, the capital\nd2\t PARIS,  the\u00a0Capital. \nd3\tParis, a capital\n"
    (collection / "passages.tsv").write_text(passages + "d4\tRome\nd5\t\u201crome\u201d\n")
    (collection / "qrels.txt").write_text("q1 0 d0 1\n")

    def negatives(*more: str, output: str) -> set[str]:
        mine(collection, "--source", "random", "--count", "9", *more, output=output)
        return {row["doc_id"] for row in mined(collection / output) if not row["label"]}

    strict = negatives(output="strict")
    assert "d3" in strict and len(strict & {"d4", "d5"}) == 1 and len(strict) == 2
    assert negatives("--near-duplicates", "0.5", output="loose") == strict - {"d3"}
    assert mine(collection, "--source", "random", "--count", "9", output="loose") == ExitCode.REFUSED


def test_without_judgements_there_are_candidates_and_no_labels(collection: Path) -> None:
    assert mine(collection, "--source", "bm25", "--count", "2", qrels=False) == ExitCode.DONE
    assert {row["label"] for row in mined(collection / "mined")} == {None}


def test_again_is_done_already_and_other_settings_are_refused(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--source", "random", "--count", "5", "--seed", "3")
    mine(collection, *command)
    first = mined(collection / "mined")
    capsys.readouterr()
    mine(collection, *command)
    assert "already mined" in capsys.readouterr().out
    mine(collection, *command, output="again")
    assert mined(collection / "again") == first
    assert mine(collection, *command, "--positives", "1") == ExitCode.REFUSED
    assert "--overwrite" in capsys.readouterr().err


def test_a_run_gives_its_own_ranks(collection: Path) -> None:
    lines = [f"q1 Q0 d{row} {place} {60 - place} t\n" for place, row in enumerate(range(59, 9, -1), start=1)]
    (collection / "run.trec").write_text("".join(lines))
    source = json.dumps(
        [{"kind": "run", "path": str(collection / "run.trec"), "ranks": [2, 4], "count": 3, "draw": "top"}]
    )
    mine(collection, "--sources", source)
    q1 = by_query(mined(collection / "mined"))["q1"]
    assert [row["doc_id"] for row in q1[2:]] == ["d58", "d57", "d56"]
    assert [row["score"] for row in q1[2:]] == [58, 57, 56]


def test_a_document_of_a_run_without_a_text_keeps_its_rank(collection: Path) -> None:
    (collection / "run.trec").write_text(
        "".join(f"q1 Q0 {d} {n} {9 - n} t\n" for n, d in enumerate(["d9", "?", "d8", "d7"], 1))
    )
    source = {"kind": "run", "path": str(collection / "run.trec"), "ranks": [1, 3], "count": 3, "draw": "top"}
    assert mine(collection, "--sources", json.dumps([source])) == ExitCode.DONE_WITH_ERRORS
    assert [row["doc_id"] for row in by_query(mined(collection / "mined"))["q1"][2:]] == ["d9", "d8"]


def test_a_run_of_other_queries_is_refused_and_one_without_some_is_told(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("--source", "run", "--run", str(collection / "run.trec"), "--ranks", "1-2")
    (collection / "run.trec").write_text("other Q0 d9 1 9 t\n")
    assert mine(collection, *command) == ExitCode.REFUSED
    assert "none of the 1 query ids of" in capsys.readouterr().err
    (collection / "run.trec").write_text("q1 Q0 d9 1 9 t\nq1 Q0 d8 2 8 t\nq1 Q0 ? 3 7 t\nother Q0 ? 1 9 t\n")
    mine(collection, *command)
    told = capsys.readouterr().out
    assert "1 of 2 queries are not in" in told and "'?'" not in told


def test_a_pair_that_the_guards_teacher_cannot_score_is_told(
    collection: Path, monkeypatch: pytest.MonkeyPatch, cross_encoder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ray_rerank.jobs.mine.job.teacher_scores", lambda *_: {})
    guard = json.dumps({"scorer": {"kind": "cross-encoder", "model": str(cross_encoder)}, "at_most": 0.5})
    (collection / "passages.tsv").open("a").write("blank\t \n")
    assert mine(collection, "--source", "bm25", "--guard", guard) == ExitCode.DONE_WITH_ERRORS
    told = capsys.readouterr().out
    assert "the guard's teacher gave no score" in told
    assert "1 passages of" in told and "have no text" in told


def test_what_does_not_go_together_is_named(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, told in (
        (("--source", "bi-encoder"), "`source: bi-encoder` needs `encoder`"),
        (("--source", "run"), "`source: run` needs `run`"),
        (("--sources", '[{"kind": "random", "count": 1}]', "--count", "5"), "`count` goes with `source`"),
    ):
        assert mine(collection, *arguments) == ExitCode.REFUSED
        assert told in capsys.readouterr().err


def test_a_refused_mining_leaves_the_one_before_as_it_was(collection: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine(collection, "--source", "random")
    before = mined(collection / "mined")
    nowhere = ("--source", "bi-encoder", "--encoder", str(collection / "nowhere"), "--overwrite")
    assert mine(collection, *nowhere) == ExitCode.REFUSED
    assert mined(collection / "mined") == before
    assert mine(collection, *nowhere, output="new") == ExitCode.REFUSED
    assert mine(collection, "--source", "random", output="new") == ExitCode.DONE_WITH_ERRORS, "q3 has no positive"


def test_other_weights_at_the_same_place_are_another_teacher_and_moved_ones_the_same(
    collection: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_cross_encoder(collection / "teacher", seed=8)

    def guarded(*more: str) -> int:
        scorer = {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}
        guard = json.dumps({"scorer": scorer, "max_score": 0.0, "view": "score", "pool": 15})
        return mine(collection, "--source", "random", "--count", "4", "--guard", guard, *more)

    guarded()
    first = mined(collection / "mined")
    model = model.rename(collection / "moved")
    guarded()
    assert "already mined" in capsys.readouterr().out
    write_cross_encoder(model, seed=7)
    assert guarded() == ExitCode.REFUSED
    guarded("--overwrite")
    assert mined(collection / "mined") != first
    teacher = CrossEncoderConfig(model=str(model), precision="fp32").load()
    negatives = [(row["query"], row["text"]) for row in mined(collection / "mined") if not row["label"]]
    assert negatives and (teacher.score(negatives) <= 1e-5).all()


def test_a_bi_encoder_gives_the_nearest_and_keeps_the_vectors(
    collection: Path, ray_here: None, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_bi_encoder(collection / "encoder")
    source = json.dumps(
        [{"kind": "bi-encoder", "model": str(model), "precision": "fp32", "count": 4, "ranks": [1, 4], "draw": "top"}]
    )
    mine(collection, "--sources", source, "--vectors", str(collection / "vectors"), qrels=False)
    told = capsys.readouterr().err
    assert "embedding: 1 units, 60 texts" in told and "re-ranking" not in told
    texts = dict(line.split("\t") for line in (collection / "passages.tsv").read_text().splitlines())
    encoder = BiEncoderConfig(model=str(model), precision="fp32").load()
    documents = encoder.embed(list(texts.values()), "document")
    for query_id, rows in by_query(mined(collection / "mined")).items():
        scores = dict(zip(texts, documents @ encoder.embed([QUERIES[query_id]], "query")[0], strict=True))
        del scores["d5"]  # d0 has the same text
        best = sorted(scores, key=lambda doc_id: -scores[doc_id])[:4]
        assert {row["doc_id"] for row in rows} <= {*best, "d0", "d5"}
        np.testing.assert_allclose(
            [row["score"] for row in rows if row["doc_id"] in scores],
            [scores[row["doc_id"]] for row in rows if row["doc_id"] in scores],
            atol=1e-5,
        )
    moved = (collection / "vectors").rename(collection / "elsewhere")
    kept = {path: path.stat().st_mtime_ns for path in moved.rglob("*.parquet")}
    assert sum(path.name.startswith("part-") for path in kept) == 2
    mine(collection, "--sources", source, "--vectors", str(moved), qrels=False, output="again")
    assert {path: path.stat().st_mtime_ns for path in moved.rglob("*.parquet")} == kept
    assert mined(collection / "again") == mined(collection / "mined")


def test_the_guard_leaves_out_what_the_teacher_finds_relevant(
    collection: Path, cross_encoder: Path, in_process: None, capsys: pytest.CaptureFixture[str]
) -> None:
    scorer = {"kind": "cross-encoder", "model": str(cross_encoder), "precision": "fp32"}
    guard = json.dumps({"scorer": scorer, "absolute_margin": 0.0, "view": "score", "pool": 10})
    command = ("--source", "random", "--count", "4", "--guard", guard, "--cache", str(collection / "cache"))
    mine(collection, *command)
    assert "refused by the guard" in capsys.readouterr().out
    teacher = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    refused = 0
    for rows in by_query(mined(collection / "mined")).values():
        scores = teacher.score([(row["query"], row["text"]) for row in rows])
        lowest = min(score for row, score in zip(rows, scores, strict=True) if row["label"] == 1)
        assert all(score <= lowest + 1e-5 for row, score in zip(rows, scores, strict=True) if row["label"] == 0)
        every = teacher.score([(rows[0]["query"], text) for text in _texts(collection)])
        refused += int((every > lowest).sum())
    assert refused > 0, "the guard had nothing to refuse"


@pytest.mark.parametrize("fallback", ["keep-lowest", "skip"])
def test_queries_of_which_the_guard_refuses_all_are_told_with_what_helps(
    collection: Path, cross_encoder: Path, in_process: None, capsys: pytest.CaptureFixture[str], fallback: str
) -> None:
    scorer = {"kind": "cross-encoder", "model": str(cross_encoder), "precision": "fp32"}
    guard = json.dumps({"scorer": scorer, "at_most": 0.0, "fallback": fallback})
    sources = json.dumps([{"kind": "random", "count": 2}, {"kind": "bm25", "count": 1}])
    mine(collection, "--sources", sources, "--guard", guard)
    told = capsys.readouterr()
    assert "refused (" in told.out and "random: " in told.out and "bm25: " in told.out
    assert "all that was drawn for 2 of 2 queries" in told.out and "a larger pool would not help" in told.out
    assert "`guard.at_most: " in told.out
    teacher = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    for rows in by_query(mined(collection / "mined")).values():
        negatives = [row for row in rows if not row["label"]]
        assert len(negatives) == (fallback == "keep-lowest")
        if negatives:
            (lowest,) = teacher.score([(rows[0]["query"], negatives[0]["text"])])
            every = teacher.score([(rows[0]["query"], text) for text in _texts(collection)])
            assert (every < lowest).mean() < 0.5, "one of the lowest of a dozen"
    assert "scoring for the guard: " in told.err and "re-ranking" not in told.err
    other = guard.replace(fallback, "skip" if fallback == "keep-lowest" else "keep-lowest")
    mine(collection, "--sources", sources, "--guard", other, "--overwrite")
    assert "scoring for the guard: " not in capsys.readouterr().err, "the same pairs were scored before"


def _texts(folder: Path) -> list[str]:
    return [line.split("\t")[1] for line in (folder / "passages.tsv").read_text().splitlines()]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source", "bm25", "--ranks", "9-2"], "ranks go from 1"),
        (["--sources", '[{"kind": "dense", "count": 1}]'], "dense"),
        ([], "nothing to draw from"),
        (["--source", "run", "--run", "nowhere.trec"], "nowhere.trec"),
        (["--source", "random", "--guard", '{"scorer": {"model": "m"}}'], "needs a bound"),
        (["--source", "random", "--guard.at-most", "0.9"], "--guard.scorer.model"),
        (["--source", "bm25", "--ranks", "5"], "FIRST-LAST"),
        (["--source", "random", "--ranks", "5-10"], "random passages have none"),
        (["--source", "bm25", "--encoder", "m"], "`encoder` goes with"),
    ],
)
def test_what_cannot_be_mined_is_refused_in_a_line(
    collection: Path, more: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine(collection, *more) == ExitCode.REFUSED
    told = capsys.readouterr().err
    assert message in told and "Traceback" not in told


def test_judgements_of_another_collection_are_told_by_what_does_not_match(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / "qrels.txt").write_text("other 0 d1 1\n")
    assert mine(collection, "--source", "random") == ExitCode.REFUSED
    assert "none of the queries of" in capsys.readouterr().err
    (collection / "qrels.txt").write_text("q1 0 elsewhere 1\n")
    assert mine(collection, "--source", "random") == ExitCode.REFUSED
    assert "of the 1 documents judged for them 0 are in the corpus" in capsys.readouterr().err


def test_queries_that_nobody_judged_are_not_mined_for_and_are_no_fault(
    collection: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (collection / "qrels.txt").write_text("q1 0 d0 1\n")
    assert mine(collection, "--source", "random") == ExitCode.DONE
    assert {row["query_id"] for row in mined(collection / "mined")} == {"q1"}
    assert "1 of 3 queries are judged" in capsys.readouterr().out


@pytest.mark.parametrize(("rule", "own"), [("id", {"d9"}), ("both", {"d9", "d20"}), ("off", set())])
def test_a_passage_that_is_its_own_query_is_neither_positive_nor_negative(
    collection: Path, capsys: pytest.CaptureFixture[str], rule: str, own: set[str]
) -> None:
    lines = (collection / "passages.tsv").read_text().splitlines()
    query = lines[20].split("\t")[1]
    (collection / "queries.tsv").write_text(f"d9\t{query}\nd20\twater a cactus\n")
    (collection / "qrels.txt").write_text("d9 0 d9 2\nd9 0 d1 1\nd20 0 d20 1\n")
    source = json.dumps([{"kind": "bm25", "count": 60}, {"kind": "random", "count": 60}])
    code = mine(collection, "--sources", source, f"--drop-self={rule}")
    found = by_query(mined(collection / "mined"))
    assert code == (ExitCode.DONE if rule == "off" else ExitCode.DONE_WITH_ERRORS)  # d20's only positive is itself
    assert list(found) == (["d9", "d20"] if rule == "off" else ["d9"])
    passages = {row["doc_id"] for row in found["d9"]}
    assert {"d9", "d20"} - passages == own and "d1" in passages
    assert (f"{len(own)} pairs of a query and itself" in capsys.readouterr().out) == (rule != "off")
