"""Comparisons of two documents into one score a document.

SUM, BINARY, MIN and MAX: Pradeep, Nogueira and Lin 2021, arXiv 2101.05667; the symmetric and logarithmic forms as in
pygaggle. p_ij is the probability that document i, read first, is more relevant than document j.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xxhash

TINY = 1e-12
"""Where logarithms stop: a probability of exactly 0 counts as this."""


def _identity(p: np.ndarray) -> np.ndarray:
    return p


def _log(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(p, TINY)))


def _wins(p: np.ndarray) -> np.ndarray:
    return np.where(p == 0.5, 0.5, p > 0.5)


@dataclass(frozen=True, slots=True)
class Aggregator:
    """One way to make scores of comparisons.

    Attributes:
        meaning: the formula over all j other than i.
        term: what one comparison gives the document that was read first, from p_ij.
        both_sides: whether it also gives the document that was read second term(1 - p_ij).
        over: how a document's terms become its score.
    """

    meaning: str
    term: Callable[[np.ndarray], np.ndarray]
    both_sides: bool
    over: Literal["sum", "min", "max"]


AGGREGATORS: dict[str, Aggregator] = {
    "sum": Aggregator("sum p_ij", _identity, False, "sum"),
    "sum-log": Aggregator("sum log p_ij", _log, False, "sum"),
    "sym-sum": Aggregator("sum p_ij + (1 - p_ji)", _identity, True, "sum"),
    "sym-sum-log": Aggregator("sum log p_ij + log(1 - p_ji)", _log, True, "sum"),
    "binary": Aggregator("how many j with p_ij > 1/2, a tie counting half (Copeland)", _wins, False, "sum"),
    "min": Aggregator("min p_ij", _identity, False, "min"),
    "max": Aggregator("max p_ij", _identity, False, "max"),
}

AggregatorName = Literal["sum", "sum-log", "sym-sum", "sym-sum-log", "binary", "min", "max"]


def aggregate(name: AggregatorName, first: np.ndarray, second: np.ndarray, p: np.ndarray, documents: int) -> np.ndarray:
    """Score documents by their comparisons.

    Where only some pairs were compared, a sum becomes the mean of a document's terms times the terms that it would
    have among all pairs, so that documents with more comparisons have no advantage.

    Args:
        first, second: int64 of c, the documents that were read first and second in each comparison.
        p: float64 of c, the probability that the first is more relevant.
        documents: how many documents there are; each should be first in some comparison, or in a symmetric form in
            some comparison.

    Returns:
        float64 of (documents,), finite; 0 for a document without a comparison.
    """
    chosen = AGGREGATORS[name]
    owner, term = first, chosen.term(p)
    if chosen.both_sides:
        owner, term = np.concatenate([first, second]), np.concatenate([term, chosen.term(1 - p)])
    count = np.bincount(owner, minlength=documents)
    if chosen.over == "sum":
        among_all = (documents - 1) * (2 if chosen.both_sides else 1)
        total = np.bincount(owner, weights=term, minlength=documents)
        return np.where(count == among_all, total, total / np.maximum(count, 1) * among_all)
    scores = np.full(documents, np.inf if chosen.over == "min" else -np.inf)
    (np.minimum if chosen.over == "min" else np.maximum).at(scores, owner, term)
    return np.where(count > 0, scores, 0.0)


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
