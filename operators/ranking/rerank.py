"""Scores into places: what a stage does to a unit's candidates."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_rerank.operators.arrow import list_sizes, one_array, parents, places, struct_array, to_lists
from ray_rerank.operators.candidates.schema import REJECT_SCHEMA, Origin
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.device import is_device_lost
from ray_rerank.operators.ranking.fusion import Fusion, Order, fuse
from ray_rerank.operators.scorers.base import Scorer


@dataclass(frozen=True, slots=True)
class StageRule:
    """How one stage of a cascade ranks.

    Attributes:
        number: of the stage, from 1.
        depth: how many candidates the stage before kept; None is all.
        fusion: how the scores are combined with those of the stage before; None is not at all.
    """

    number: int = 1
    depth: int | None = None
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class _Candidates:
    """All candidates of a unit, query by query.

    Attributes:
        structs: struct array of n.
        sizes: int64 of q, candidates per query.
        parent: int64 of n, the query of each.
        place: int64 of n, in the order before this stage, from 0.
        head: bool of n, which the stage scores.
        by_id: int64 of n, the place of each doc_id in the order of all.
    """

    structs: pa.StructArray
    sizes: np.ndarray
    parent: np.ndarray
    place: np.ndarray
    head: np.ndarray
    by_id: np.ndarray

    @classmethod
    def of(cls, table: pa.Table, depth: int | None) -> "_Candidates":
        """Take a unit's candidates apart."""
        lists = one_array(table["candidates"])
        sizes = list_sizes(lists)
        place = places(sizes)
        head = np.ones(len(place), bool) if depth is None else place < depth
        structs = lists.flatten()
        doc_id = np.array(structs.field("doc_id").to_pylist(), dtype=object)
        by_id = np.argsort(np.argsort(doc_id, kind="stable"), kind="stable")
        return cls(structs, sizes, parents(sizes), place, head, by_id)

    def numbers(self, field: str) -> np.ndarray:
        """A numeric field as an array of n, NaN for null."""
        return np.asarray(self.structs.field(field).to_numpy(zero_copy_only=False))


_Line = tuple[int, str | None, int, str]
"""A reject: the number of its query, its doc_id, how many candidates it stands for, and the reason."""


def rerank(
    table: pa.Table, scorer: Scorer, stage: StageRule, origin: Origin, work: ScoringStats
) -> tuple[pa.Table, pa.Table]:
    """Score the head of every query's candidates and put it in order; the tail stays below, as it was.

    Ties break by first-stage rank, then doc_id. A query that the model fails on, and a score that is not
    finite, become rejects; the rest is ranked.

    Args:
        table: candidates as `read_candidates` or an earlier stage left them.
        scorer: gives raw logits.
        stage: which stage this is.
        origin: where the unit was cut from, for rejects.
        work: what it cost is added here.

    Returns:
        The table, re-ordered, with `score` and `stage` set where this stage scored; and the rejects, of
        REJECT_SCHEMA.
    """
    candidates = _Candidates.of(table, stage.depth)
    head, parent = candidates.head, candidates.parent
    queries = table["query"].to_pylist()
    texts = candidates.structs.field("text").filter(pa.array(head)).to_pylist()
    pairs = [(queries[query], text) for query, text in zip(parent[head], texts, strict=True)]
    score = candidates.numbers("score").copy()
    score[head], failures = _score_by_query(pairs, parent[head], scorer, work)

    failed = np.isin(parent, list(failures))
    unusable = head & ~failed & ~np.isfinite(score)
    reason = f"stage {stage.number} gave a score that is not a finite number"
    order = _order(candidates, score, failed | unusable)
    if stage.fusion is not None:
        usable = head & ~failed & ~unusable
        score = _fuse_scores(candidates, stage, score, order, usable)
        if not np.isfinite(score[usable]).all():
            reason = (
                f"stage {stage.number} cannot be fused: the stage before has no score; `kind: reciprocal-rank` needs "
                "none"
            )
        unusable = head & ~failed & ~np.isfinite(score)
        order = _order(candidates, score, failed | unusable)

    kept = np.bincount(parent[order], minlength=len(candidates.sizes))
    ranked = table.filter(pa.array(kept > 0)).drop_columns("candidates")
    ranked = ranked.append_column("candidates", to_lists(kept[kept > 0], _set_scores(candidates, stage, score, order)))
    doc_id = candidates.structs.field("doc_id")
    lines: list[_Line] = [(int(parent[at]), doc_id[at].as_py(), 1, reason) for at in np.flatnonzero(unusable)]
    lines += [(query, None, int(candidates.sizes[query]), failure) for query, failure in failures.items()]
    bare = (query for query in np.flatnonzero(kept == 0).tolist() if query not in failures)
    lines += [(query, None, 0, "no candidate of this query can be ranked") for query in bare]
    return ranked, _to_reject_table(table, origin, lines)


def _order(candidates: _Candidates, score: np.ndarray, dropped: np.ndarray) -> np.ndarray:
    """Order candidates within their queries: the head by falling score, then the tail in the order before.

    Args:
        score: float of n; not looked at in the tail.
        dropped: bool of n, which are left out.

    Returns:
        int64 of at most n, indices of candidates.
    """
    head, place = candidates.head, candidates.place
    keys = (
        np.where(head, candidates.by_id, place),
        np.where(head, candidates.numbers("first_stage_rank"), place),
        np.where(head, -score, 0.0),
        ~head,
        candidates.parent,
    )
    order = np.lexsort(keys)
    return np.asarray(order[~dropped[order]])


def _fuse_scores(
    candidates: _Candidates, stage: StageRule, score: np.ndarray, order: np.ndarray, usable: np.ndarray
) -> np.ndarray:
    """The scores with those that are usable fused with the stage before; NaN where that has none."""
    assert stage.fusion is not None
    parent = candidates.parent
    rank = np.zeros(len(parent), np.int64)
    rank[order] = places(np.bincount(parent[order], minlength=len(candidates.sizes)))
    earlier = candidates.numbers("score" if stage.number > 1 else "first_stage_score")
    now, before = Order(score[usable], rank[usable]), Order(earlier[usable], candidates.place[usable])
    fused = score.copy()
    fused[usable] = fuse(stage.fusion, parent[usable], now, before)
    return fused


def _set_scores(candidates: _Candidates, stage: StageRule, score: np.ndarray, order: np.ndarray) -> pa.StructArray:
    """The candidates in their new order, with this stage's scores and number."""
    structs = candidates.structs
    number = np.where(candidates.head, stage.number, candidates.numbers("stage"))
    fields = {field.name: structs.field(field.name).take(order) for field in structs.type}
    fields["score"] = pa.array(score[order], pa.float32(), from_pandas=True)
    fields["stage"] = pa.array(number[order], pa.int32())
    return struct_array(fields)


def _score_by_query(
    pairs: list[tuple[str, str]], parent: np.ndarray, scorer: Scorer, work: ScoringStats
) -> tuple[np.ndarray, dict[int, str]]:
    """Scores of all pairs at once; where that fails, query by query, so that only the culprit is lost."""
    try:
        return scorer.score(pairs, work, parent), {}
    except Exception as whole:  # any fault of a model on some input: found by narrowing down
        if is_device_lost(whole):
            raise
        scores = np.full(len(pairs), np.nan, dtype=np.float32)
        failures: dict[int, str] = {}
        for query in np.unique(parent):
            rows = np.flatnonzero(parent == query)
            try:
                scores[rows] = scorer.score([pairs[row] for row in rows], work, parent[rows])
            except Exception as error:
                if is_device_lost(error):
                    raise
                failures[int(query)] = f"the model failed on this query: {type(error).__name__}: {error}"
        return scores, failures


def _to_reject_table(table: pa.Table, origin: Origin, lines: list[_Line]) -> pa.Table:
    query_id, row = table["query_id"].to_pylist(), table["row"].to_pylist()
    return pa.Table.from_pylist(
        [
            {
                "file": origin.file,
                "row": row[query],
                "query_id": query_id[query],
                "doc_id": doc_id,
                "reason": reason,
                "candidates": count,
            }
            for query, doc_id, count, reason in lines
        ],
        schema=REJECT_SCHEMA,
    )
