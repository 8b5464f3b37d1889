"""Files of lines: what is written is read back as the same ids by our readers and others', and the rest is told."""

import csv
import io
from pathlib import Path

import ir_measures
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ray_rerank.jobs.evaluate import BeforeAndAfter, per_query_table
from ray_rerank.operators.evaluation.measures import Measured, parse_measures
from ray_rerank.operators.formats.line_ids import fits_columns, fits_tabs
from ray_rerank.operators.formats.trec_runs import read_run, run_lines
from ray_rerank.operators.rejects import RaiseOnReject, Reason, RejectLog

SPLITTING = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u2007\u2028\u2029\u202f\u205f\u3000"
NASTY = ["", "a b", " a", "a ", "\0", "a\0b", "\ufeffa", "a\nq2 Q0 forged 1 9 t", *(f"a{sign}b" for sign in SPLITTING)]
PLAIN = ["a", "doc-1/2#3", "é", "日本", "<d>", "a'b", "a\u200bb", "2026-01-01T00:00", "#1", "a,b;c|d"]

ids = st.one_of(st.sampled_from([*NASTY, *PLAIN]), st.text(st.sampled_from('ab1"é' + SPLITTING), max_size=4), st.text())


def ranking(lists: dict[str, list[str]]) -> pa.Table:
    rows = [
        {"query_id": query_id, "ranking": [{"doc_id": doc_id, "rank": rank} for rank, doc_id in enumerate(docs, 1)]}
        for query_id, docs in lists.items()
    ]
    place = pa.struct([("doc_id", pa.string()), ("rank", pa.int32())])
    return pa.Table.from_pylist(rows, schema=pa.schema([("query_id", pa.string()), ("ranking", pa.list_(place))]))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(ids, st.lists(ids, min_size=1, max_size=4, unique=True), min_size=1, max_size=4))
@example({"q1": ["a", "b\nq1 Q0 forged 1 99 t"], "q 2": ["a"]})
def test_a_run_is_read_back_as_what_was_written_and_the_rest_is_told(
    tmp_path: Path, lists: dict[str, list[str]]
) -> None:
    rejects = RejectLog()
    text = run_lines(ranking(lists), "run.trec", rejects)
    told = {(str(reject.query_id), str(reject.doc_id)) for reject in rejects.kept}
    scores = {(q, d): len(docs) - place for q, docs in lists.items() for place, d in enumerate(docs)}
    expected = {(*pair, float(score)) for pair, score in scores.items() if pair not in told}
    assert {reject.reason for reject in rejects.kept} <= {Reason.UNFIT_ID} and told <= scores.keys()

    (tmp_path / "run.trec").write_bytes(text.encode())
    theirs = [tuple(line) for line in ir_measures.read_trec_run(str(tmp_path / "run.trec"))]
    assert set(theirs) == expected and len(theirs) == len(expected)
    if not expected:
        assert text == ""
        return
    ours = read_run(io.BytesIO(text.encode()), "run.trec", RaiseOnReject())
    read = {
        (q, d, s) for q, found in ours.run.items() for d, s in zip(found.doc_ids, found.scores.tolist(), strict=True)
    }
    assert read == expected and not ours.contradictory


@settings(max_examples=150)
@given(st.lists(ids, min_size=1, max_size=5, unique=True))
def test_a_table_by_query_is_read_back_as_what_was_written_and_the_rest_is_told(query_ids: list[str]) -> None:
    measures, rejects = parse_measures("RR(\trel=1)@10 nDCG@10"), RejectLog()
    values = np.tile(np.arange(len(query_ids), dtype=float), (2, 1))
    found = BeforeAndAfter(measures, None, Measured(tuple(query_ids), values, {}))
    text = per_query_table(found, "table.tsv", rejects)
    told = {reject.query_id for reject in rejects.kept}
    expected = [(q, named.name, f"{i:.6f}") for i, q in enumerate(query_ids) if q not in told for named in measures]
    for lines in (
        [line.split("\t") for line in text.splitlines()],
        list(csv.reader(io.StringIO(text, newline=""), "excel-tab")),
    ):
        assert [(line[0], line[1], line[3]) for line in lines[1:]] == expected
        assert {len(line) for line in lines} == {5}
    assert told <= set(query_ids)


@pytest.mark.parametrize("name", PLAIN)
def test_ordinary_ids_stand_in_any_line(name: str) -> None:
    assert fits_columns(name) and fits_tabs(name)


@pytest.mark.parametrize("name", ["a b", "a\u3000b"])
def test_a_space_within_an_id_is_held_by_tabs_alone(name: str) -> None:
    assert fits_tabs(name) and not fits_columns(name)
