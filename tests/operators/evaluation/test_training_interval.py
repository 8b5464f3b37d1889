import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from ray_rerank.operators.evaluation.intervals import interval_over_trainings


@pytest.mark.parametrize("spread", [0.0, 0.02, 0.2])
def test_the_interval_holds_the_true_difference_as_often_as_it_says(spread: float) -> None:
    draw, held, worlds = np.random.default_rng(5), 0, 400
    for _ in range(worlds):
        queries = draw.normal(0.5, 0.2, 50)
        ways = [queries + draw.normal(gain, 0.1, 50) for gain in (0.0, 0.03)]
        first, second = (way + draw.normal(0, spread, (3, 1)) + draw.normal(0, 0.05, (3, 50)) for way in ways)
        low, high = interval_over_trainings(first, second)
        held += low <= 0.03 <= high
    assert 0.93 < held / worlds < 0.99


def test_trainings_that_differ_widen_the_interval_and_more_of_them_narrow_it() -> None:
    queries = np.random.default_rng(6).random(40)
    apart = np.array([[-0.1], [0.0], [0.1]])
    once = queries[None] + 0.2
    steady, shaken, often = (
        interval_over_trainings(queries + spread, once) for spread in (0 * apart, apart, np.tile(apart, (5, 1)))
    )
    assert steady == pytest.approx((0.2, 0.2))
    assert shaken[0] < often[0] < 0.2 < often[1] < shaken[1]


def test_one_training_each_gives_the_paired_interval_over_queries() -> None:
    first, second = np.random.default_rng(7).random((2, 1, 30))
    known = ttest_rel(second[0], first[0]).confidence_interval(0.95)
    assert interval_over_trainings(first, second) == pytest.approx((known.low, known.high))


def test_a_constant_difference_has_no_width_and_one_query_no_interval() -> None:
    assert interval_over_trainings(np.zeros((2, 9)), np.full((2, 9), 0.25)) == (0.25, 0.25)
    assert all(map(math.isnan, interval_over_trainings(np.zeros((3, 1)), np.ones((3, 1)))))
    with pytest.raises(ValueError, match="2 and 3 queries"):
        interval_over_trainings(np.zeros((2, 2)), np.zeros((2, 3)))
