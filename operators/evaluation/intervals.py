"""How sure a difference between two rankings is: the paired bootstrap over queries."""

import numpy as np

RESAMPLES = 10_000
_DRAWS_AT_ONCE = 1 << 22  # 32 MiB of indices


def paired_interval(
    first: np.ndarray, second: np.ndarray, seed: int = 0, resamples: int = RESAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """The percentile bootstrap interval of mean(second - first), queries drawn with replacement.

    With d_i = second_i - first_i, each resample draws n queries and takes the mean of their d; the interval
    is the (1 - level) / 2 and (1 + level) / 2 quantiles of those means. Efron and Tibshirani (1993), "An
    Introduction to the Bootstrap", section 13.3; for retrieval measures, Sakai (2006), "Evaluating
    evaluation metrics based on the bootstrap".

    Args:
        first, second: float64 of n, the same queries in the same order.
        seed: of the draw; the same seed gives the same interval.

    Returns:
        The lower and the upper end; both NaN where n is 0.

    Raises:
        ValueError: the two have different lengths.
    """
    if first.shape != second.shape:
        raise ValueError(f"paired values of {first.shape} and {second.shape}: not of the same queries")
    difference = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    count = len(difference)
    if not count:
        return float("nan"), float("nan")
    draw = np.random.default_rng(seed)
    means = np.empty(resamples)
    block = max(1, _DRAWS_AT_ONCE // count)
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        means[start:stop] = difference[draw.integers(count, size=(stop - start, count))].mean(axis=1)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
