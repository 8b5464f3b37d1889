import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.flat_pairs import GroupedPairs, group_pairs, read_pairs
from ray_rerank.operators.candidates.shards import candidate_table
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.rejects import Reason, RejectLog

HEADER = "query_id\tquery\tdoc_id\ttext\tscore\n"


def from_text(text: str, name: str = "p.tsv", depth: int | None = None, log: RejectLog | None = None) -> Any:
    log = log or RejectLog()
    grouped = group_pairs(read_pairs(io.BytesIO(text.encode()), name, log), depth, log)
    return rows_of(grouped)


def from_parquet(table: pa.Table, log: RejectLog | None = None) -> Any:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    log = log or RejectLog()
    return rows_of(group_pairs(read_pairs(io.BytesIO(sink.getvalue()), "p.parquet", log), None, log))


def rows_of(grouped: GroupedPairs) -> Any:
    rows = candidate_table(grouped.selections, grouped.texts).to_pylist()
    return {row["query_id"]: [(c["doc_id"], c["text"], c["score"]) for c in row["candidates"]] for row in rows}


EXPECTED = {"1": [("b", "B", 2.0), ("a", "A", 1.0)], "2": [("a", "A", None)]}


def test_pairs_are_gathered_by_query_wherever_they_stand() -> None:
    rows = "1\tred\ta\tA\t1\n2\tblue\ta\tA\t\n1\tred\tb\tB\t2\n"
    assert from_text(HEADER + rows) == EXPECTED
    assert from_text(rows) == EXPECTED


def test_jsonl_and_parquet_give_the_same_as_tsv() -> None:
    rows = [
        {"query_id": "1", "query": "red", "doc_id": "a", "text": "A", "score": 1},
        {"query_id": "2", "query": "blue", "doc_id": "a", "text": "A", "score": None},
        {"query_id": "1", "query": "red", "doc_id": "b", "text": "B", "score": 2},
    ]
    assert from_text("\n".join(map(json.dumps, rows)), "p.jsonl") == EXPECTED
    assert from_parquet(pa.Table.from_pylist(rows)) == EXPECTED
    numbered = pa.Table.from_pylist([row | {"query_id": int(str(row["query_id"]))} for row in rows])
    assert from_parquet(numbered) == EXPECTED
    coded = pa.Table.from_pylist(rows)
    for index, name in enumerate(("query_id", "query", "doc_id", "text")):
        coded = coded.set_column(index, name, coded[name].dictionary_encode())
    assert from_parquet(coded) == EXPECTED


def test_columns_may_stand_in_any_order_under_a_header_and_others_are_passed_over() -> None:
    assert from_text("text\tx\tdoc_id\tquery\tquery_id\nA\t?\ta\tred\t1\n") == {"1": [("a", "A", None)]}


def test_a_header_that_lacks_a_column_is_refused() -> None:
    with pytest.raises(InputError, match=r"p\.tsv, line 1: the header has no column query, text"):
        from_text("query_id\tdoc_id\n1\ta\n")


@pytest.mark.parametrize("header", ["qid\tquery\tdocument_no\tpassage", "query\ttopic_no\tdid\ttext"])
def test_a_header_that_is_not_understood_is_refused_and_is_no_pair(header: str) -> None:
    with pytest.raises(InputError, match=r"p\.tsv, line 1: .* seems to name the columns; known are query_id, query"):
        from_text(f"{header}\n1\twhat is red\ta\tA one\n")


def test_single_words_and_numbers_that_may_be_either_are_refused() -> None:
    assert from_text("7\twater\t8\tis wet\n9\tfire\t18\tis hot\n") == {
        "7": [("8", "is wet", None)], "9": [("18", "is hot", None)],
    }  # fmt: skip
    with pytest.raises(InputError, match="a first line that names them says which is which"):
        from_text("7\t8\twater\tis wet\n9\t18\tfire\tis hot\n")
    assert from_text("7\t8\twater\tis wet\n7\t9\twater\tis blue\n") == {
        "7": [("8", "is wet", None), ("9", "is blue", None)]
    }


def test_a_query_that_is_a_columns_name_makes_no_header() -> None:
    assert from_text("1\ttopic\ta\tA\n") == {"1": [("a", "A", None)]}


def test_without_scores_the_order_is_the_files() -> None:
    assert from_text("1\tred\tz\tZ\n1\tred\ta\tA\n", depth=1) == {"1": [("z", "Z", None)]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1\tred\tb", Reason.MALFORMED),
        ("1\tred\tb\tB\t1\t2", Reason.MALFORMED),
        ("1\tred\tb\tB\tnan", Reason.MALFORMED),
        ("\tred\tb\tB", Reason.MALFORMED),
        ("1\t \tb\tB", Reason.EMPTY_TEXT),
        ("1\tred\tb\t ", Reason.EMPTY_TEXT),
        ("1\tother\tb\tB", Reason.OTHER_QUERY),
        ("1\tred\ta\tagain", Reason.DUPLICATE_DOC),
    ],
)
def test_a_bad_row_costs_itself_with_its_line(line: str, reason: Reason) -> None:
    log = RejectLog()
    assert from_text(f"1\tred\ta\tA\n{line}\n1\tred\tc\tC\n", log=log) == {"1": [("a", "A", None), ("c", "C", None)]}
    assert [(reject.line, reject.reason) for reject in log.kept] == [(2, reason)]


def test_a_bad_parquet_row_costs_itself() -> None:
    broken = pa.StringArray.from_buffers(
        4, pa.array([0, 1, 2, 3, 4], pa.int32()).buffers()[1], pa.py_buffer(b"ab\xffd")
    )
    ids = {"query_id": ["1", None, "1", "1"], "query": ["q"] * 4, "doc_id": ["a", "b", "c", "d"]}
    log = RejectLog()
    assert from_parquet(pa.table(ids | {"text": broken}), log) == {"1": [("a", "a", None), ("d", "d", None)]}
    assert [(reject.line, reject.reason) for reject in log.kept] == [(2, Reason.MALFORMED), (3, Reason.NOT_UTF8)]


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("text", None, r"p\.parquet: there is no column text"),
        ("text", [1], "column text is int64, not a string"),
        ("query_id", [0.5], "column query_id is double, not a string"),
        ("score", ["high"], "column score is string, not a number"),
    ],
)
def test_a_parquet_file_of_another_shape_is_refused_with_its_column(column: str, values: Any, message: str) -> None:
    columns: dict[str, Any] = {"query_id": ["1"], "query": ["q"], "doc_id": ["a"], "text": ["A"]}
    columns = {key: value for key, value in (columns | {column: values}).items() if value is not None}
    with pytest.raises(InputError, match=message):
        from_parquet(pa.table(columns))


def test_a_parquet_file_cut_short_is_refused() -> None:
    with pytest.raises(InputError, match=r"p\.parquet: cannot be read as Parquet"):
        list(read_pairs(io.BytesIO(b"PAR1 and no footer"), "p.parquet", RejectLog()))


def test_pairs_of_which_none_can_be_used_are_refused() -> None:
    with pytest.raises(InputError, match="no row that can be used"):
        from_text("1\tred\ta\t \n")


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 20), st.none() | st.integers(-2, 2)), min_size=1))
def test_every_distinct_pair_is_kept_once_and_every_other_row_reported(rows: list[tuple[int, int, int | None]]) -> None:
    log = RejectLog()
    lines = [f"{q}\tquery {q}\td{d}\ttext {d}\t{'' if s is None else s}" for q, d, s in rows]
    found = from_text("\n".join(lines), log=log)
    pairs = [(query, doc) for query, candidates in found.items() for doc, _, _ in candidates]
    assert sorted(pairs) == sorted({(str(q), f"d{d}") for q, d, _ in rows})
    assert log.counts.total() == len(rows) - len(pairs)
    for candidates in found.values():
        scores = np.array([-np.inf if score is None else score for _, _, score in candidates])
        assert (scores[1:] <= scores[:-1]).all()
