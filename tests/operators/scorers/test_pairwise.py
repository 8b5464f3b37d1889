"""Aggregators: the published formulas, whatever the order of documents, with finite results at 0 and 1."""

import itertools
import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.scorers.pairwise import (
    AGGREGATORS,
    TINY,
    AggregatorName,
    aggregate,
    choose_comparisons,
    comparison_count,
)

NAMES = sorted(AGGREGATORS)
SYMMETRIC = [name for name in NAMES if name.startswith("sym")]
SIZES = st.integers(2, 7)


@st.composite
def matrices(draw: st.DrawFn, exact: bool = True) -> np.ndarray:
    """p[i, j] for a handful of documents, zeros and ones among them."""
    size = draw(SIZES)
    value = st.floats(0.001, 0.999)
    if exact:
        value = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), value)
    return np.array(draw(st.lists(value, min_size=size * size, max_size=size * size))).reshape(size, size)


def complete(p: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pairs = np.array(list(itertools.permutations(range(len(p)), 2)))
    return pairs[:, 0], pairs[:, 1], p[pairs[:, 0], pairs[:, 1]]


def by_hand(name: str, p: np.ndarray) -> list[float]:
    """The formulas, one document at a time, with nothing shared with the code under test."""

    def log(value: float) -> float:
        return math.log(max(value, TINY))

    scores = []
    for i in range(len(p)):
        own = [p[i, j] for j in range(len(p)) if j != i]
        other = [1 - p[j, i] for j in range(len(p)) if j != i]
        scores.append(
            {
                "sum": sum(own),
                "sum-log": sum(map(log, own)),
                "sym-sum": sum(own) + sum(other),
                "sym-sum-log": sum(map(log, own)) + sum(map(log, other)),
                "binary": sum(1.0 if value > 0.5 else 0.5 if value == 0.5 else 0.0 for value in own),
                "min": min(own),
                "max": max(own),
            }[name]
        )
    return scores


def test_every_aggregator_is_named_in_the_config() -> None:
    assert sorted(get_args(AggregatorName)) == NAMES


@pytest.mark.parametrize("name", NAMES)
@given(p=matrices())
def test_the_formula_is_the_published_one(name: AggregatorName, p: np.ndarray) -> None:
    np.testing.assert_allclose(aggregate(name, *complete(p), len(p)), by_hand(name, p), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(p=matrices(), seed=st.integers(0, 99))
def test_renaming_documents_renames_their_scores(name: AggregatorName, p: np.ndarray, seed: int) -> None:
    new = np.random.default_rng(seed).permutation(len(p))
    first, second, chance = complete(p)
    scores = aggregate(name, first, second, chance, len(p))
    np.testing.assert_allclose(aggregate(name, new[first], new[second], chance, len(p))[new], scores, atol=1e-9)


@pytest.mark.parametrize("name", NAMES)
@given(p=matrices(exact=False), winner=st.integers(0, 6))
def test_a_document_that_wins_every_comparison_is_first(name: AggregatorName, p: np.ndarray, winner: int) -> None:
    winner %= len(p)
    p[winner, :], p[:, winner] = 1.0, 0.0
    scores = aggregate(name, *complete(p), len(p))
    assert scores[winner] > np.delete(scores, winner).max()


@pytest.mark.parametrize("name", NAMES)
@given(size=SIZES, value=st.sampled_from([0.0, 1.0]))
def test_certainty_gives_finite_scores(name: AggregatorName, size: int, value: float) -> None:
    assert np.isfinite(aggregate(name, *complete(np.full((size, size), value)), size)).all()


@pytest.mark.parametrize("name", SYMMETRIC)
@given(p=matrices(), swaps=st.integers(0, 2**42 - 1))
def test_symmetric_forms_do_not_mind_the_order_within_a_pair(name: AggregatorName, p: np.ndarray, swaps: int) -> None:
    first, second, chance = complete(p)
    swapped = np.array([swaps >> at & 1 for at in range(len(first))], dtype=bool)
    again = aggregate(
        name,
        np.where(swapped, second, first),
        np.where(swapped, first, second),
        np.where(swapped, 1 - chance, chance),
        len(p),
    )
    np.testing.assert_allclose(again, aggregate(name, first, second, chance, len(p)), rtol=1e-6, atol=1e-6)


@given(documents=st.integers(2, 30), share=st.floats(0.01, 1), seed=st.integers(0, 5), query=st.text(max_size=4))
def test_a_sample_is_balanced_seeded_and_compares_every_document(
    documents: int, share: float, seed: int, query: str
) -> None:
    count = comparison_count(documents, share, None)
    first, second = choose_comparisons(documents, count, seed, query)
    assert (
        len(first) == count == min(max(round(share * documents * (documents - 1)), documents), documents**2 - documents)
    )
    pairs = set(zip(first.tolist(), second.tolist(), strict=True))
    assert len(pairs) == count and all(i != j for i, j in pairs)
    as_first, as_second = (np.bincount(side, minlength=documents) for side in (first, second))
    assert as_first.min() >= 1
    assert as_first.max() - as_first.min() <= 1
    assert np.abs(as_first - as_second).max() <= 1
    again = choose_comparisons(documents, count, seed, query)
    assert np.array_equal(again[0], first) and np.array_equal(again[1], second)


def test_another_seed_or_query_draws_other_pairs() -> None:
    def drawn(seed: int, query: str) -> set[tuple[int, int]]:
        return set(zip(*(side.tolist() for side in choose_comparisons(20, 40, seed, query)), strict=True))

    assert drawn(0, "a") != drawn(1, "a") != drawn(1, "b")


@pytest.mark.parametrize(
    ("documents", "count", "expected"), [(10, 3, 10), (10, 40, 40), (10, 999, 90), (1, 5, 0), (2, 1, 2)]
)
def test_a_count_is_raised_to_one_for_each_document_and_cut_to_all(documents: int, count: int, expected: int) -> None:
    assert comparison_count(documents, None, count) == expected


@pytest.mark.parametrize("name", ["sum", "sym-sum", "binary"])
def test_a_sample_of_a_consistent_model_keeps_its_order(name: AggregatorName) -> None:
    """Where p_ij is 1 for the better document, half of the pairs orders 30 documents nearly as all do."""
    worth = np.random.default_rng(0).permutation(30)
    first, second = choose_comparisons(30, 435, 0, "q")
    scores = aggregate(name, first, second, (worth[first] > worth[second]).astype(float), 30)
    assert np.corrcoef(np.argsort(np.argsort(scores)), worth)[0, 1] > 0.9
