import gzip
import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs import shards as prepared_folder
from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from support.command import execute
from support.paths import SHARED

DATA = SHARED / "data"

RUN = "q1 Q0 d2 1 9.5 t\nq1 Q0 d1 2 9 t\nq2 Q0 d3 1 4 t\nq2 Q0 d1 2 3 t\nq2 Q0 d2 3 2 t\n"
QUERIES = "q1\twhat is red\nq2\twhat is blue\n"
PASSAGES = "d1\tthe red one\nd2\tthe blue one\nd3\tthe green one\n"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "run.trec").write_text(RUN)
    (tmp_path / "queries.tsv").write_text(QUERIES)
    (tmp_path / "passages.tsv").write_text(PASSAGES)
    return tmp_path


def prepare(folder: Path, *flags: str, output: str = "candidates") -> int:
    return execute(["prepare", *flags, "--output", str(folder / output)])


def with_run(folder: Path, *flags: str, output: str = "candidates") -> int:
    named = [f"--{name}={folder / file}" for name, file in
             (("run", "run.trec"), ("queries", "queries.tsv"), ("passages", "passages.tsv"))]  # fmt: skip
    return prepare(folder, *named, *flags, output=output)


def shards(folder: Path, output: str = "candidates") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / output).glob("*.parquet"))}


def found(folder: Path, output: str = "candidates") -> dict[str, list[str]]:
    tables = [pq.read_table(folder / output / name) for name in shards(folder, output)]
    rows = pa.concat_tables(tables).to_pylist()
    return {row["query_id"]: [candidate["doc_id"] for candidate in row["candidates"]] for row in rows}


def left_out(folder: Path) -> list[tuple[str, int | None, str]]:
    rows = pq.read_table(folder / "candidates" / "_errors" / "prepare.parquet").to_pylist()
    return [(Path(row["file"]).name, row["line"], row["reason"]) for row in rows]


def test_a_run_with_its_texts_becomes_candidate_shards(files: Path) -> None:
    assert with_run(files) == ExitCode.DONE
    assert list(shards(files)) == ["candidates-00000-of-00001.parquet"]
    table = pq.read_table(files / "candidates" / "candidates-00000-of-00001.parquet")
    assert table.schema.equals(CANDIDATE_SCHEMA)
    assert table.to_pylist()[0] == {
        "query_id": "q1",
        "query": "what is red",
        "candidates": [
            {"doc_id": "d2", "text": "the blue one", "score": 9.5},
            {"doc_id": "d1", "text": "the red one", "score": 9.0},
        ],
    }
    assert not (files / "candidates" / "_errors").exists()


def test_compressed_windows_and_json_files_give_the_same_shards(files: Path) -> None:
    with_run(files)
    (files / "run.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + RUN.replace("\n", "\r\n").encode()))
    queries = [{"_id": key, "text": text} for key, text in (line.split("\t") for line in QUERIES.splitlines())]
    (files / "queries.jsonl").write_text("\n\n".join(map(json.dumps, queries)))
    (files / "passages.tsv.gz").write_bytes(gzip.compress(("id\ttext\n" + PASSAGES.rstrip()).encode()))
    flags = [f"--run={files / 'run.gz'}", f"--queries={files / 'queries.jsonl'}"]
    assert prepare(files, *flags, f"--passages={files / 'passages.tsv.gz'}", output="other") == ExitCode.DONE
    assert shards(files, "other") == shards(files)


def test_the_same_input_gives_byte_identical_shards_of_the_size_asked_for(files: Path) -> None:
    for output in ("one", "two"):
        assert with_run(files, "--shard-queries=1", "--random=1", "--seed=3", output=output) == ExitCode.DONE
    assert list(shards(files, "one")) == ["candidates-00000-of-00002.parquet", "candidates-00001-of-00002.parquet"]
    assert shards(files, "one") == shards(files, "two")


def test_depth_cuts_the_run(files: Path) -> None:
    assert with_run(files, "--depth=1") == ExitCode.DONE
    assert found(files) == {"q1": ["d2"], "q2": ["d3"]}


def test_lines_that_cannot_be_used_cost_themselves_and_the_exit_code_says_so(files: Path, capsys: Any) -> None:
    (files / "run.trec").write_text(
        RUN + "q1 Q0 d1\nq1 Q0 gone 3 1 t\nq9 Q0 d1 1 1 t\nq2 Q0 d3 4 1 t\nq1 Q0 d\udcff 5 1 t\n",
        errors="surrogateescape",
    )
    assert with_run(files) == ExitCode.DONE_WITH_ERRORS
    assert found(files) == {"q1": ["d2", "d1"], "q2": ["d3", "d1", "d2"]}
    assert sorted(left_out(files)) == [
        ("run.trec", 6, "malformed line"),
        ("run.trec", 7, "unknown doc_id"),
        ("run.trec", 8, "unknown query_id"),
        ("run.trec", 9, "duplicate doc_id in a query"),
        ("run.trec", 10, "not valid UTF-8"),
    ]
    printed = capsys.readouterr().out
    assert "left out: 1 x unknown doc_id" in printed
    assert f"{files / 'run.trec'}, line 7: unknown doc_id" in printed


def test_a_run_whose_ranks_contradict_its_scores_is_mentioned(files: Path, capsys: Any) -> None:
    (files / "run.trec").write_text("q1 Q0 d1 1 1 t\nq1 Q0 d2 2 2 t\n")
    assert with_run(files) == ExitCode.DONE
    assert found(files) == {"q1": ["d2", "d1"]}
    printed = capsys.readouterr().out
    assert "the ranks of 1 queries contradict their scores (first 'q1')" in printed
    assert "1 of 2 queries have no candidate" in printed


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 9)), min_size=1),
    st.sets(st.integers(0, 9), min_size=1),
)
def test_the_candidates_are_exactly_the_pairs_of_the_run_that_have_text(
    tmp_path: Path, pairs: set[tuple[int, int]], texts: set[int]
) -> None:
    (tmp_path / "run.trec").write_text("".join(f"q{q} Q0 d{d} {d} {-d} t\n" for q, d in pairs))
    (tmp_path / "queries.tsv").write_text("".join(f"q{q}\tquery {q}\n" for q in range(5)))
    (tmp_path / "passages.tsv").write_text("".join(f"d{d}\ttext {d}\n" for d in texts))
    code = with_run(tmp_path, "--overwrite", "--shard-queries=2")
    expected = {(f"q{q}", f"d{d}") for q, d in pairs if d in texts}
    if not expected:
        assert code == ExitCode.REFUSED
        return
    assert code == (ExitCode.DONE if len(expected) == len(pairs) else ExitCode.DONE_WITH_ERRORS)
    assert {(query, doc) for query, docs in found(tmp_path).items() for doc in docs} == expected


def test_random_passages_follow_the_candidates_without_a_score(files: Path) -> None:
    assert with_run(files, "--random=5") == ExitCode.DONE
    assert found(files) == {"q1": ["d2", "d1", "d3"], "q2": ["d3", "d1", "d2"]}
    (row, _) = pq.read_table(files / "candidates" / "candidates-00000-of-00001.parquet").to_pylist()
    assert [candidate["score"] for candidate in row["candidates"]] == [9.5, 9.0, None]


def test_a_corpus_without_a_run_gets_bm25_candidates(files: Path) -> None:
    flags = ["--bm25=2", f"--queries={files / 'queries.tsv'}", f"--passages={files / 'passages.tsv'}"]
    assert prepare(files, *flags) == ExitCode.DONE
    assert found(files) == {"q1": ["d1"], "q2": ["d2"]}


def test_only_judged_queries_are_prepared_where_judgements_are_given(files: Path, capsys: Any) -> None:
    (files / "qrels.txt").write_text("q2 0 d3 1\n")
    qrels = f"--qrels={files / 'qrels.txt'}"
    assert with_run(files, qrels) == ExitCode.DONE
    assert found(files) == {"q2": ["d3", "d1", "d2"]}
    assert "1 of 2 queries are judged in" in capsys.readouterr().out
    texts = [f"--{name}={files / name}.tsv" for name in ("queries", "passages")]
    assert prepare(files, *texts, "--bm25=5", qrels, output="bm25") == ExitCode.DONE
    assert set(found(files, "bm25")) == {"q2"}


def test_a_query_without_a_hit_is_reported(files: Path) -> None:
    (files / "queries.tsv").write_text("q1\tred\nq2\tzebra\n")
    flags = ["--bm25=2", f"--queries={files / 'queries.tsv'}", f"--passages={files / 'passages.tsv'}"]
    assert prepare(files, *flags) == ExitCode.DONE_WITH_ERRORS
    assert found(files) == {"q1": ["d1"]}
    assert left_out(files) == [("queries.tsv", None, "no passage shares a word with the query")]


@pytest.fixture
def beir(files: Path) -> Path:
    folder = files / "beir"
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{i}", "title": "T", "text": text} for i, text in enumerate(("red", "blue", "green"), 1)]
    (folder / "corpus.jsonl").write_text("\n".join(map(json.dumps, corpus)))
    queries = [{"_id": "q1", "text": "red"}, {"_id": "q2", "text": "blue"}, {"_id": "q3", "text": "green"}]
    (folder / "queries.jsonl").write_text("\n".join(map(json.dumps, queries)))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\td1\t1\n")
    (folder / "qrels" / "dev.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td2\t1\nq3\td3\t1\n")
    return files


def test_a_beir_folder_gives_the_queries_of_its_split(beir: Path, capsys: Any) -> None:
    assert prepare(beir, f"--beir={beir / 'beir'}", "--bm25=5") == ExitCode.DONE
    assert found(beir) == {"q1": ["d1"]}
    assert "1 of 3 queries are judged in" in capsys.readouterr().out
    assert prepare(beir, f"--beir={beir / 'beir'}", "--bm25=5", "--split=dev", output="dev") == ExitCode.DONE
    assert found(beir, "dev") == {"q2": ["d2"], "q3": ["d3"]}
    (beir / "beir" / "qrels" / "test.tsv").unlink()
    assert prepare(beir, f"--beir={beir / 'beir'}", "--bm25=5", output="all") == ExitCode.DONE
    assert len(found(beir, "all")) == 3


def test_a_beir_folder_may_come_with_a_run(beir: Path) -> None:
    (beir / "run.trec").write_text("q1 Q0 d3 1 2 t\nq1 Q0 d1 2 1 t\nq2 Q0 d1 1 1 t\n")  # q2 is not judged
    assert prepare(beir, f"--beir={beir / 'beir'}", f"--run={beir / 'run.trec'}") == ExitCode.DONE
    assert found(beir) == {"q1": ["d3", "d1"]}


def test_a_split_that_is_not_there_is_refused_with_those_that_are(beir: Path, capsys: Any) -> None:
    assert prepare(beir, f"--beir={beir / 'beir'}", "--bm25=5", "--split=train") == ExitCode.REFUSED
    assert "holds no qrels/train.tsv; it has dev.tsv, test.tsv" in capsys.readouterr().err


def test_flat_pairs_of_several_files_are_gathered(files: Path) -> None:
    folder = files / "pairs"
    folder.mkdir()
    columns = {"query_id": ["q1", "q2"], "query": ["red", "blue"], "doc_id": ["a", "a"], "text": ["A", "A"]}
    pq.write_table(pa.table(columns | {"score": [1.0, 2.0]}), folder / "1.parquet")
    (folder / "2.tsv").write_text("q1\tred\tb\tB\t5\nq1\tred\tc\t\t4\n")
    assert prepare(files, f"--pairs={folder}") == ExitCode.DONE_WITH_ERRORS
    assert found(files) == {"q1": ["b", "a"], "q2": ["a"]}
    assert left_out(files) == [("2.tsv", 2, "empty text")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.trec", "", "run.trec holds no line; it should be a TREC run"),
        ("run.trec", "q1 0 d1 1\n", "run.trec is not a TREC run .*: line 1: 'q1 0 d1 1'.*; it looks like TREC qrels"),
        ("run.trec", "x Q0 d1 1 1 t\n", "none of the 1 query ids"),
        ("run.trec", "q1 Q0 x 1 1 t\n", "none of the documents of .*run.trec .first 'x'. has a text in"),
        ("queries.tsv", "", "queries.tsv: holds no query"),
        ("queries.tsv", "q1 what is red\n", "queries.tsv is not TSV of id<TAB>text: line 1: no tab"),
        ("passages.tsv", "{}\n", "passages.tsv is not TSV"),
        ("passages.tsv", "PK\x03\x04", "is a ZIP archive"),
    ],
)
def test_a_file_that_cannot_be_used_refuses_the_job_and_writes_nothing(
    files: Path, capsys: Any, name: str, content: str, message: str
) -> None:
    (files / name).write_text(content)
    assert with_run(files) == ExitCode.REFUSED
    assert re.search(message, capsys.readouterr().err)
    assert not shards(files)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "give one"),
        (["--run=x", "--bm25=3"], "give one"),
        (["--bm25=3"], "--queries FILE and --passages FILE"),
        (["--bm25=3", "--queries=x"], "--queries FILE and --passages FILE"),
        (["--beir=x", "--queries=x", "--bm25=3"], "leave out --queries"),
        (["--pairs=x", "--run=x"], "give no other source"),
        (["--pairs=x", "--random=2"], "give no other source"),
        (["--run=x", "--queries=x", "--passages=x", "--split=test"], "--beir folder"),
        (["--bm25=3", "--depth=3", "--beir=x"], "leave out --depth"),
        (["--bm25=0", "--beir=x"], "greater than or equal to 1"),
        (["--beir=/nowhere", "--bm25=1"], "/nowhere: there is no such folder"),
        (["--pairs=/nowhere"], "/nowhere: there is no such file"),
        (["--run=/", "--queries=/", "--passages=/"], "/: is a folder"),
        (["--run=/nowhere", "--queries=/nowhere", "--passages=/nowhere"], "/nowhere: there is no such file"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(tmp_path: Path, capsys: Any, flags: list[str], message: str) -> None:
    assert prepare(tmp_path, *flags) == ExitCode.REFUSED
    assert message in capsys.readouterr().err


def test_another_prepare_on_the_same_folder_is_refused_until_it_may_overwrite(files: Path, capsys: Any) -> None:
    assert with_run(files, "--shard-queries=1") == ExitCode.DONE
    before = shards(files)
    assert with_run(files, "--depth=1") == ExitCode.REFUSED
    assert "add --overwrite" in capsys.readouterr().err
    assert shards(files) == before
    assert with_run(files, "--depth=1", "--overwrite") == ExitCode.DONE
    assert list(shards(files)) == ["candidates-00000-of-00001.parquet"]
    assert found(files) == {"q1": ["d2"], "q2": ["d3"]}


def test_changed_input_is_another_prepare(files: Path) -> None:
    assert with_run(files) == ExitCode.DONE
    (files / "run.trec").write_text(RUN + "q1 Q0 d3 3 1 t\n")
    assert with_run(files) == ExitCode.REFUSED


def test_the_same_prepare_again_has_nothing_to_do_and_says_the_same(files: Path, capsys: Any) -> None:
    (files / "run.trec").write_text(RUN + "q1 Q0 gone 3 1 t\n")
    assert with_run(files) == ExitCode.DONE_WITH_ERRORS
    written = {path: path.stat().st_mtime_ns for path in (files / "candidates").rglob("*")}
    capsys.readouterr()
    assert with_run(files) == ExitCode.DONE_WITH_ERRORS
    assert "already prepared" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in (files / "candidates").rglob("*")} == written


def test_a_prepare_that_was_cut_off_is_finished_by_the_same_command(files: Path) -> None:
    assert with_run(files, "--shard-queries=1") == ExitCode.DONE
    whole = shards(files)
    folder = files / "candidates"
    manifest = json.loads((folder / "_prepare.json").read_text())
    (folder / "_prepare.json").write_text(json.dumps({"identity": manifest["identity"], "complete": False}))
    (folder / "candidates-00001-of-00002.parquet").unlink()
    assert with_run(files, "--depth=1") == ExitCode.REFUSED
    assert with_run(files, "--shard-queries=1") == ExitCode.DONE
    assert shards(files) == whole


def test_files_of_others_are_never_removed(files: Path, capsys: Any) -> None:
    (files / "candidates").mkdir()
    (files / "candidates" / "thesis.parquet").write_text("mine")
    assert with_run(files, "--overwrite") == ExitCode.REFUSED
    assert "holds files that prepare did not write (thesis.parquet)" in capsys.readouterr().err
    assert (files / "candidates" / "thesis.parquet").read_text() == "mine"


def test_an_output_that_is_a_file_is_refused(files: Path) -> None:
    (files / "candidates").write_text("")
    assert with_run(files) == ExitCode.REFUSED


@pytest.mark.skipif(not DATA.exists(), reason="needs the test collections beside the project (shared/data)")
def test_dl20_is_prepared_whole(tmp_path: Path) -> None:
    folder = DATA / "dl20"
    flags = [f"--run={folder / 'run.bm25.trec'}", f"--queries={folder / 'queries.tsv'}"]
    assert prepare(tmp_path, *flags, f"--passages={folder / 'passages.tsv'}") == ExitCode.DONE
    docs = found(tmp_path)
    assert len(docs) == 54
    assert sum(map(len, docs.values())) == 5400


@pytest.mark.parametrize("name", ["run.trec", "queries.tsv", "passages.tsv"])
def test_a_file_that_is_replaced_while_all_are_read_is_refused(
    files: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    begin = prepared_folder.begin

    def later(claim: prepared_folder.Claim) -> None:
        (files / name).write_bytes((files / name).read_bytes() + b"x")
        begin(claim)

    monkeypatch.setattr(prepared_folder, "begin", later)
    assert with_run(files) == ExitCode.REFUSED
    assert f"{name}: has changed since the job first looked at it (size was" in capsys.readouterr().err
    assert not shards(files)


@pytest.fixture
def own_queries(tmp_path: Path) -> Path:
    """A BEIR folder in which d1 is the query d1 by id, and copy has its text."""
    folder = tmp_path / "arguana"
    (folder / "qrels").mkdir(parents=True)
    corpus = {
        "d1": "red cats sleep",
        "copy": "red  cats sleep",
        "d2": "red cats",
        "d3": "red dogs",
        "d4": "cats run fast at night",
    }
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"_id": k, "text": v}) + "\n" for k, v in corpus.items()))
    (folder / "queries.jsonl").write_text(json.dumps({"_id": "d1", "text": corpus["d1"]}) + "\n")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nd1\td2\t1\n")
    (tmp_path / "run.trec").write_text("".join(f"d1 Q0 {d} {n} {9 - n} t\n" for n, d in enumerate(corpus, 1)))
    return folder


@pytest.mark.parametrize(
    ("more", "expected", "said"),
    [
        ((), ["copy", "d2", "d3"], "1 pairs of a query and itself (by id) are dropped; the collection is known"),
        (("--drop-self=off",), ["d1", "copy", "d2"], ""),
        (("--drop-self=text",), ["d2", "d3", "d4"], "2 pairs of a query and itself (by text) are dropped"),
        (("--drop-self=both",), ["d2", "d3", "d4"], "2 pairs of a query and itself (by id or text) are dropped"),
    ],
)
@pytest.mark.parametrize("first_stage", ["run", "bm25"])
def test_a_document_that_is_its_own_query_is_dropped_and_the_depth_is_of_the_others(
    own_queries: Path, capsys: Any, more: tuple[str, ...], expected: list[str], said: str, first_stage: str
) -> None:
    run = ("--bm25=3",) if first_stage == "bm25" else (f"--run={own_queries.parent / 'run.trec'}", "--depth=3")
    assert prepare(own_queries, f"--beir={own_queries}", *run, *more, output="../c") == ExitCode.DONE
    assert found(own_queries, "../c") == {"d1": expected}
    printed = capsys.readouterr().out
    assert said in printed and bool(said) == ("itself" in printed)


@pytest.mark.parametrize("seed", range(3))
def test_no_random_passage_is_the_query_itself(own_queries: Path, seed: int) -> None:
    (own_queries.parent / "run.trec").write_text("d1 Q0 d2 1 1 t\n")
    flags = (f"--beir={own_queries}", f"--run={own_queries.parent / 'run.trec'}", "--drop-self=both", f"--seed={seed}")
    assert prepare(own_queries, *flags, "--random=2", output="../c") == ExitCode.DONE
    assert sorted(found(own_queries, "../c")["d1"]) == ["d2", "d3", "d4"]


def test_a_query_with_no_candidate_but_itself_is_refused_with_the_way_out(own_queries: Path, capsys: Any) -> None:
    (own_queries.parent / "run.trec").write_text("d1 Q0 d1 1 1 t\n")
    flags = (f"--beir={own_queries}", f"--run={own_queries.parent / 'run.trec'}")
    assert prepare(own_queries, *flags, output="../c") == ExitCode.REFUSED
    assert "--drop-self off" in capsys.readouterr().err


@pytest.mark.parametrize("rule", ["id", "text", "off"])
def test_flat_pairs_of_a_query_and_itself_are_dropped(tmp_path: Path, capsys: Any, rule: str) -> None:
    rows = [("1", "red", "1", "red cat"), ("1", "red", "2", "red "), ("1", "red", "3", "blue")]
    (tmp_path / "pairs.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    assert prepare(tmp_path, f"--pairs={tmp_path / 'pairs.tsv'}", f"--drop-self={rule}") == ExitCode.DONE
    assert found(tmp_path)["1"] == {"id": ["2", "3"], "text": ["1", "3"], "off": ["1", "2", "3"]}[rule]
    assert ("1 pairs of a query and itself" in capsys.readouterr().out) == (rule != "off")
