"""A model behind a cache: rows whose score is known are not run again, and what is new is kept for the cache."""

import time
from collections.abc import Callable, Sequence

import numpy as np
import xxhash

from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.inference.tokens import distinct
from ray_rerank.operators.scorers.base import Evaluate

Lookup = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, float]]
"""Given query and document keys, uint8 of (n, 16) each: float32 of n, NaN where unknown, and the seconds saved."""


def row_keys(rows: Sequence[tuple[str, ...]]) -> tuple[np.ndarray, np.ndarray]:
    """128-bit xxh3 of each row's query and of its document; of ordered documents, that of their hashes in order.

    Returns:
        uint8 of (len(rows), 16) twice.
    """
    hashed = []
    for column in zip(*rows, strict=True):
        texts, index = distinct(column)
        digests = b"".join(xxhash.xxh3_128_digest(text.encode()) for text in texts)
        hashed.append(np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)[index])
    if not hashed:
        return np.zeros((0, 16), np.uint8), np.zeros((0, 16), np.uint8)
    query, *documents = hashed
    if len(documents) == 1:
        return query, documents[0]
    ordered = np.concatenate(documents, axis=1)
    digests = b"".join(xxhash.xxh3_128_digest(row.tobytes()) for row in ordered)
    return query, np.frombuffer(digests, dtype=np.uint8).reshape(-1, 16)


class CachedEvaluation:
    """Stands where a scorer's `evaluate` stood."""

    def __init__(self, evaluate: Evaluate, lookup: Lookup) -> None:
        self._evaluate, self._lookup = evaluate, lookup
        self._fresh: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def __call__(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        """Score rows: those in the cache from there, the others by the model.

        Returns:
            float32 of len(rows), in their order.
        """
        started = time.perf_counter()
        query, document = row_keys(rows)
        scores, saved = self._lookup(query, document)
        missing = np.flatnonzero(np.isnan(scores))
        work.cached += len(rows) - len(missing)
        work.saved_seconds += saved
        work.seconds += time.perf_counter() - started
        if len(missing):
            scores[missing] = self._evaluate([rows[row] for row in missing.tolist()], work)
            self._fresh.append((query[missing], document[missing], scores[missing]))
        return scores

    def take(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """What was computed since the last call: query keys, document keys, scores; it may hold a key twice."""
        nothing = (np.zeros((0, 16), np.uint8), np.zeros((0, 16), np.uint8), np.zeros(0, np.float32))
        taken = [np.concatenate(parts) for parts in zip(nothing, *self._fresh, strict=True)]
        self._fresh.clear()
        return taken[0], taken[1], taken[2]
