"""Run a model over packed batches and put its scores back in input order."""

from collections.abc import Callable

import numpy as np

from operators.device import is_out_of_memory
from operators.packing import by_length, pack
from operators.work import Work

Forward = Callable[[np.ndarray], Callable[[], np.ndarray]]
"""Starts a batch, given its row indices, and returns a call that waits for its float32 scores."""


class TokenBudget:
    """Tokens a batch may have, padding included; it shrinks when memory runs out and stays so."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens


def score_in_batches(lengths: np.ndarray, forward: Forward, budget: TokenBudget, work: Work) -> np.ndarray:
    """Score rows longest first, halving the budget for all that follow when a batch does not fit.

    Args:
        lengths: int64 of n, tokens of each row.
        forward: starts a batch; scores are fetched after all batches have been started, so that on a GPU
            the next batch is prepared while this one runs.
        budget: remembered across calls by its owner.
        work: counts are added to it.

    Returns:
        float32 of n, in the order of `lengths`.

    Raises:
        Exception: whatever `forward` raises, save out-of-memory on a batch of several rows.
    """
    started: list[tuple[np.ndarray, Callable[[], np.ndarray]]] = []
    left = by_length(lengths)
    while len(left):
        done = 0
        try:
            for batch in pack(left, lengths, budget.tokens):
                started.append((batch, forward(batch)))
                done += len(batch)
                work.batches += 1
                work.tokens += int(lengths[batch].sum())
                work.padded_tokens += len(batch) * int(lengths[batch[0]])
        except Exception as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            budget.tokens = len(batch) // 2 * int(lengths[batch[0]])
            work.halvings += 1
        left = left[done:]
    scores = np.empty(len(lengths), dtype=np.float32)
    for batch, fetch in started:
        scores[batch] = fetch()
    return scores
