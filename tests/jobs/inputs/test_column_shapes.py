"""Files in the shapes that people have, through the jobs that read them: read right, or refused with what was seen."""

import json
import re
from itertools import permutations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_qrels, load_run
from ray_rerank.jobs.train.input import load_training_pairs
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.rejects import Report
from support.command import execute

TEXTS = {"d1": "the red one", "d2": "the blue one", "d3": "the green one"}
QUERIES = {"q1": "what is red", "q2": "what is blue"}
ORDER = {"q1": ["d2", "d1", "d3"], "q2": ["d3"]}
GRADES = {"q1": {"d1": 1, "d2": 0}, "q2": {"d3": 2}}

# Every line of ORDER as (query_id, doc_id, rank from 1, score), out of order.
PLACES = [("q1", "d1", 2, 9.5), ("q1", "d2", 1, 12.25), ("q2", "d3", 1, -4e-2), ("q1", "d3", 3, 1.5e-7)]


def lines(form: str, first: int = 1) -> str:
    return "".join(
        form.format(query=query, doc=doc, rank=rank - 1 + first, score=score) + "\n"
        for query, doc, rank, score in PLACES
    )


RUNS = {
    "TREC": lines("{query} Q0 {doc} {rank} {score} tag"),
    "TREC, tabs": lines("{query}\tQ0\t{doc}\t{rank}\t{score}\ttag"),
    "TREC, blanks of any kind": lines("{query}  Q0\t{doc} \t {rank} {score} tag "),
    "TREC, ranks as fractions": lines("{query} 0 {doc} {rank}.0 {score} tag"),
    "TREC, ranks from 0": lines("{query} Q0 {doc} {rank} {score} tag", first=0),
    "TREC, e notation": lines("{query} Q0 {doc} {rank}e0 {score:E} tag"),
    "MS MARCO": lines("{query}\t{doc}\t{rank}"),
    "MS MARCO, spaces, ranks from 0": lines("{query} {doc} {rank}", first=0),
    "MS MARCO, ranks as fractions": lines("{query}\t{doc}\t{rank}.0"),
    "ColBERT": lines("{query}\t{doc}\t{rank}\t{score}"),
    "three, scores": lines("{query}\t{doc}\t{score}"),
    "five, no Q0": lines("{query} {doc} {rank} {score} tag"),
    "five, no tag": lines("{query} Q0 {doc} {rank} {score}"),
    "five, no rank": lines("{query} Q0 {doc} {score} tag"),
    "named": "qid\tdocno\trank\tscore\n" + lines("{query}\t{doc}\t{rank}\t{score}"),
    "named, another order": "score docid name topic\n" + lines("{score} {doc} x {query}"),
    "named, without the score": "qid did rank distance\n" + lines("{query} {doc} {rank} {rank}"),
    "quoted": '"query_id"\t"doc_id"\t"score"\n' + lines('"{query}"\t"{doc}"\t"{score}"'),
}

QRELS = {
    "TREC": "q1 0 d1 1\nq1 0 d2 0\nq2 0 d3 2\n",
    "TREC, fractions": "q1 Q0 d1 1.0\nq1 Q0 d2 0.0\nq2 Q0 d3 2e0\n",
    "BEIR": "query-id\tcorpus-id\tscore\nq1\td1\t1\nq1\td2\t0\nq2\td3\t2\n",
    "BEIR, no header": "q1\td1\t1\nq1\td2\t0\nq2\td3\t2\n",
    "BEIR, spaces": "query-id corpus-id score\nq1 d1 1\nq1 d2 0\nq2 d3 2\n",
    "BEIR, spaces around": " query-id\t corpus-id \tscore \n q1 \t d1\t1\nq1\td2 \t 0 \nq2\td3\t2\n",
    "BEIR, quoted header": '"query-id"\t"corpus-id"\t"score"\nq1\td1\t1\nq1\td2\t0\nq2\td3\t2\n',
    "BEIR, all quoted": '"query-id"\t"corpus-id"\t"score"\n"q1"\t"d1"\t"1"\n"q1"\t"d2"\t"0"\n"q2"\t"d3"\t"2"\n',
    "MTEB": "query-id\tcorpus-id\tlabel\nq1\td1\t1.0\nq1\td2\t0.0\nq2\td3\t2.0\n",
    "named, another order": "relevance docno x qid\n1 d1 ? q1\n0 d2 ? q1\n2 d3 ? q2\n",
    "five, a word last": "q1 0 d1 1 ann\nq1 0 d2 0 bob\nq2 0 d3 2 ann\n",
    "five, a fraction last": "q1 0 d1 1 0.5\nq1 0 d2 0 0.25\nq2 0 d3 2 0.9\n",
    "five, a word before": "q1 0 d1 pooled 1\nq1 0 d2 drawn 0\nq2 0 d3 pooled 2\n",
    "five, drawn with a probability": "q1 d1 1 1 0.5\nq1 d2 0 1 1.0\nq2 d3 2 2 0.125\n",
    "JSONL": "".join(
        json.dumps({"query-id": query, "corpus-id": doc, "score": grade}) + "\n"
        for query, grades in GRADES.items()
        for doc, grade in grades.items()
    ),
}

TOP_1000 = "".join(f"{query}\t{doc}\t{QUERIES[query]}\t{TEXTS[doc]}\n" for query, doc, *_ in PLACES)
TRIPLES = "what is red\tthe red one\tthe blue one\nwhat is blue\tthe blue one\tthe red one\n"

# Files that are of another kind wherever they are given, and what they are said to look like.
FOREIGN = {
    "top-1000": (TOP_1000, "top-1000"),
    "documents": (
        "".join(f"{key}\thttps://a.org/{key}\ta title\t{text}\n" for key, text in TEXTS.items()),
        "documents",
    ),
    "triples": (TRIPLES, "triples"),
    "run": (RUNS["TREC, tabs"], "TREC run"),
    "judgements": (QRELS["TREC"].replace(" ", "\t"), "TREC qrels"),
    "texts": ("".join(f"{key}\t{text}\n" for key, text in TEXTS.items()), "texts"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, texts in (("queries.tsv", QUERIES), ("passages.tsv", TEXTS)):
        (tmp_path / name).write_text("".join(f"{key}\t{text}\n" for key, text in texts.items()))
    (tmp_path / "run").write_text(RUNS["TREC"])
    (tmp_path / "qrels").write_text(QRELS["TREC"])
    return tmp_path


def prepared(folder: Path, *flags: str) -> dict[str, list[str]]:
    assert execute(["prepare", *flags, "--output", str(folder / "candidates")]) == ExitCode.DONE
    rows = pq.read_table(next((folder / "candidates").glob("*.parquet"))).to_pylist()
    found = {row["query_id"]: [one["doc_id"] for one in row["candidates"]] for row in rows}
    assert {row["query_id"]: row["query"] for row in rows} == QUERIES
    assert all(one["text"] == TEXTS[one["doc_id"]] for row in rows for one in row["candidates"])
    return found


def texts_of(folder: Path) -> list[str]:
    return [f"--queries={folder / 'queries.tsv'}", f"--passages={folder / 'passages.tsv'}"]


@pytest.mark.parametrize("shape", RUNS)
def test_runs_of_all_shapes_are_the_same_run(folder: Path, shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run").write_text(RUNS[shape])
    assert prepared(folder, f"--run={folder / 'run'}", *texts_of(folder)) == ORDER
    flags = [f"--qrels={folder / 'qrels'}", f"--ranking={folder / 'run'}", "--measures=RR@10"]
    assert execute(["evaluate", *flags, f"--json={folder / 'found'}"]) == ExitCode.DONE
    assert json.loads((folder / "found").read_text())["RR@10"]["reranked"] == pytest.approx((1 / 2 + 1) / 2)
    assert ("its columns are read as" in capsys.readouterr().out) == (not shape.startswith("TREC"))


def test_mine_draws_from_a_run_with_ranks_alone(folder: Path) -> None:
    (folder / "run").write_text("q1\td3\t2\nq1\td2\t1\nq2\td1\t1\nq2\td2\t2\n")
    flags = [f"--qrels={folder / 'qrels'}", "--source=run", f"--run={folder / 'run'}", "--count=1", "--ranks=1-1"]
    assert execute(["mine", *texts_of(folder), *flags, f"--output={folder / 'mined'}"]) == ExitCode.DONE
    rows = pq.read_table(next((folder / "mined").glob("*.parquet"))).to_pylist()
    assert [(row["query_id"], row["doc_id"], row["source"]) for row in rows if not row["label"]] == [
        ("q1", "d2", "run"), ("q2", "d1", "run"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 d1 1\nq1 d2 1\nq2 d3 1\n", "two documents of the same rank: is it a file of judgements"),
        ("q1 d1 7187158\nq1 d2 22\n", "the lowest is 22, not 0 or 1"),
        ("q1 d1 3\nq1 d2 2\nq1 d3 1\n", "falls from line to line"),
        ("q1 d1 -1\nq1 d2 -2\n", "the lowest is -2"),
        ("q1 Q0 d1 9 1 t\nq1 Q0 d2 8 2 t\nq1 Q0 d3 5 3 t\n", "the scores are 1, 2, 3, … and the ranks not"),
        ("q1 Q0 d1 9 1 t\nq1 Q0 d2 8.5 2 t\nq1 Q0 d3 7 3 t\n", "line 2: .* column 4, the rank, is '8.5'"),
        ("q1 d1 9\nq1 d2 8.5\nq1 d3 7\n", "line 2: .* column 3, the rank, is '8.5'"),
        ("q1 Q0 d1 1 .1 t\nq1 Q0 d2 2 .2 t\nq1 Q0 d3 3 .3 t\n", "the best scores have the worst ranks"),
        ("7 0 7187158 1\n7 0 22 0\n", "it looks like TREC qrels"),
        ("q1,d1,1\nq1,d2,2\n", "line 1: 'q1,d1,1'; a first line that names the columns"),
        ("q1 Q0 d1 12.5 1 t\nq1 Q0 d2 11.5 2 t\n", "column 4, the rank, is '12.5', not a whole number"),
        ("q1 Q0 d1 1 2.5 t\nfoo\nbar\nbaz\n", "line 2: 'foo', 1 columns, not 6"),
        ("q1 Q0 d1 1 1_0 t\n", "column 5, the score, is '1_0'"),
        ("q1 Q0 d1 1 ١ t\n", "column 5, the score, is '١'"),
        ("qid docno\nq1 d1\n", "the columns are qid, docno: none of them is the score or rank"),
        ("qid docno docid rank\nq1 d1 5 1\n", "more than one is the doc_id"),
    ],
)
def test_what_is_no_run_is_refused_with_what_was_seen(folder: Path, content: str, message: str) -> None:
    (folder / "run").write_text(content)
    with pytest.raises(InputError, match=message):
        load_run(str(folder / "run"), Report())


@pytest.mark.parametrize("shape", QRELS)
def test_judgements_of_all_shapes_are_the_same(folder: Path, shape: str) -> None:
    (folder / "qrels").write_text(QRELS[shape])
    assert load_qrels(str(folder / "qrels")).grades == GRADES


@pytest.mark.parametrize("ids", [pa.string(), pa.large_string(), pa.int64(), pa.uint32()])
@pytest.mark.parametrize("grade", [pa.int64(), pa.int8(), pa.float64(), pa.float32()])
def test_judgements_in_parquet(folder: Path, ids: pa.DataType, grade: pa.DataType, name: str = "test.parquet") -> None:
    columns = {"query-id": pa.array(["1", "1", "2"]).cast(ids), "corpus-id": pa.array(["0", "7", "8"]).cast(ids)}
    pq.write_table(pa.table(columns | {"score": pa.array([1, 0, 2]).cast(grade)}), folder / name)
    assert load_qrels(str(folder / name)).grades == {"1": {"0": 1, "7": 0}, "2": {"8": 2}}
    (folder / name).rename(folder / "0123abcd")  # as a cache of the hub calls it
    assert load_qrels(str(folder / "0123abcd")).grades == {"1": {"0": 1, "7": 0}, "2": {"8": 2}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": [0.5]}, "the grade is 0.5, not a whole number"),
        ({"score": [float("nan")]}, "the grade is nan"),
        ({"score": [7187158]}, "beyond 10,000"),
        ({"score": ["1"]}, "row 1: there is no one number under score"),
        ({"score": [None]}, "row 1: there is no one number under score"),
        ({"score": [True]}, "row 1: there is no one number under score"),
        ({"label": [2]}, "row 1: there is no one number under score or label"),
        ({"corpus-id": [3.0]}, "row 1: 'corpus-id' is 3.0"),
        ({"query-id": [None]}, "row 1: "),
    ],
)
def test_judgements_in_parquet_that_are_none_are_refused(folder: Path, change: dict[str, Any], message: str) -> None:
    pq.write_table(pa.table({"query-id": ["1"], "corpus-id": ["3"], "score": [1]} | change), folder / "q.parquet")
    with pytest.raises(InputError, match=f"q.parquet.*{message}"):
        load_qrels(str(folder / "q.parquet"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q1 0 d1 0.5\nq1 0 d2 0.25\n", "column 4, the grade, is '0.5', not a whole number"),
        ("q1 0 d1 1 1\nq1 0 d2 1 0\n", "a first line that names the columns says which is which"),
        ("1 0 7 1 1\n1 0 8 0 1\n", "a first line that names the columns says which is which"),
        (RUNS["ColBERT"], "a first line that names the columns says which is which|column"),
        (RUNS["TREC"], "it looks like a TREC run"),
        ("".join(f"q\td{rank}\t{rank}\n" for rank in range(1, 20)), "they are ranks; is it a run"),
        ("query-id\tcorpus-id\tscore\tlabel\nq1\td1\t1\t1\n", "more than one is the grade"),
        ("query-id\tcorpus-id\nq1\td1\n", "none of them is the grade"),
        ("q1\td1\t1\nq1\td2\t1_0\n", "line 2: malformed line: column 3, the grade, is '1_0'"),
        ('"qid" "docno" "rel"\n"q1" "d1" 1\n"q1" "d2 0\n', "line 3: malformed line: its quotes do not close"),
        ('"q1" 0 "d1" "1"\n', "column 4, the grade, is '\"1\"'"),
    ],
)
def test_what_are_no_judgements_is_refused_with_what_was_seen(folder: Path, content: str, message: str) -> None:
    (folder / "qrels").write_text(content)
    flags = [f"--ranking={folder / 'run'}", f"--qrels={folder / 'qrels'}"]
    with pytest.raises(InputError, match=message):
        load_qrels(str(folder / "qrels"))
    assert execute(["evaluate", *flags]) == ExitCode.REFUSED


IDS = st.text(st.sampled_from("aB0\u00a0\u2003é\x1f\x0b"), min_size=1, max_size=4)


@given(st.dictionaries(IDS, st.lists(IDS, min_size=1, unique=True), min_size=1), st.sampled_from(["\t", " ", " \t"]))
def test_only_spaces_and_tabs_part_columns(tmp_path_factory: Any, ranked: dict[str, list[str]], between: str) -> None:
    folder = tmp_path_factory.mktemp("ids")
    rows = [(query, "Q0", doc, rank, -rank, "t") for query, docs in ranked.items() for rank, doc in enumerate(docs, 1)]
    (folder / "run").write_bytes("".join(between.join(map(str, row)) + "\n" for row in rows).encode())
    report = Report()
    run = load_run(str(folder / "run"), report)
    assert not report.rejects.counts
    assert {query: list(found.doc_ids) for query, found in run.items()} == ranked
    judged = [(query, 0, doc, rank % 2) for query, _, doc, rank, *_ in rows]
    (folder / "qrels").write_bytes("".join(between.join(map(str, row)) + "\n" for row in judged).encode())
    assert {query: list(found) for query, found in load_qrels(str(folder / "qrels")).grades.items()} == ranked


def test_a_top_1000_file_is_taken_for_pairs(folder: Path) -> None:
    (folder / "top1000.tsv").write_text(TOP_1000)
    assert prepared(folder, f"--pairs={folder / 'top1000.tsv'}") == {"q1": ["d1", "d2", "d3"], "q2": ["d3"]}


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        ("", "{query}\t{text}\t{doc}\t{passage}"),
        ("", "{query}\t{doc}\t{text}\t{passage}"),
        ("qid\tpid\tquery\tpassage\n", "{query}\t{doc}\t{text}\t{passage}"),
        ("passage\tquery\tpid\tqid\n", "{passage}\t{text}\t{doc}\t{query}"),
    ],
)
@pytest.mark.parametrize("word", ["red", "what is red"])
def test_pairs_in_either_order_also_where_queries_are_single_words(
    folder: Path, header: str, columns: str, word: str
) -> None:
    rows = [columns.format(query="q1", text=word, doc=doc, passage=text) for doc, text in TEXTS.items()]
    (folder / "pairs.tsv").write_text(header + "\n".join(rows) + "\n")
    flags = [f"--pairs={folder / 'pairs.tsv'}", f"--output={folder / 'candidates'}"]
    assert execute(["prepare", *flags]) == ExitCode.DONE
    (row,) = pq.read_table(next((folder / "candidates").glob("*.parquet"))).to_pylist()
    assert (row["query_id"], row["query"]) == ("q1", word)
    assert {one["doc_id"]: one["text"] for one in row["candidates"]} == TEXTS


@pytest.mark.parametrize(
    "columns",
    ["{query}\t{doc}\t{passage}\t{text}", "{passage}\t{text}\t{query}\t{doc}", "{text}\t{query}\t{passage}\t{doc}"],
)
def test_pairs_in_an_order_that_is_not_known_are_refused(folder: Path, columns: str, capsys: Any) -> None:
    rows = [columns.format(query="q1", text=QUERIES["q1"], doc=doc, passage=text) for doc, text in TEXTS.items()]
    (folder / "pairs.tsv").write_text("\n".join(rows) + "\n")
    assert execute(["prepare", f"--pairs={folder / 'pairs.tsv'}", f"--output={folder / 'out'}"]) == ExitCode.REFUSED
    assert re.search(r"pairs.tsv, line 1: .*the columns are neither .* nor ", capsys.readouterr().err)
    assert not list(folder.glob("out/*.parquet"))


@pytest.mark.parametrize(
    ("given_as", "kind"),
    [
        (given_as, kind)
        for given_as, own in (
            ("queries", ("texts",)), ("passages", ("texts",)), ("run", ("run",)), ("qrels", ("judgements",)),
            ("pairs", ("top-1000", "documents")), ("input", ()),
        )
        for kind in FOREIGN
        if kind not in own
    ],
)  # fmt: skip
def test_files_of_another_kind_are_refused_wherever_they_are_given(
    folder: Path, given_as: str, kind: str, capsys: Any
) -> None:
    content, looks = FOREIGN[kind]
    foreign = folder / "foreign.tsv"
    foreign.write_text(content)
    if given_as == "input":
        with pytest.raises(InputError, match=r"foreign\.tsv"):
            load_training_pairs(str(foreign), None)
        return
    flags = {
        "queries": ["--bm25=2", f"--queries={foreign}", f"--passages={folder / 'passages.tsv'}"],
        "passages": ["--bm25=2", f"--queries={folder / 'queries.tsv'}", f"--passages={foreign}"],
        "run": [f"--run={foreign}", *texts_of(folder)],
        "qrels": ["--bm25=2", f"--qrels={foreign}", *texts_of(folder)],
        "pairs": [f"--pairs={foreign}"],
    }[given_as]
    assert execute(["prepare", *flags, f"--output={folder / 'out'}"]) == ExitCode.REFUSED
    told = capsys.readouterr().err
    assert "foreign.tsv" in told and (looks in told or given_as == "pairs")
    assert not list(folder.glob("out/*.parquet"))


def test_texts_with_the_id_behind_are_refused(folder: Path, capsys: Any) -> None:
    (folder / "passages.tsv").write_text("".join(f"{text}\t{key}\n" for key, text in TEXTS.items()))
    flags = ["--bm25=2", *texts_of(folder), f"--output={folder / 'out'}"]
    assert execute(["prepare", *flags]) == ExitCode.REFUSED
    assert "column 1 should be the id and holds a text ('the red one" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TRIPLES, "is no header; it looks like triples"),
        (TOP_1000, "is no header; it looks like MS MARCO's top-1000"),
        ("query\tpositive\tnegative\n" + TRIPLES, "triples are read as a row for each pair"),
    ],
)
def test_triples_are_no_training_pairs(folder: Path, content: str, message: str) -> None:
    (folder / "train.tsv").write_text(content)
    with pytest.raises(InputError, match=message):
        load_training_pairs(str(folder / "train.tsv"), None)


@pytest.mark.parametrize("form", ["{query}\t{doc}\t{text}\t{passage}", "{query}\t{text}\t{doc}\t{passage}"])
@pytest.mark.parametrize("order", list(permutations(range(4))), ids=str)
def test_pairs_in_any_order_are_read_right_or_refused(folder: Path, form: str, order: tuple[int, ...]) -> None:
    """Where ids and texts have changed places alike, only the lengths of the texts tell."""
    passages = {key: f"{text}, as long as passages are" for key, text in TEXTS.items()}
    rows = [form.format(query=query, text=QUERIES[query], doc=doc, passage=passages[doc]) for query, doc, *_ in PLACES]
    lines = ["\t".join(row.split("\t")[at] for at in order) for row in rows]
    (folder / "pairs.tsv").write_text("\n".join(lines) + "\n")
    code = execute(["prepare", f"--pairs={folder / 'pairs.tsv'}", f"--output={folder / 'out'}"])
    found = [row for file in folder.glob("out/*.parquet") for row in pq.read_table(file).to_pylist()]
    assert code == (ExitCode.DONE if found else ExitCode.REFUSED)
    assert found or order != tuple(range(4))
    assert all(row["query"] == QUERIES[row["query_id"]] for row in found)
    assert all(one["text"] == passages[one["doc_id"]] for row in found for one in row["candidates"])


@pytest.mark.parametrize("shape", ["three, scores", "MS MARCO", "ColBERT", "five, no Q0", "five, no tag"])
def test_runs_in_any_order_are_read_right_or_refused(folder: Path, shape: str) -> None:
    """Right, or with ids that are not the queries', which every job refuses."""
    rows = [line.split() for line in RUNS[shape].splitlines()]
    for order in permutations(range(len(rows[0]))):
        (folder / "run").write_text("".join("\t".join(row[at] for at in order) + "\n" for row in rows))
        try:
            report = Report()
            run = load_run(str(folder / "run"), report)
            assert not report.rejects.counts
        except InputError:
            assert order != tuple(range(len(order)))
            continue
        found = {query: list(ranked.doc_ids) for query, ranked in run.items()}
        assert found == ORDER or not found.keys() & QUERIES.keys()


MALFORMED = "no row at all\n"


@pytest.mark.parametrize("bad", [1, 3])
def test_a_few_malformed_lines_cost_their_rows_and_most_the_file(folder: Path, bad: int, capsys: Any) -> None:
    """Also behind a line of names, and where the sample at the beginning is good."""
    given = {
        "run": ["qid docno rank\nq1 d1 1\nq2 d3 1\n", ["--run={}", *texts_of(folder)]],
        "pairs.tsv": [TOP_1000.splitlines(keepends=True)[0] * 2, ["--pairs={}"]],
        "passages.tsv": ["d1\tthe red one\nd3\tthe green one\n", ["--passages={}", "--bm25=2", texts_of(folder)[0]]],
        "train.tsv": ["query\tdocument\tlabel\nred\tthe red one\t1\nblue\tthe red one\t0\n", []],
    }
    for name, (good, flags) in given.items():
        (folder / name).write_text(good + MALFORMED * bad)
        if name == "train.tsv":
            if bad == 1:
                assert load_training_pairs(str(folder / name), None).left_out == {"malformed line": 1}
            else:
                with pytest.raises(InputError, match=r"train\.tsv is not"):
                    load_training_pairs(str(folder / name), None)
            continue
        output = folder / f"{name}-{bad}"
        code = execute(["prepare", *(flag.format(folder / name) for flag in flags), f"--output={output}"])
        told = capsys.readouterr()
        if bad == 1:
            assert (code, "malformed line" in told.out) == (ExitCode.DONE_WITH_ERRORS, True)
        else:
            assert (code, f"{name} is not" in told.err) == (ExitCode.REFUSED, True)
            assert not list(output.glob("*.parquet"))
        (folder / "passages.tsv").write_text("".join(f"{key}\t{text}\n" for key, text in TEXTS.items()))
