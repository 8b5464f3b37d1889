"""How sure a difference between two rankings is: the paired bootstrap over queries."""

import math

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


def interval_over_trainings(first: np.ndarray, second: np.ndarray) -> tuple[float, float]:
    """The 95 % interval of mean(second) - mean(first) over other queries and other seeds of training alike.

    A figure varies with the queries and with the training, so the variance of the difference is added up along both:
    that of the queries' differences of mean over n, and for each way that of its trainings' means over their number.
    Cameron, Gelbach and Miller (2011), "Robust inference with multiway clustering", Journal of Business and Economic
    Statistics 29; their third term, which takes off what both count, is left out, as it can only narrow the interval
    and may end below zero. The quantile is Student's with the degrees of freedom of Satterthwaite (1946), "An
    approximate distribution of estimates of variance components": few trainings make it wide.

    Trainings of the two ways are taken as independent of each other, also where they share a seed. What else could vary
    (the pairs trained on) is not in it; nor is what no training showed: where a training fails now and then, a few that
    all went well give an interval that is too sure.

    Args:
        first, second: float64 of (trainings, n), the same n queries in the same order; they may differ in trainings.
            A way that was trained once adds no variance of trainings: the interval is then over the queries alone.

    Returns:
        The lower and the upper end; both NaN where n is below 2.

    Raises:
        ValueError: the two differ in n.
    """
    if first.shape[1] != second.shape[1]:
        raise ValueError(f"values of {first.shape[1]} and {second.shape[1]} queries: not the same ones")
    from scipy.stats import t

    queries = first.shape[1]
    if queries < 2:
        return math.nan, math.nan
    varying = [second.mean(axis=0) - first.mean(axis=0), first.mean(axis=1), second.mean(axis=1)]
    sampled = [(values.var(ddof=1) / len(values), len(values) - 1) for values in varying if len(values) > 1]
    gain, variance = float(varying[0].mean()), sum(own for own, _ in sampled)
    if variance == 0:
        return gain, gain
    freedom = variance**2 / sum(own**2 / degrees for own, degrees in sampled)
    half = float(t.ppf(0.975, freedom) * math.sqrt(variance))
    return gain - half, gain + half
