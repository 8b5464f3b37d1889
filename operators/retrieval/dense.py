"""The nearest documents of every query, exactly, from vectors that are read block by block."""

from collections.abc import Iterable

import numpy as np

from ray_rerank.operators.errors import InputError

QUERY_BLOCK = 256  # queries compared at a time with one block of documents


def nearest(
    queries: np.ndarray, blocks: Iterable[np.ndarray], k: int, similarity: str
) -> tuple[np.ndarray, np.ndarray]:
    """Search by brute force with bounded memory.

    Held at a time: one block of documents, 256 x (its rows) float32 similarities, and k results a query (12 bytes
    each); the size of the corpus does not matter. Equal scores stand in corpus order, whatever the blocks.

    Args:
        queries: float32 of (q, d).
        blocks: float arrays of (any, d), the corpus in order.
        k: how many a query.
        similarity: cosine, dot or euclidean (the distance negated).

    Returns:
        int64 rows of the corpus and float32 similarities, both (q, min(k, corpus)), best first.

    Raises:
        InputError: the similarity is another one.
    """
    check_similarity(similarity)
    queries = np.asarray(_unit(queries) if similarity == "cosine" else queries, dtype=np.float32)
    rows = np.zeros((len(queries), k), dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf, dtype=np.float32)
    start = 0
    for block in blocks:
        documents = np.asarray(_unit(block) if similarity == "cosine" else block, dtype=np.float32)
        for first in range(0, len(queries), QUERY_BLOCK):
            own = slice(first, first + QUERY_BLOCK)
            _merge(rows[own], scores[own], _similarities(queries[own], documents, similarity), start)
        start += len(documents)
    return rows[:, : min(k, start)], scores[:, : min(k, start)]


def check_similarity(similarity: str | None) -> None:
    """Raises InputError where vectors cannot be searched by it; None is not yet known."""
    if similarity not in {None, "cosine", "dot", "euclidean"}:
        raise InputError(f"similarity {similarity!r}: nearest documents are searched by cosine, dot or euclidean")


def _similarities(queries: np.ndarray, documents: np.ndarray, similarity: str) -> np.ndarray:
    products = queries @ documents.T
    if similarity != "euclidean":
        return np.asarray(products)
    squares = (queries**2).sum(1)[:, None] + (documents**2).sum(1)[None]
    return np.asarray(-np.sqrt(np.maximum(squares - 2 * products, 0)))


def _merge(rows: np.ndarray, scores: np.ndarray, found: np.ndarray, start: int) -> None:
    """Put a block's similarities among the best so far, in place. Its rows come after all that are there, so only
    a score above the last one can enter."""
    k = rows.shape[1]
    better = found > scores[:, -1:]
    for query in np.flatnonzero(better.any(axis=1)).tolist():
        hits = np.flatnonzero(better[query])
        values = found[query, hits]
        if len(hits) > k:  # argpartition alone would choose among equal scores by chance
            least = np.partition(values, len(hits) - k)[len(hits) - k]
            hits, values = hits[values >= least], values[values >= least]
        every_score = np.concatenate([scores[query], values])
        every_row = np.concatenate([rows[query], hits + start])
        order = np.lexsort((every_row, -every_score))[:k]
        rows[query], scores[query] = every_row[order], every_score[order]


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float32, copy=False)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(length == 0, 1, length))
