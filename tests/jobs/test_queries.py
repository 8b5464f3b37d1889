"""`ray-rerank queries`: a TSV of queries, the same from the same seed, and clear refusals."""

import json
from pathlib import Path

import ir_measures
import pytest

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.formats.qrels import read_qrels
from ray_rerank.operators.formats.texts import read_collection
from ray_rerank.operators.rejects import RaiseOnReject, Reason
from support.command import execute

PASSAGES = (
    "p1\tA kiln is a furnace for firing clay. Kilns cause smoke.\n"
    "p2\tBread rises because yeast makes gas. You can knead the dough by hand.\n"
)


def queries(passages: Path, output: Path, *flags: str) -> int:
    return execute(["queries", "--passages", str(passages), "--output", str(output), *flags])


def test_the_same_seed_writes_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "passages.tsv"
    source.write_text(PASSAGES)
    for name, seed in (("one", "3"), ("two", "3"), ("other", "4")):
        assert queries(source, tmp_path / f"{name}.tsv", "--count", "6", "--seed", seed) == ExitCode.DONE
    one, two, other = ((tmp_path / f"{name}.tsv").read_text() for name in ("one", "two", "other"))
    assert one == two != other
    lines = [line.split("\t") for line in one.splitlines()]
    assert len(lines) == 6
    assert {line[0].split("-")[0] for line in lines} == {"p1", "p2"}
    assert "6 queries" in capsys.readouterr().out


def test_what_is_measured_on_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source, qrels = tmp_path / "passages.tsv", tmp_path / "qrels.txt"
    source.write_text(PASSAGES)
    queries(source, tmp_path / "all.tsv", "--count", "6")
    made = [line.split("\t") for line in (tmp_path / "all.tsv").read_text().splitlines()]
    (tmp_path / "test.tsv").write_text(f"t1\t{made[2][1].upper()}?\n")
    more = ("--count", "6", "--qrels", str(qrels), "--apart-from", str(tmp_path / "test.tsv"))
    assert queries(source, tmp_path / "q.tsv", *more) == ExitCode.DONE
    left = [line.split("\t") for line in (tmp_path / "q.tsv").read_text().splitlines()]
    assert left == [query for query in made if query[1] != made[2][1]]
    assert len(qrels.read_text().splitlines()) == len(left) < 6
    assert "that are queries of" in capsys.readouterr().out


def test_fewer_queries_than_asked_for_show_in_the_exit_code(tmp_path: Path) -> None:
    source = tmp_path / "passages.tsv"
    source.write_text("p1\tClay kilns smoke.\n")
    assert queries(source, tmp_path / "q.tsv", "--count", "5000") == ExitCode.DONE_WITH_ERRORS
    assert (tmp_path / "q.tsv").read_text()


def test_each_query_s_own_passage_is_its_positive(tmp_path: Path) -> None:
    source, qrels = tmp_path / "passages.jsonl", tmp_path / "qrels.txt"
    lines = (line.split("\t") for line in PASSAGES.splitlines())
    source.write_text("".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in lines))
    assert queries(source, tmp_path / "q.tsv", "--count", "6", "--qrels", str(qrels)) == ExitCode.DONE
    made = [line.split("\t")[0] for line in (tmp_path / "q.tsv").read_text().splitlines()]
    with qrels.open("rb") as stream:
        assert read_qrels(stream, "qrels").grades == {query_id: {query_id.split("-")[0]: 1} for query_id in made}


def test_a_bad_line_costs_itself_and_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "passages.tsv"
    source.write_bytes(PASSAGES.encode() + b"no tab here\np3\t\xff\xfe\n")
    assert queries(source, tmp_path / "q.tsv", "--count", "4") == ExitCode.DONE_WITH_ERRORS
    assert len((tmp_path / "q.tsv").read_text().splitlines()) == 4
    told = capsys.readouterr().out
    assert "line 3" in told and "line 4" in told


@pytest.mark.parametrize(
    ("content", "message"), [(b"fine\nno tab here\n", "is not TSV of id<TAB>text"), (b"", "no passages")]
)
def test_a_file_that_is_no_passages_is_refused(
    tmp_path: Path, content: bytes, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "passages.tsv"
    source.write_bytes(content)
    assert queries(source, tmp_path / "q.tsv") == ExitCode.REFUSED
    assert message in capsys.readouterr().err
    assert not (tmp_path / "q.tsv").exists()


@pytest.mark.parametrize("with_qrels", [True, False])
def test_passages_whose_ids_its_lines_cannot_hold_give_no_query_and_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], with_qrels: bool
) -> None:
    source, qrels = tmp_path / "passages.jsonl", tmp_path / "qrels.txt"
    texts = [line.split("\t")[1] for line in PASSAGES.splitlines()] * 3
    ids = ["p1", "p 2", "p\t3", "p\n4", "p\u20285", "p6"]
    source.write_text(
        "".join(json.dumps({"_id": key, "text": text}) + "\n" for key, text in zip(ids, texts, strict=True))
    )
    more = ("--qrels", str(qrels)) if with_qrels else ()
    assert queries(source, tmp_path / "q.tsv", "--count", "20", *more) == ExitCode.DONE_WITH_ERRORS
    good = {"p1", "p6"} if with_qrels else {"p1", "p 2", "p6"}
    assert f"left out: {6 - len(good)} x {Reason.UNFIT_ID}" in capsys.readouterr().out
    with (tmp_path / "q.tsv").open("rb") as stream:
        made = [entry.id for entry in read_collection(stream, "q.tsv", RaiseOnReject())]
    assert {key.rsplit("-", 2)[0] for key in made} == good
    if with_qrels:
        judged = {(one.query_id, one.doc_id) for one in ir_measures.read_trec_qrels(str(qrels))}
        assert judged == {(key, key.rsplit("-", 2)[0]) for key in made}
