import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.evaluation.intervals import paired_interval

VALUES = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=60)


@given(VALUES)
def test_the_interval_brackets_the_mean_difference(values: list[tuple[float, float]]) -> None:
    first, second = np.array(values).T
    low, high = paired_interval(first, second, resamples=2000)
    difference = second - first
    margin = 0.1 * difference.std() + 1e-9  # a few skewed queries can push the mean to the interval's edge
    assert low - margin <= difference.mean() <= high + margin
    assert difference.min() - 1e-9 <= low <= high <= difference.max() + 1e-9


def test_the_interval_is_that_of_the_normal_theory_where_queries_are_many() -> None:
    draw = np.random.default_rng(1)
    first, second = draw.normal(0.4, 0.2, 4000), draw.normal(0.5, 0.2, 4000)
    half = 1.96 * (second - first).std() / math.sqrt(4000)
    mean = (second - first).mean()
    assert paired_interval(first, second) == pytest.approx((mean - half, mean + half), abs=0.05 * half)


def test_the_same_seed_gives_the_same_interval() -> None:
    first, second = np.random.default_rng(2).random((2, 30))
    assert paired_interval(first, second, seed=4) == paired_interval(first, second, seed=4)
    assert paired_interval(first, second, seed=4) != paired_interval(first, second, seed=5)


def test_a_constant_difference_has_no_width() -> None:
    assert paired_interval(np.zeros(9), np.full(9, 0.25)) == (0.25, 0.25)


def test_the_interval_does_not_depend_on_how_many_draws_fit_in_memory() -> None:
    first, second = np.random.default_rng(3).random((2, 900))
    low, high = paired_interval(first, second, resamples=10_000)  # 9 million draws: more than one block
    assert low < (second - first).mean() < high


def test_values_of_other_queries_are_refused_and_no_query_has_no_interval() -> None:
    with pytest.raises(ValueError, match="not of the same queries"):
        paired_interval(np.zeros(2), np.zeros(3))
    assert all(map(math.isnan, paired_interval(np.zeros(0), np.zeros(0))))
