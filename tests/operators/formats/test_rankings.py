from typing import Any

import pyarrow as pa
import pytest

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.rankings import Rankings, read_rankings

PLACE = pa.struct(
    [("doc_id", pa.string()), ("rank", pa.int32()), ("score", pa.float32()), ("first_stage_rank", pa.int32())]
)


def ranking(*rows: tuple[str | None, list[tuple[Any, ...]]]) -> pa.Table:
    """Rows of query_id and (doc_id, rank, score, first_stage_rank)."""
    names = ["doc_id", "rank", "score", "first_stage_rank"]
    content = [[dict(zip(names, place, strict=True)) for place in places] for _, places in rows]
    return pa.table(
        {"query_id": pa.array([key for key, _ in rows], pa.string()), "ranking": pa.array(content, pa.list_(PLACE))}
    )


def read(*tables: pa.Table) -> Rankings:
    return read_rankings((f"part-{index}.parquet", table) for index, table in enumerate(tables))


def test_documents_stand_by_rank_and_the_first_stage_by_its_own_whatever_the_scores() -> None:
    found = read(ranking(("q", [("a", 2, 5.0, 1), ("b", 1, 5.0, 3), ("c", 3, 5.0, 2)])))
    assert found.run["q"].doc_ids == ["b", "a", "c"]
    assert found.first_stage["q"].doc_ids == ["a", "c", "b"]
    assert found.incomplete == 0


def test_rows_of_several_parts_stay_apart() -> None:
    one = ranking(("p", [("a", 1, 1.0, 1)]), ("q", []), ("r", [("b", 1, 1.0, 2), ("c", 2, 0.5, 1)]))
    table = pa.concat_tables([one, ranking(("s", [("d", 1, 1.0, 1)]))]).slice(1)
    found = read(table, ranking(("t", [("e", 1, 1.0, 1)])))
    assert {key: value.doc_ids for key, value in found.run.items()} == {
        "q": [], "r": ["b", "c"], "s": ["d"], "t": ["e"],
    }  # fmt: skip


def test_a_gap_in_the_first_stage_is_noticed() -> None:
    assert read(ranking(("q", [("a", 1, 1.0, 4), ("b", 2, 0.5, 1)]))).incomplete == 1


def test_candidate_shards_are_a_ranking_by_score_then_in_the_order_of_the_list() -> None:
    rows: Any = [[{"doc_id": "b", "text": "x", "score": 1.0}, {"doc_id": "a", "text": "x", "score": 1.0}]]
    found = read(pa.table({"query_id": ["q"], "query": ["x"], "candidates": rows}))
    assert found.run["q"].doc_ids == ["b", "a"]
    assert not found.first_stage
    rows[0][1]["score"] = 2.0
    assert read(pa.table({"query_id": ["q"], "query": ["x"], "candidates": rows})).run["q"].doc_ids == ["a", "b"]
    rows[0][0]["score"] = None
    assert read(pa.table({"query_id": ["q"], "query": ["x"], "candidates": rows})).run["q"].doc_ids == ["b", "a"]


def test_a_query_that_occurs_twice_is_refused_with_both_files() -> None:
    table = ranking(("q", [("a", 1, 1.0, 1)]))
    with pytest.raises(InputError, match=r"query 'q' occurs twice: in part-0\.parquet and in part-1\.parquet"):
        read(table, table)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ([("a", 1, 1.0, 1), ("a", 2, 1.0, 2)], "a doc_id occurs twice"),
        ([("a", 1, 1.0, 1), ("b", 1, 1.0, 2)], "a rank is null or occurs twice"),
        ([("a", None, 1.0, 1)], "a rank is null"),
        ([("a", 1, 1.0, 1), ("b", 2, 1.0, 1)], "a first_stage_rank is null or occurs twice"),
        ([(None, 1, 1.0, 1)], "a doc_id is null"),
    ],
)
def test_a_ranking_that_contradicts_itself_is_refused(places: list[tuple[Any, ...]], message: str) -> None:
    with pytest.raises(InputError, match=rf"part-0\.parquet: query 'q': {message}"):
        read(ranking(("q", places)))


def test_a_table_of_another_shape_is_refused_with_its_columns() -> None:
    with pytest.raises(InputError, match="it has the columns query_id, text"):
        read(pa.table({"query_id": ["q"], "text": ["x"]}))
    with pytest.raises(InputError, match=r"column ranking is list<.*it has no rank"):
        read(pa.table({"query_id": ["q"], "ranking": [[{"doc_id": "a"}]]}))
    with pytest.raises(InputError, match="column ranking is string"):
        read(pa.table({"query_id": ["q"], "ranking": ["a"]}))


def test_ids_that_are_not_utf8_and_ranks_that_are_no_numbers_are_refused() -> None:
    broken = pa.StringArray.from_buffers(1, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff"))
    with pytest.raises(InputError, match=r"part-0\.parquet: its query_id or candidates cannot be read"):
        read(pa.table({"query_id": broken, "candidates": [[{"doc_id": "a"}]]}))
    with pytest.raises(InputError, match=r"part-0\.parquet: its query_id or ranking cannot be read"):
        read(pa.table({"query_id": ["q"], "ranking": [[{"doc_id": "a", "rank": "first"}]]}))


def test_a_null_query_id_and_an_empty_ranking_are_refused() -> None:
    with pytest.raises(InputError, match="a query_id is null"):
        read(ranking((None, [])))
    with pytest.raises(InputError, match="holds no query"):
        read(ranking())
