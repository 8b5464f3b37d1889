"""Batches hold every pair once, stay within the budget, and shrink for good when memory runs out."""

from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.inference.batches import TokenBudget, by_length, pack, run_in_batches
from ray_rerank.operators.inference.stats import ScoringStats


def scores_of(
    lengths: np.ndarray, forward: Callable[[np.ndarray], Any], budget: TokenBudget, work: ScoringStats
) -> np.ndarray:
    """Each row's score, put back in its place."""
    scores = np.full(len(lengths), np.nan)
    for batch, found in run_in_batches(lengths, forward, budget, work):
        assert np.isnan(scores[batch]).all(), "a row was run twice"
        scores[batch] = found
    return scores


LENGTHS = st.lists(st.integers(1, 60), max_size=80).map(lambda values: np.array(values, dtype=np.int64))


@given(lengths=LENGTHS, budget=st.integers(1, 300))
def test_every_pair_is_in_one_batch_and_batches_fit_the_budget(lengths: np.ndarray, budget: int) -> None:
    batches = list(pack(by_length(lengths), lengths, budget))
    together = np.concatenate(batches) if batches else np.zeros(0, dtype=np.int64)
    assert sorted(together.tolist()) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * lengths[batch].max() <= budget


@given(lengths=LENGTHS, budget=st.integers(1, 600), memory=st.integers(60, 300))
def test_scores_come_back_in_input_order_even_when_batches_are_halved(
    lengths: np.ndarray, budget: int, memory: int
) -> None:
    sizes: list[int] = []

    def forward(batch: np.ndarray) -> Callable[[], np.ndarray]:
        padded = len(batch) * int(lengths[batch].max())
        sizes.append(padded)
        if padded > memory:
            raise MemoryError
        return lambda: batch.astype(np.float32)

    remembered, work = TokenBudget(budget), ScoringStats()
    scores = scores_of(lengths, forward, remembered, work)
    np.testing.assert_array_equal(scores, np.arange(len(lengths)))
    assert work.tokens == lengths.sum()
    assert work.halvings == sum(size > memory for size in sizes)
    sizes.clear()
    scores_of(lengths, forward, remembered, ScoringStats())
    assert all(size <= memory for size in sizes), "a later call tried the size that did not fit again"


def test_padding_share_of_equal_lengths_is_zero() -> None:
    work = ScoringStats()
    scores_of(np.full(64, 16), lambda batch: lambda: np.zeros(len(batch)), TokenBudget(256), work)
    assert work.padding_share == 0
    assert work.batches == 4
