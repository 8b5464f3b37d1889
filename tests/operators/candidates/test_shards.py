import io
import math

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.join import CandidateList
from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from ray_rerank.operators.candidates.shards import (
    GROUP_CANDIDATES,
    GROUP_QUERIES,
    SHARD_NAME,
    row_groups,
    shard_bytes,
    shard_name,
)

TEXTS = pa.array(["text zero", "text one", "text two \N{SNOWMAN}"], pa.large_string())


def selection(number: int, size: int) -> CandidateList:
    scores = np.full(size, np.nan, dtype=np.float32)
    scores[: size // 2] = 1.5
    return CandidateList(f"q{number}", "query", [f"d{i}" for i in range(size)], np.arange(size) % 3, scores)


@given(st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_a_shard_reads_back_as_it_was_selected(sizes: list[int]) -> None:
    selections = [selection(number, size) for number, size in enumerate(sizes)]
    table = pq.read_table(io.BytesIO(shard_bytes(selections, TEXTS)))
    assert table.schema.equals(CANDIDATE_SCHEMA)
    texts = TEXTS.to_pylist()
    expected = [
        {
            "query_id": chosen.query_id,
            "query": "query",
            "candidates": [
                {"doc_id": doc_id, "text": texts[row], "score": None if math.isnan(score) else score}
                for doc_id, row, score in zip(chosen.doc_ids, chosen.rows, chosen.scores.tolist(), strict=True)
            ],
        }
        for chosen in selections
    ]
    assert table.to_pylist() == expected


def test_the_same_candidates_give_the_same_bytes() -> None:
    selections = [selection(number, 20) for number in range(10)]
    assert shard_bytes(selections, TEXTS) == shard_bytes(selections, TEXTS)


def test_row_groups_are_small_and_hold_whole_queries() -> None:
    few = list(row_groups([selection(number, 1) for number in range(1000)], TEXTS))
    assert max(map(len, few)) == GROUP_QUERIES
    many = list(row_groups([selection(number, 700) for number in range(20)], TEXTS))
    assert [len(group) for group in many] == [math.ceil(GROUP_CANDIDATES / 700)] * 6 + [2]
    assert [chosen.query_id for group in many for chosen in group] == [f"q{number}" for number in range(20)]


def test_long_texts_end_a_row_group_too() -> None:
    texts = pa.array(["x" * (30 << 20)], pa.large_string())
    selections = [CandidateList(f"q{i}", "q", ["d"], np.zeros(1, int), np.zeros(1, np.float32)) for i in range(5)]
    assert [len(group) for group in row_groups(selections, texts)] == [2, 2, 1]


def test_shard_names_sort_as_they_count_and_are_known_again() -> None:
    names = [shard_name(index, 12) for index in range(12)]
    assert names == sorted(names)
    assert names[0] == "candidates-00000-of-00012.parquet"
    assert all(map(SHARD_NAME.fullmatch, [*names, shard_name(123_456, 200_000)]))
    assert not SHARD_NAME.fullmatch("candidates-mine.parquet")
