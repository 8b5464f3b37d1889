"""Whether a difference between two rankings may be chance: the paired randomisation test, corrected for many tests."""

from collections.abc import Sequence

import numpy as np

RESAMPLES = 10_000
_NUMBERS_AT_ONCE = 1 << 22  # 32 MiB of float64


def randomisation_p(first: np.ndarray, second: np.ndarray, seed: int = 0, resamples: int = RESAMPLES) -> float:
    """The two-sided p-value of mean(second - first) under Fisher's paired randomisation test.

    If two systems were alike, the two values of a query could be exchanged: the p-value is the share of random
    exchanges whose difference of means is at least as large as the one observed. All 2^n are tried where they are
    no more than `resamples`. Smucker, Allan and Carterette (2007), "A comparison of statistical significance tests
    for information retrieval evaluation", CIKM.

    Args:
        first, second: float64 of n, the same queries in the same order.
        seed: of the draw; the same seed gives the same p-value.

    Returns:
        Above 0 and up to 1: 1 where nothing differs or n is below 2.

    Raises:
        ValueError: the two have different lengths.
    """
    if first.shape != second.shape:
        raise ValueError(f"paired values of {first.shape} and {second.shape}: not of the same queries")
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    if len(difference) < 2 or not difference.any():
        return 1.0
    from scipy.stats import permutation_test

    found = permutation_test(
        (difference,),
        lambda values, axis: np.abs(values.mean(axis=axis)).round(12),  # equal but for the order of addition is equal
        permutation_type="samples",  # of one sample: its signs
        alternative="greater",
        vectorized=True,
        n_resamples=resamples,
        batch=max(1, _NUMBERS_AT_ONCE // len(difference)),
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false finding among them stays below what each is held against.

    The i-th smallest of m becomes the largest of (m - j + 1) p_(j) over j up to i, at most 1. Holm (1979), "A simple
    sequentially rejective multiple test procedure".
    """
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
