"""The mathematics of labels: moments over parts, means, standardised means, ties."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.operators.ranking.labels import Moments, pool_moments, set_scores

LOGITS = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=30)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(LOGITS, min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_moments_of_parts_are_those_of_all_values_together(parts: list[list[float]], far: float) -> None:
    arrays = [np.array(part, np.float64) + far for part in parts]
    [total] = pool_moments([[Moments.of(array)] for array in arrays], 1)
    whole = np.concatenate(arrays)
    assert total.count == len(whole)
    assert total.mean == pytest.approx(whole.mean(), rel=1e-12, abs=1e-9)
    assert total.deviation == pytest.approx(whole.std(), rel=1e-6, abs=1e-7)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.floats(-1e4, 1e4, width=32), st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_equal_values_have_no_deviation_at_all_however_they_are_parted(value: float, sizes: list[int]) -> None:
    [total] = pool_moments([[Moments.of(np.full(size, value, np.float32))] for size in sizes], 1)
    assert total.deviation == 0.0


def rows(*scores: list[float]) -> pa.Table:
    """Two queries of half the pairs each; doc ids fall, so that a tie that broke by them would show."""
    count = len(scores[0])
    columns = {
        "query_id": ["b"] * (count // 2) + ["a"] * (count - count // 2),
        "doc_id": [f"d{count - number}" for number in range(count)],
        "score": pa.nulls(count, pa.float32()),
        "rank": pa.nulls(count, pa.int32()),
        "first_stage_rank": pa.array([*range(1, count // 2 + 1), *range(1, count - count // 2 + 1)], pa.int32()),
    }
    own = {f"teacher_{n}": pa.array(values, pa.float32()) for n, values in enumerate(scores, start=1)}
    return pa.table(columns | own)


def test_ties_break_by_first_stage_rank_and_queries_keep_their_place() -> None:
    table = set_scores(rows([1, 2, 2, 5, 7, 7]), [3.0])
    assert table["query_id"].to_pylist() == list("bbbaaa")
    assert table["doc_id"].to_pylist() == ["d5", "d4", "d6", "d2", "d1", "d3"]
    assert table["rank"].to_pylist() == [1, 2, 3, 1, 2, 3]
    assert table["score"].to_pylist() == [2, 2, 1, 7, 7, 5]


def test_a_teacher_that_gives_all_pairs_the_same_adds_nothing_when_standardised() -> None:
    table = rows([1, 2, 3, 4], [0.1, 0.1, 0.1, 0.1])
    scales = [Moments.of(table[f"teacher_{n}"].to_numpy()) for n in (1, 2)]
    scores = set_scores(table, [1, 1], scales).sort_by("teacher_1")["score"].to_pylist()
    np.testing.assert_allclose(scores, (np.arange(4) - 1.5) / np.sqrt(1.25) / 2, rtol=1e-6)


def test_standardising_again_by_other_moments_leaves_no_trace_of_the_first() -> None:
    table = rows([1, 2, 3, 4, 5, 6], [6, 1, 5, 2, 4, 3])
    other = set_scores(table, [1, 1], [Moments(4, 0.0, 400.0), Moments(4, 9.0, 4.0)])
    scales = [Moments.of(table[f"teacher_{n}"].to_numpy()) for n in (1, 2)]
    assert set_scores(other, [1, 1], scales) == set_scores(table, [1, 1], scales)
