"""Nothing of the input is lost: each candidate is either ranked or stands in the error table with its reason."""

import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.read import read_candidates
from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA, Columns, Origin, shape_of
from ray_rerank.operators.errors import InputError

HERE = Origin("shard.parquet", 100)


def nested(rows: list[dict[str, Any]]) -> pa.Table:
    """Rows in the nested shape, text as bytes so that it may be broken."""
    struct = pa.struct([("doc_id", pa.string()), ("text", pa.binary()), ("score", pa.float64())])
    kind = [("query_id", pa.string()), ("query", pa.binary()), ("candidates", pa.list_(struct))]
    table = pa.Table.from_pylist(rows, schema=pa.schema(kind))
    lists = table["candidates"].combine_chunks()
    lists = lists.chunk(0) if isinstance(lists, pa.ChunkedArray) else lists
    fields = [lists.values.field(0), as_string(lists.values.field(1)), lists.values.field(2)]
    structs = pa.StructArray.from_arrays(fields, names=["doc_id", "text", "score"])
    rebuilt = pa.ListArray.from_arrays(lists.offsets, structs, mask=lists.is_null())
    query = as_string(table["query"].combine_chunks())
    return pa.table({"query_id": table["query_id"], "query": query, "candidates": rebuilt})


def as_string(array: pa.Array) -> pa.Array:
    """Bytes called strings without a check, as a faulty writer leaves them."""
    return pa.Array.from_buffers(pa.string(), len(array), array.buffers(), array.null_count, array.offset)


def candidate(doc_id: str | None, text: bytes | None = b"some text", score: float | None = None) -> dict[str, Any]:
    return {"doc_id": doc_id, "text": text, "score": score}


def faults_of(rows: list[dict[str, Any]]) -> tuple[dict[str, list[str]], list[tuple[Any, ...]]]:
    """What is ranked, by query; and (row, query_id, doc_id, reason, candidates) of each fault."""
    candidates, faults = read_candidates(nested(rows), Columns(), HERE)
    ranked = {row["query_id"]: [c["doc_id"] for c in row["candidates"]] for row in candidates.to_pylist()}
    columns = ("row", "query_id", "doc_id", "reason", "candidates")
    return ranked, [tuple(fault[name] for name in columns) for fault in faults.to_pylist()]


def test_each_row_fault_names_row_query_document_and_reason() -> None:
    ranked, faults = faults_of(
        [
            {"query_id": "good", "query": b"q", "candidates": [candidate("a"), candidate("b")]},
            {"query_id": "null query", "query": None, "candidates": [candidate("a"), candidate("b")]},
            {"query_id": "blank query", "query": b"  ", "candidates": [candidate("a")]},
            {"query_id": "bad query", "query": b"\xff\xfe", "candidates": [candidate("a")]},
            {"query_id": "no list", "query": b"q", "candidates": None},
            {"query_id": "empty list", "query": b"q", "candidates": []},
            {
                "query_id": "mixed",
                "query": b"q",
                "candidates": [
                    candidate("null text", None),
                    candidate("empty text", b""),
                    candidate("broken", b"ok \xc3\x28"),
                    candidate("twice"),
                    candidate("twice", b"another"),
                    candidate(None),
                    candidate("sound"),
                ],
            },
            {"query_id": "all bad", "query": b"q", "candidates": [candidate("a", None)]},
            {"query_id": None, "query": b"q", "candidates": [candidate("a")]},
        ]
    )
    assert ranked == {"good": ["a", "b"], "mixed": ["twice", "sound"]}
    assert set(faults) == {
        (101, "null query", None, "the query is empty", 2),
        (102, "blank query", None, "the query is empty", 1),
        (103, "bad query", None, "the query is not valid UTF-8", 1),
        (104, "no list", None, "the candidate list is empty", 0),
        (105, "empty list", None, "the candidate list is empty", 0),
        (106, "mixed", "null text", "the text is empty", 1),
        (106, "mixed", "empty text", "the text is empty", 1),
        (106, "mixed", "broken", "the text is not valid UTF-8", 1),
        (106, "mixed", "twice", "the doc_id occurs twice in this query; the first is ranked", 1),
        (106, "mixed", None, "the doc_id is empty", 1),
        (107, "all bad", "a", "the text is empty", 1),
        (107, "all bad", None, "no candidate of this query can be ranked", 0),
        (108, None, None, "the query_id is empty", 1),
    }


def test_flat_rows_become_the_same_candidates_as_nested_ones() -> None:
    flat = pa.table(
        {
            "qid": pa.array([7, 7, 7, 9], pa.int64()),
            "query": ["one", "one", "other", "two"],
            "pid": ["a", "b", "c", "a"],
            "text": pa.array(["x", "y", "z", None]),
            "tag": ["first", "second", "third", "fourth"],
        }
    )
    candidates, faults = read_candidates(flat, Columns(query_id="qid", doc_id="pid"), HERE, ("tag",))
    assert [(row["query_id"], row["query"], row["tag"]) for row in candidates.to_pylist()] == [("7", "one", "first")]
    assert [(c["doc_id"], c["first_stage_rank"]) for c in candidates["candidates"][0].as_py()] == [("a", 1), ("b", 2)]
    assert [(fault["row"], fault["doc_id"], fault["candidates"]) for fault in faults.to_pylist()] == [
        (102, "c", 1),
        (103, "a", 1),
        (103, None, 0),
    ]


def test_first_stage_rank_follows_the_scores_where_all_are_there_and_the_list_where_not() -> None:
    rows = [
        {"query_id": "s", "query": b"q", "candidates": [candidate("low", score=1), candidate("high", score=3)]},
        {"query_id": "u", "query": b"q", "candidates": [candidate("low", score=1), candidate("none"), candidate("x")]},
        {"query_id": "n", "query": b"q", "candidates": [candidate("a", score=1), candidate("b", score=float("nan"))]},
        {"query_id": "t", "query": b"q", "candidates": [candidate("z", score=2), candidate("y", score=2)]},
    ]
    candidates, _ = read_candidates(nested(rows), Columns(), HERE)
    order = {row["query_id"]: [c["doc_id"] for c in row["candidates"]] for row in candidates.to_pylist()}
    assert order == {"s": ["high", "low"], "u": ["low", "none", "x"], "n": ["a", "b"], "t": ["z", "y"]}


BYTES = st.one_of(st.none(), st.sampled_from([b"", b" ", b"a", b"b c", b"\xff", "ö".encode()]))
CANDIDATE = st.fixed_dictionaries(
    {
        "doc_id": st.one_of(st.none(), st.sampled_from(["", "a", "b", "c"])),
        "text": BYTES,
        "score": st.one_of(st.none(), st.floats()),
    }
)
ROW = st.fixed_dictionaries(
    {
        "query_id": st.one_of(st.none(), st.sampled_from(["", "q1", "q2"])),
        "query": BYTES,
        "candidates": st.one_of(st.none(), st.lists(CANDIDATE, max_size=5)),
    }
)


@given(rows=st.lists(ROW, max_size=6))
def test_queries_and_candidates_are_ranked_or_in_the_error_table(rows: list[dict[str, Any]]) -> None:
    candidates, faults = read_candidates(nested(rows), Columns(), HERE)
    ranked = sum(len(row["candidates"]) for row in candidates.to_pylist())
    lost = sum(faults["candidates"].to_pylist())
    assert ranked + lost == sum(len(row["candidates"] or []) for row in rows)
    assert candidates.num_rows + faults["doc_id"].null_count - lone_null_ids(faults) == len(rows)
    for row in candidates.to_pylist():
        ranks = [c["first_stage_rank"] for c in row["candidates"]]
        assert ranks == sorted(set(ranks))
        assert row["candidates"]


def lone_null_ids(faults: pa.Table) -> int:
    """Candidate faults whose doc_id is itself what is missing."""
    return sum(
        reason.startswith("the doc_id") and "twice" not in reason and doc_id is None
        for reason, doc_id in zip(faults["reason"].to_pylist(), faults["doc_id"].to_pylist(), strict=True)
    )


STRUCT = pa.struct([("doc_id", pa.string()), ("text", pa.string())])


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ([("query_id", pa.string()), ("query", pa.string())], "no column 'doc_id'"),
        ([("query_id", pa.string()), ("candidates", pa.list_(STRUCT))], "no column 'query'"),
        ([("query_id", pa.string()), ("query", pa.int64()), ("candidates", pa.list_(STRUCT))], "'query' is int64"),
        (
            [("query_id", pa.float64()), ("query", pa.string()), ("candidates", pa.list_(STRUCT))],
            "'query_id' is double",
        ),
        ([("query_id", pa.string()), ("query", pa.string()), ("candidates", pa.string())], "'candidates' is string"),
        (
            [
                ("query_id", pa.string()),
                ("query", pa.string()),
                ("candidates", pa.list_(pa.struct([("id", pa.string())]))),
            ],
            "no column 'candidates.doc_id'",
        ),
    ],
)
def test_a_missing_column_or_a_wrong_type_is_named_with_its_file(schema: list[Any], told: str) -> None:
    with pytest.raises(InputError, match=told) as error:
        shape_of(pa.schema(schema), Columns(), file="bad.parquet")
    assert "bad.parquet" in str(error.value)


def test_large_and_dictionary_strings_are_taken() -> None:
    table = pa.table(
        {
            "query_id": pa.array(["q", "q"]).dictionary_encode(),
            "query": pa.array(["what", "what"], pa.large_string()),
            "doc_id": pa.array([1, 2]),
            "text": pa.array(["x", "y"]).dictionary_encode(),
            "score": pa.array([1, 2]),
            "when": [datetime.date(2026, 1, 1)] * 2,
        }
    )
    candidates, faults = read_candidates(table, Columns(), HERE)
    assert faults.num_rows == 0
    assert [c["doc_id"] for c in candidates["candidates"][0].as_py()] == ["2", "1"]
    assert np.isfinite(candidates["candidates"][0].as_py()[0]["first_stage_score"])


def test_what_is_too_long_costs_its_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ray_rerank.operators.candidates.read.LONGEST_TEXT", 100)
    monkeypatch.setattr("ray_rerank.operators.candidates.read.LONGEST_ID", 10)
    plain = {"doc_id": "d", "text": "t", "score": 0.0}
    content = [
        {"query_id": "q1", "query": "a", "candidates": [plain, plain | {"doc_id": "e", "text": "t" * 101}]},
        {"query_id": "q2", "query": "a", "candidates": [plain, plain | {"doc_id": "é" * 6}]},
        {"query_id": "q3", "query": "a" * 101, "candidates": [plain]},
        {"query_id": "q" * 11, "query": "a", "candidates": [plain]},
    ]
    table, faults = read_candidates(pa.Table.from_pylist(content, schema=CANDIDATE_SCHEMA), Columns(), Origin("f"))
    assert table["query_id"].to_pylist() == ["q1", "q2"]
    assert sorted(faults["reason"].to_pylist()) == [
        "the doc_id has more than 10 bytes",
        "the query has more than 100 bytes",
        "the query_id has more than 10 bytes",
        "the text has more than 100 bytes",
    ]
