"""Batches by token budget: pairs of like length together, so that little of a batch is padding."""

from collections.abc import Iterator

import numpy as np


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
