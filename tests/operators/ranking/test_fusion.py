"""Fused scores: reciprocal ranks and weighted sums over each query alone."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_rerank.operators.ranking.fusion import Order, ReciprocalRankFusion, WeightedFusion, fuse

QUERY = np.array([4, 4, 4, 7])
SCORE, EARLIER = np.array([2.0, 6.0, 4.0, 1.0]), np.array([9.0, 1.0, 5.0, 3.0])
RANK, EARLIER_RANK = np.array([2, 0, 1, 0]), np.array([0, 2, 1, 0])


def fused(fusion: WeightedFusion | ReciprocalRankFusion, earlier: np.ndarray = EARLIER) -> np.ndarray:
    return fuse(fusion, QUERY, Order(SCORE, RANK), Order(earlier, EARLIER_RANK))


def test_reciprocal_ranks_count_from_one() -> None:
    expected = [1 / 63 + 1 / 61, 1 / 61 + 1 / 63, 1 / 62 + 1 / 62, 1 / 61 + 1 / 61]
    np.testing.assert_allclose(fused(ReciprocalRankFusion(kind="reciprocal-rank")), expected)


def test_min_max_and_z_score_are_taken_over_each_query() -> None:
    np.testing.assert_allclose(fused(WeightedFusion(kind="weighted", weight=0.25)), [0.75, 0.25, 0.5, 0])
    spread = np.sqrt(8 / 3)
    got = fused(WeightedFusion(kind="weighted", weight=1, normalise="z-score"))
    np.testing.assert_allclose(got, [-2 / spread, 2 / spread, 0, 0])


def test_a_query_without_earlier_scores_cannot_be_weighted() -> None:
    got = fused(WeightedFusion(kind="weighted"), np.array([9.0, np.nan, 5.0, 3.0]))
    assert np.isnan(got[:3]).all() and np.isfinite(got[3])


@given(scores=st.lists(st.floats(-50, 50), min_size=1, max_size=9), weight=st.sampled_from([0.0, 1.0]))
def test_all_the_weight_on_one_side_keeps_that_sides_order(scores: list[float], weight: float) -> None:
    mine = np.array(scores)
    other = mine[::-1].copy()
    places = np.arange(len(mine))
    fusion = WeightedFusion(kind="weighted", weight=weight)
    got = fuse(fusion, np.zeros(len(mine)), Order(mine, places), Order(other, places))
    side = mine if weight == 1 else other
    order = np.argsort(side, kind="stable")
    assert (np.diff(got[order]) >= 0).all()


def test_an_unknown_fusion_is_refused() -> None:
    with pytest.raises(ValidationError):
        WeightedFusion(kind="weighted", weight=1.5)
