"""Which documents of a list are compared: all ordered pairs, or a balanced sample of them.

About a third of the comparisons already ranks competitively (Gienapp et al. 2022, arXiv 2207.04470).
"""

import numpy as np
import xxhash


def comparison_count(documents: int, fraction: float | None, count: int | None) -> int:
    """How many comparisons a list of documents gets: at least one for each as the first, at most all ordered pairs."""
    every = documents * (documents - 1)
    asked = count if count is not None else round((1.0 if fraction is None else fraction) * every)
    return min(max(asked, documents), every)


def choose_comparisons(documents: int, comparisons: int, seed: int, query: str) -> tuple[np.ndarray, np.ndarray]:
    """Draw ordered pairs of different documents, none twice.

    The documents stand in a ring in random order, and each is compared as the first with those that lie some drawn
    distances ahead: each is first as often as any other to within one, and second as often as it is first to within
    one, so that a preference of the model for the first place favours nobody.

    Args:
        documents: how many there are.
        comparisons: how many pairs; `documents` * (`documents` - 1) is all of them.
        seed, query: the draw; the same for the same query in any unit.

    Returns:
        int64 of (comparisons,) twice: first and second.
    """
    if documents < 2:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    draw = np.random.default_rng([seed, xxhash.xxh3_64_intdigest(query.encode())])
    ring = draw.permutation(documents)
    distances = draw.permutation(documents - 1) + 1
    steps = np.arange(comparisons)
    first = ring[steps % documents]
    second = ring[(steps + distances[steps // documents]) % documents]
    return first, second
