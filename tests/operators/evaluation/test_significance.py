import itertools

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from ray_rerank.operators.evaluation.significance import holm, randomisation_p

TENTHS = st.integers(0, 10).map(lambda tenths: tenths / 10)


@example([(0.0, 0.5), (0.3, 0.4), (0.0, 0.2), (0.5, 0.4), (0.7, 0.0)])  # a mean of 0, but for the last digit
@settings(max_examples=40)
@given(st.lists(st.tuples(TENTHS, TENTHS), min_size=2, max_size=8))
def test_of_few_queries_every_exchange_is_tried(values: list[tuple[float, float]]) -> None:
    first, second = np.array(values).T
    difference = second - first
    signs = np.array(list(itertools.product([1, -1], repeat=len(difference))))
    means = (signs * difference).mean(axis=1)
    expected = float((np.abs(means) >= abs(difference.mean()) - 1e-12).mean())
    assert randomisation_p(first, second) == pytest.approx(expected)


def test_of_many_queries_it_comes_near_the_paired_t_test() -> None:
    draw = np.random.default_rng(1)
    first = draw.normal(0.4, 0.2, 300)
    second = first + draw.normal(0.012, 0.1, 300)
    assert randomisation_p(first, second) == pytest.approx(ttest_rel(first, second).pvalue, abs=0.02)


def test_the_same_seed_gives_the_same_p_value_whichever_is_first() -> None:
    first, second = np.random.default_rng(2).random((2, 40))
    assert randomisation_p(first, second, 3) == randomisation_p(first, second, 3)
    assert randomisation_p(first, second, 3) == pytest.approx(randomisation_p(second, first, 3), abs=0.02)


def test_no_difference_and_too_few_queries_show_nothing() -> None:
    assert randomisation_p(np.ones(9), np.ones(9)) == 1.0
    assert randomisation_p(np.zeros(1), np.ones(1)) == 1.0
    with pytest.raises(ValueError, match="not of the same queries"):
        randomisation_p(np.zeros(2), np.zeros(3))


def test_holm_is_the_worked_example_of_the_method() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p: list[float]) -> None:
    adjusted = holm(p)
    assert all(own <= new <= min(1.0, own * len(p)) + 1e-12 for own, new in zip(p, adjusted, strict=True))
    order = np.argsort(p, kind="stable")
    assert list(np.array(adjusted)[order]) == sorted(adjusted)
