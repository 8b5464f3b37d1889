"""Run a model over packed batches, smaller ones from then on when memory runs out."""

from collections.abc import Callable, Iterator

import numpy as np

from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.device import is_out_of_memory

Forward = Callable[[np.ndarray], Callable[[], np.ndarray]]
"""Starts a batch, given its row indices, and returns a call that waits for its results."""


class TokenBudget:
    """What a batch may be.

    Attributes:
        tokens: the most it may have, padding included; it shrinks when memory runs out and stays so.
        equal_lengths: whether its rows must have the same length, for models whose scores depend on padding.
    """

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.equal_lengths = False


def run_in_batches(
    lengths: np.ndarray, forward: Forward, budget: TokenBudget, work: ScoringStats
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Run rows longest first, halving the budget for all that follow when a batch does not fit.

    Args:
        lengths: int64 of n, tokens of each row.
        forward: starts a batch; results are fetched after all batches have been started, so that on a GPU
            the next batch is prepared while this one runs.
        budget: remembered across calls by its owner.
        work: counts are added to it.

    Yields:
        The row numbers of a batch (int64), and what `forward` gave for it; every row once.

    Raises:
        Exception: whatever `forward` raises, save out-of-memory on a batch of several rows.
    """
    started: list[tuple[np.ndarray, Callable[[], np.ndarray]]] = []
    left = by_length(lengths)
    while len(left):
        done = 0
        try:
            for batch in pack(left, lengths, budget.tokens, budget.equal_lengths):
                started.append((batch, forward(batch)))
                done += len(batch)
                work.batches += 1
                work.tokens += int(lengths[batch].sum())
                work.padded_tokens += len(batch) * int(lengths[batch[0]])
                work.alive()
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            budget.tokens = len(batch) // 2 * int(lengths[batch[0]])
            work.halvings += 1
        left = left[done:]
    for batch, fetch in started:
        results = fetch()
        work.alive()
        yield batch, results


def by_length(lengths: np.ndarray) -> np.ndarray:
    """The order of batching: longest first, so that what cannot fit in memory shows at once; stable."""
    return np.argsort(-lengths, kind="stable")


def pack(order: np.ndarray, lengths: np.ndarray, budget: int, equal: bool = False) -> Iterator[np.ndarray]:
    """Cut an order, longest first, into batches whose padded size stays within a budget.

    Args:
        order: int64, indices into `lengths`, by falling length.
        lengths: int64, tokens of each pair with its special tokens.
        budget: rows x longest row of a batch, in tokens; a single pair may exceed it.
        equal: whether all pairs of a batch must have the same length.

    Yields:
        int64 slices of `order`, each at least one pair; together they are `order`.
    """
    start = 0
    while start < len(order):
        longest = max(int(lengths[order[start]]), 1)
        stop = start + max(budget // longest, 1)
        if equal:
            stop = min(stop, start + int((lengths[order[start:stop]] == lengths[order[start]]).sum()))
        yield order[start:stop]
        start = stop
