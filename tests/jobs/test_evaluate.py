import json
import re
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st

from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here
from support.paths import SHARED
from support.trial import fuzz, try_command

DL20 = SHARED / "data" / "dl20"

PLACE = pa.struct(
    [("doc_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32()), ("first_stage_rank", pa.int32())]
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """q1: a rises from 2 to 1; q2: b falls from 1 to 3; q3 is judged and not ranked; q9 ranked, not judged."""
    (tmp_path / "qrels.txt").write_text("q1 0 a 2\nq2 0 b 1\nq3 0 c 1\n")
    (tmp_path / "reranked" / "_run").mkdir(parents=True)
    write(tmp_path / "reranked" / "part-0.parquet", {"q1": [("a", 2), ("x", 1)], "q9": [("a", 1)]})
    write(tmp_path / "reranked" / "part-1.parquet", {"q2": [("x", 2), ("y", 3), ("b", 1)]})
    (tmp_path / "reranked" / "_run" / "plan.parquet").write_text("not data")
    return tmp_path


def write(path: Path, ranked: dict[str, list[tuple[str, int]]]) -> None:
    """Documents in ranked order with their first-stage ranks, all with the same score."""
    rows = [
        [
            {"doc_id": doc_id, "rank": rank, "score": 0.5, "first_stage_rank": first}
            for rank, (doc_id, first) in enumerate(places, start=1)
        ]
        for places in ranked.values()
    ]
    pq.write_table(pa.table({"query_id": list(ranked), "ranking": pa.array(rows, pa.list_(PLACE))}), path)


def evaluate(folder: Path, *flags: str, ranking: str = "reranked") -> int:
    return execute(["evaluate", "--ranking", str(folder / ranking), "--qrels", str(folder / "qrels.txt"), *flags])


def metrics(folder: Path, *flags: str, ranking: str = "reranked") -> Any:
    file = folder / "metrics.json"
    assert evaluate(folder, *flags, f"--json={file}", ranking=ranking) == ExitCode.DONE
    return json.loads(file.read_text())


def test_a_ranking_is_measured_beside_its_first_stage(files: Path, capsys: Any) -> None:
    found = metrics(files, "--measures", "RR@10 MRR(rel=2)@10")
    assert list(found) == ["RR@10", "MRR(rel=2)@10"]
    assert found["RR@10"]["reranked"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found["RR@10"]["first_stage"] == pytest.approx((1 / 2 + 1 + 0) / 3)
    assert found["RR@10"]["difference"] == pytest.approx((1 / 2 - 2 / 3) / 3)
    low, high = found["RR@10"]["interval"]
    assert low <= found["RR@10"]["difference"] <= high
    assert found["MRR(rel=2)@10"]["reranked"] == pytest.approx(1 / 3)
    printed = capsys.readouterr().out
    assert re.search(r"RR@10 +0\.5000 +0\.4444 +-0\.0556 .* 1/1/1", printed)
    assert "largest gains in RR@10:\n  q1  0.5000 -> 1.0000  +0.5000" in printed
    assert "largest losses in RR@10:\n  q2  1.0000 -> 0.3333  -0.6667" in printed
    assert "1 of 3 judged queries are not in the ranking and count as 0" in printed
    assert "1 of 3 queries of the ranking have no judgements" in printed


def test_only_ranked_leaves_out_the_queries_that_the_ranking_lacks(files: Path) -> None:
    found = metrics(files, "--measures=RR@10", "--only-ranked")
    assert found["RR@10"]["reranked"] == pytest.approx((1 + 1 / 3) / 2)
    assert found["RR@10"]["first_stage"] == pytest.approx((1 / 2 + 1) / 2)


def test_the_same_command_gives_the_same_metrics(files: Path) -> None:
    assert metrics(files) == metrics(files)
    assert metrics(files, "--seed=1")["nDCG@10"]["reranked"] == metrics(files)["nDCG@10"]["reranked"]


def test_the_per_query_table_has_a_line_a_query_and_measure(files: Path) -> None:
    assert evaluate(files, "--measures=RR@10 P@1", f"--per-query={files / 'per_query.tsv'}") == ExitCode.DONE
    lines = [line.split("\t") for line in (files / "per_query.tsv").read_text().splitlines()]
    assert lines[0] == ["query_id", "measure", "first_stage", "reranked", "difference"]
    assert lines[1:3] == [
        ["q1", "RR@10", "0.500000", "1.000000", "0.500000"],
        ["q1", "P@1", "0.000000", "1.000000", "1.000000"],
    ]
    assert len(lines) == 1 + 3 * 2


def test_a_run_is_measured_alone_or_against_another(files: Path, capsys: Any) -> None:
    (files / "after.trec").write_text("q1 Q0 a 1 3 t\nq1 Q0 x 2 2 t\n")
    (files / "before.trec").write_text("q1 Q0 x 1 3 t\nq1 Q0 a 2 2 t\n")
    alone = metrics(files, "--measures=RR@10", ranking="after.trec")
    assert alone == {
        "RR@10": {"reranked": pytest.approx(1 / 3), "first_stage": None, "difference": None, "interval": None}
    }
    assert "does not tell its first stage" in capsys.readouterr().out
    both = metrics(files, "--measures=RR@10", f"--first-stage={files / 'before.trec'}", ranking="after.trec")
    assert both["RR@10"]["first_stage"] == pytest.approx(1 / 6)


def test_a_first_stage_with_gaps_is_mentioned(files: Path, capsys: Any) -> None:
    write(files / "reranked" / "part-1.parquet", {"q2": [("x", 7), ("b", 1)]})
    assert evaluate(files) == ExitCode.DONE
    assert "in 1 queries the ranking lacks documents that the first stage had" in capsys.readouterr().out


def test_a_query_in_two_parts_is_refused_with_both_files(files: Path, capsys: Any) -> None:
    write(files / "reranked" / "part-2.parquet", {"q2": [("x", 1)]})
    assert evaluate(files) == ExitCode.REFUSED
    assert re.search(r"'q2' occurs twice: in \S*part-1.parquet and in \S*part-2.parquet", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("qrels.txt", "q1 0 a\n", r"qrels.txt is not TREC qrels .* line 1: 'q1 0 a', column 3, the grade"),
        ("qrels.txt", "", "qrels.txt holds no line"),
        ("qrels.txt", "other 0 a 1\n", "none of the 3 queries of .* is judged in .*'other'"),
        ("reranked/part-1.parquet", "PAR1 cut off", r"part-1.parquet: cannot be read as Parquet"),
        ("after.trec", "q1 Q0 a 1 3 t\nq1 Q0 b 2 high t\n", r"after.trec, line 2: malformed line: column 5"),
        ("after.trec", "q1 Q0 a 1 3 t\nq1 Q0 a 2 2 t\n", r"after.trec, line 2: duplicate doc_id"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_place(
    files: Path, capsys: Any, name: str, content: str, message: str
) -> None:
    (files / name).write_text(content)
    ranking = name if name.endswith(".trec") else "reranked"
    assert evaluate(files, ranking=ranking) == ExitCode.REFUSED
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--measures=ndgc@10"], "near it: nDCG"),
        (["--measures=nDCG@0"], "the cutoff is 0"),
        (["--first-stage=/nowhere"], "/nowhere: there is no such file or folder"),
        (["--qrels=/nowhere"], "/nowhere: cannot be read: there is no such file"),
        (["--qrels=/tmp"], "/tmp: cannot be read"),
        (["--ranking=/nowhere/*.parquet"], "no such file or folder, and nothing that matches it"),
        (["--json=/proc/self/metrics.json"], "the folder of --json cannot be written"),
    ],
)
def test_flags_that_lead_nowhere_are_refused(files: Path, capsys: Any, flags: list[str], message: str) -> None:
    assert evaluate(files, *flags) == ExitCode.REFUSED
    assert message in capsys.readouterr().err


@pytest.mark.skipif(not DL20.exists(), reason="needs the dl20 collection beside the project (shared/data/dl20)")
def test_prepared_candidates_of_dl20_measure_as_their_run(tmp_path: Path) -> None:
    flags = [f"--run={DL20 / 'run.bm25.trec'}", f"--queries={DL20 / 'queries.tsv'}"]
    passages = f"--passages={DL20 / 'passages.tsv'}"
    assert execute(["prepare", *flags, passages, f"--output={tmp_path / 'candidates'}"]) == ExitCode.DONE
    (tmp_path / "qrels.txt").write_bytes((DL20 / "qrels.txt").read_bytes())
    splade = f"--first-stage={DL20 / 'run.splade.trec'}"
    found = metrics(tmp_path, splade, "--measures=nDCG@10 RR(rel=2)@10", ranking="candidates")
    assert round(found["nDCG@10"]["reranked"], 4) == 0.4796
    assert round(found["RR(rel=2)@10"]["reranked"], 4) == 0.6533
    assert found["nDCG@10"]["first_stage"] > 0.7


def test_a_query_that_the_table_cannot_hold_is_left_out_of_it_and_told(files: Path, capsys: Any) -> None:
    (files / "qrels.txt").write_text("q1\t0\ta\t1\nq\x1c2\t0\tb\t1\n")
    table = files / "table.tsv"
    assert evaluate(files, "--measures", "RR", f"--per-query={table}") == ExitCode.DONE_WITH_ERRORS
    assert [line.split("\t")[0] for line in table.read_text().splitlines()] == ["query_id", "q1"]
    assert "left out: 1 x id that a line cannot hold" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("folder", "more", "left_out"),
    [
        ("arguana", (), True),
        ("arguana", ("--drop-self=off",), False),
        ("nq", (), False),
        ("nq", ("--drop-self=id",), 1),
    ],
)
def test_documents_with_the_querys_id_are_left_out_as_beir_does(
    tmp_path: Path, capsys: Any, folder: str, more: tuple[str, ...], left_out: bool
) -> None:
    files = tmp_path / folder
    files.mkdir()
    (files / "qrels.txt").write_text("q1 0 a 1\nq2 0 a 1\n")
    write(files / "ranked.parquet", {"q1": [("q1", 2), ("a", 1)], "q2": [("a", 1), ("q2", 2)]})
    found = metrics(files, "--measures=RR", *more, ranking="ranked.parquet")["RR"]
    assert found["reranked"] == pytest.approx(1 if left_out else 3 / 4)
    assert found["first_stage"] == pytest.approx(1)
    assert ("2 pairs of a query and itself (by id) are dropped" in capsys.readouterr().out) == left_out


@here
def test_what_a_run_that_is_not_whole_lacks_is_told_with_its_reasons(tmp_path: Path, cross_encoder: Path) -> None:
    content = rows(6, 3)
    content[0]["query"] = " "
    content[1]["candidates"][0]["text"] = ""
    write_candidates(tmp_path / "in" / "a.parquet", content, row_group_size=1)
    (tmp_path / "qrels.txt").write_text("".join(f"q{n} 0 d{n}-1 1\n" for n in range(7)))
    given = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "whole"), "--model", str(cross_encoder)]
    assert execute(["rerank", *given, "--unit-pairs", "3"]) == ExitCode.DONE_WITH_ERRORS
    names = sorted(path.stem for path in (tmp_path / "whole" / "_run" / "done").iterdir())
    assert len(names) == 6

    def check(states: tuple[str, ...]) -> None:
        folder = tmp_path / "".join(states)
        shutil.copytree(tmp_path / "whole", folder, dirs_exist_ok=True)
        for name, state in zip(names, states, strict=True):
            if state != "d":
                (folder / "_run" / "done" / f"{name}.json").unlink()
                (folder / f"part-{name}.parquet").unlink()
            if state == "f":
                (folder / "_run" / "failed").mkdir(exist_ok=True)
                failure = {"unit": name, "file": "a", "start": 0, "stop": 1, "reason": "out of luck"}
                (folder / "_run" / "failed" / f"{name}.json").write_text(json.dumps(failure))
        tried = try_command(["evaluate", "--ranking", str(folder), "--qrels", str(tmp_path / "qrels.txt")])
        tried.check()
        left, failed = states.count("l"), states.count("f")
        if "d" not in states:
            assert tried.code == ExitCode.REFUSED and "none of the 6 units of this run is done" in tried.err
            return
        if "d" not in states[1:]:
            assert tried.code == ExitCode.REFUSED
            return
        lacking = {number for number, state in enumerate(states) if state != "d"} | {0, 6}
        assert f"{len(lacking)} of 7 judged queries are not in the ranking" in tried.out
        assert (f"; {left}: their units are not done" in tried.out.replace(" (", "; ")) == (left > 0)
        assert (f"{failed}: their units failed: out of luck" in tried.out) == (failed > 0)
        assert (f"{left} of 6 units are left" in tried.out) == (left > 0)
        assert ("1: the query is empty" in tried.out) == (states[0] == "d")
        faulty = left or failed or "d" in states[:2]
        assert tried.code == (ExitCode.DONE_WITH_ERRORS if faulty else ExitCode.DONE)

    fuzz(st.tuples(*[st.sampled_from("dlf")] * 6), check, 25)


@pytest.mark.parametrize("damage", ["{}", "", "null", "{", '{"format": 1, "identity": {}}'])
def test_a_ranking_whose_books_are_damaged_is_measured_with_a_note(files: Path, capsys: Any, damage: str) -> None:
    (files / "reranked" / "_run" / "manifest.json").write_text(damage)
    assert evaluate(files) == ExitCode.DONE
    assert "note: whether the ranking is whole cannot be told" in capsys.readouterr().out


@here
def test_files_that_a_run_left_out_and_an_unfinished_first_stage_are_told(tmp_path: Path, cross_encoder: Path) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(3, 2))
    (tmp_path / "in" / "b.parquet").write_bytes(b"PAR1")
    (tmp_path / "qrels.txt").write_text("q0 0 d0-1 1\n")
    given = ["--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--model", str(cross_encoder)]
    execute(["rerank", *given, "--skip-bad-files"])
    asked = ["evaluate", "--ranking", str(tmp_path / "out"), "--qrels", str(tmp_path / "qrels.txt")]
    told = try_command(asked)
    assert told.code == ExitCode.DONE_WITH_ERRORS and "1 of its input's files" in told.out and "b.parquet" in told.out
    (tmp_path / "in" / "_prepare.json").write_text('{"complete": false}')
    told = try_command([*asked, "--first-stage", str(tmp_path / "in")])
    assert told.code == ExitCode.REFUSED and "`ray-rerank prepare` has not finished here" in told.err
