"""Which passages are whose candidates: runs and queries joined with the passages that there are."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import xxhash

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import Passages, Queries
from ray_rerank.operators.formats.trec_runs import RankedList, Run, cut
from ray_rerank.operators.rejects import Reason, Reject, RejectSink


@dataclass(frozen=True, slots=True)
class CandidateList:
    """One query and its candidates in first-stage order, by reference to the table of texts.

    Attributes:
        doc_ids: distinct.
        rows: int64 of n, rows of the passages' texts.
        scores: float32 of n, the first stage's; NaN where there is none.
    """

    query_id: str
    query: str
    doc_ids: Sequence[str]
    rows: np.ndarray
    scores: np.ndarray


def known_queries(run: Run, name: str, queries: Queries, depth: int | None, rejects: RejectSink) -> Run:
    """The run's queries that have a text, each cut to `depth`; the others go to `rejects`, one reject per query.

    Args:
        name: what messages call the run.

    Raises:
        InputError: not one of them has a text: the two files are of different collections.
    """
    known = {query_id: cut(ranked, depth) for query_id, ranked in run.items() if query_id in queries.texts}
    if not known:
        raise InputError(
            f"none of the {len(run)} query ids of {name} is in {queries.name}: the run has "
            f"{_some(run)}, the queries have {_some(queries.texts)}"
        )
    for query_id, ranked in run.items():
        if query_id not in known:
            left_out = f"{len(ranked.doc_ids)} candidates; {queries.name} has no such id"
            line = int(ranked.lines.min(initial=np.iinfo(np.int64).max))
            rejects.add(Reject(name, line, Reason.UNKNOWN_QUERY, left_out, query_id))
    return known


def doc_ids_of(run: Run) -> frozenset[str]:
    """Every document that the run names."""
    return frozenset(doc_id for ranked in run.values() for doc_id in ranked.doc_ids)


def select(run: Run, name: str, queries: Queries, passages: Passages, rejects: RejectSink) -> Iterator[CandidateList]:
    """Join each query of a run with its passages; a document without text goes to `rejects`.

    Queries of which no candidate is left are not yielded.

    Args:
        name: what messages call the run.
    """
    for query_id, ranked in run.items():
        rows = np.fromiter((passages.row.get(doc_id, -1) for doc_id in ranked.doc_ids), np.int64, len(ranked.doc_ids))
        for missing in np.flatnonzero(rows < 0).tolist():
            rejects.add(
                Reject(
                    name,
                    int(ranked.lines[missing]),
                    Reason.UNKNOWN_DOC,
                    f"{passages.name} has no text for it",
                    query_id,
                    ranked.doc_ids[missing],
                )
            )
        kept = np.flatnonzero(rows >= 0)
        if len(kept):
            doc_ids = [ranked.doc_ids[i] for i in kept.tolist()]
            yield CandidateList(
                query_id, queries.texts[query_id], doc_ids, rows[kept], ranked.scores[kept].astype(np.float32)
            )


def draw_random(run: Run, pool: pa.Array, count: int, seed: int) -> Run:
    """Draw for each query `count` passages of `pool` that are not among its candidates, without scores.

    A query's draw depends on the seed, its query_id, its candidates and the pool, not on other queries. Fewer
    are drawn where the pool has no more.
    """
    return {query_id: _drawn(query_id, ranked, pool, count, seed) for query_id, ranked in run.items()}


def append(selections: Iterable[CandidateList], more: Iterable[CandidateList]) -> Iterator[CandidateList]:
    """Put the candidates of `more` behind those of the same query; other queries of `more` are dropped."""
    behind = {selection.query_id: selection for selection in more}
    for selection in selections:
        other = behind.get(selection.query_id)
        if other is None:
            yield selection
        else:
            yield CandidateList(
                selection.query_id,
                selection.query,
                [*selection.doc_ids, *other.doc_ids],
                np.concatenate([selection.rows, other.rows]),
                np.concatenate([selection.scores, other.scores]),
            )


def _drawn(query_id: str, ranked: RankedList, pool: pa.Array, count: int, seed: int) -> RankedList:
    draw = np.random.default_rng([seed, xxhash.xxh3_64_intdigest(query_id.encode())])
    ahead = min(len(pool), count + len(ranked.doc_ids))
    rows = draw.choice(len(pool), size=ahead, replace=False)
    own = set(ranked.doc_ids)
    found = [doc_id for doc_id in dict.fromkeys(pool.take(pa.array(rows)).to_pylist()) if doc_id not in own]
    found = found[:count]
    return RankedList(found, np.full(len(found), np.nan), np.zeros(len(found), dtype=np.int64))


def _some(ids: Iterable[str]) -> str:
    shown = [repr(key) for key, _ in zip(ids, range(3), strict=False)]
    return ", ".join(shown) or "none"
