"""Batches of pairs of like length in random order: hardly any padding, and still a fresh shuffle an epoch."""

import numpy as np
from numpy.typing import NDArray

BATCHES_A_POOL = 64


def length_grouped_batches(
    lengths: NDArray[np.int64], batch_size: int, seed: int, epoch: int
) -> list[NDArray[np.int64]]:
    """Deal rows into batches of `batch_size` (the last may be short), each row once.

    All rows are shuffled, cut into pools of `BATCHES_A_POOL` batches, sorted by length inside each pool and
    cut into batches, which are shuffled in turn. The same arguments give the same batches.

    Args:
        lengths: `(rows,)`, any unit: only the order counts.

    Returns:
        Arrays of row numbers, int64.
    """
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(lengths))
    pool = batch_size * BATCHES_A_POOL
    batches: list[NDArray[np.int64]] = []
    for start in range(0, len(order), pool):
        rows = order[start : start + pool]
        rows = rows[np.argsort(lengths[rows], kind="stable")]
        batches += [rows[cut : cut + batch_size] for cut in range(0, len(rows), batch_size)]
    return [batches[position] for position in draw.permutation(len(batches))]


def full_batches(batches: list[NDArray[np.int64]], size: int, workers: int) -> list[NDArray[np.int64]]:
    """What several processes can share evenly: whole batches only, as many for each.

    Of one process: all of them. What is left over is another part of the rows every epoch, for they are shuffled.
    """
    if workers == 1:
        return batches
    whole = [batch for batch in batches if len(batch) == size]
    return whole[: len(whole) // workers * workers]
