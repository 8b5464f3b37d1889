"""Scores into places: what a stage does to a unit's candidates, and the ranking that is written."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.operators.arrow import lists, one_array
from ray_rerank.operators.candidates.schema import REJECT_SCHEMA, Origin
from ray_rerank.operators.inference.stats import Work
from ray_rerank.operators.models.device import is_device_lost
from ray_rerank.operators.ranking.fusion import Fusion, fuse
from ray_rerank.operators.scorers.base import Scorer


def rerank(
    table: pa.Table,
    scorer: Scorer,
    stage: int,
    depth: int | None,
    origin: Origin,
    work: Work,
    fusion: Fusion | None = None,
) -> tuple[pa.Table, pa.Table]:
    """Score the head of every query's candidates and put it in order; the tail stays below, as it was.

    Ties break by first-stage rank, then doc_id. A query that the model fails on, and a score that is not
    finite, become faults; the rest is ranked.

    Args:
        table: candidates as `read_candidates` or an earlier stage left them.
        scorer: gives raw logits.
        stage: the number of this stage, from 1.
        depth: how many candidates the stage before kept; None is all.
        origin: where the unit was cut from, for faults.
        work: what it cost is added here.
        fusion: how the scores are combined with those of the stage before; None is not at all.

    Returns:
        The table, re-ordered, with `score` and `stage` set where this stage scored; and the faults.
    """
    candidates = one_array(table["candidates"])
    size = pc.list_value_length(candidates).to_numpy(zero_copy_only=False).astype(np.int64)
    parent = np.repeat(np.arange(len(size)), size)
    place = np.arange(len(parent)) - np.repeat(np.cumsum(size) - size, size)
    structs = candidates.flatten()
    head = place < depth if depth is not None else np.ones(len(parent), dtype=bool)

    queries = table["query"].to_pylist()
    texts = structs.field("text").filter(pa.array(head)).to_pylist()
    scores, failures = _score_by_query(
        [(queries[query], text) for query, text in zip(parent[head], texts, strict=True)],
        parent[head],
        scorer,
        work,
    )
    failed = np.isin(parent, list(failures))
    earlier = structs.field("score" if stage > 1 else "first_stage_score").to_numpy(zero_copy_only=False)
    new = structs.field("score").to_numpy(zero_copy_only=False).copy()
    new[head] = scores
    unusable = head & ~failed & ~np.isfinite(new)
    reason = f"stage {stage} gave a score that is not a finite number"

    doc_id = structs.field("doc_id")
    first_rank = structs.field("first_stage_rank").to_numpy()
    by_id = np.argsort(np.argsort(np.array(doc_id.to_pylist(), dtype=object), kind="stable"), kind="stable")

    def best_first() -> np.ndarray:
        score, tie, last = np.where(head, -new, 0.0), np.where(head, first_rank, place), np.where(head, by_id, place)
        order = np.lexsort((last, tie, score, ~head, parent))
        return np.asarray(order[~(failed | unusable)[order]])

    order = best_first()
    if fusion is not None:
        scored = np.flatnonzero(head & ~failed & ~unusable)
        rank = _places(order, parent)
        new[scored] = fuse(fusion, parent[scored], new[scored], rank[scored], earlier[scored], place[scored])
        if not np.isfinite(new[scored]).all():
            reason = f"stage {stage} cannot be fused: the stage before has no score; `kind: reciprocal-rank` needs none"
        unusable |= head & ~failed & ~np.isfinite(new)
        order = best_first()
    stage_of = np.where(head, stage, structs.field("stage").to_numpy())
    columns = {field.name: structs.field(field.name).take(order) for field in structs.type}
    columns["score"] = pa.array(new[order], pa.float32(), from_pandas=True)
    columns["stage"] = pa.array(stage_of[order], pa.int32())
    kept_size = np.bincount(parent[order], minlength=len(size))
    kept = kept_size > 0
    ranked = table.filter(pa.array(kept)).drop_columns("candidates")
    ranked = ranked.append_column(
        "candidates",
        lists(kept_size[kept], pa.StructArray.from_arrays(list(columns.values()), names=list(columns))),
    )
    return ranked, _faults(table, origin, reason, failures, parent, unusable, doc_id, size, kept)


def _places(order: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """int64 of len(parent): each candidate's place among its query's in `order`, from 0; 0 where it is not there."""
    places = np.zeros(len(parent), dtype=np.int64)
    starts = np.flatnonzero(np.diff(parent[order], prepend=-1))
    places[order] = np.arange(len(order)) - np.repeat(starts, np.diff(starts, append=len(order)))
    return places


def _score_by_query(
    pairs: list[tuple[str, str]], parent: np.ndarray, scorer: Scorer, work: Work
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
            own = np.flatnonzero(parent == query)
            try:
                scores[own] = scorer.score([pairs[index] for index in own], work, parent[own])
            except Exception as error:
                if is_device_lost(error):
                    raise
                failures[int(query)] = f"the model failed on this query: {type(error).__name__}: {error}"
        return scores, failures


def _faults(
    table: pa.Table,
    origin: Origin,
    unusable_reason: str,
    failures: dict[int, str],
    parent: np.ndarray,
    unusable: np.ndarray,
    doc_id: pa.Array,
    size: np.ndarray,
    kept: np.ndarray,
) -> pa.Table:
    query_id, row = table["query_id"].to_pylist(), table["row"].to_pylist()
    lines: list[dict[str, Any]] = []

    def fault(query: int, candidate: str | None, candidates: int, reason: str) -> None:
        place = {"file": origin.file, "row": row[query], "query_id": query_id[query]}
        lines.append(place | {"doc_id": candidate, "candidates": candidates, "reason": reason})

    for at in np.flatnonzero(unusable):
        fault(parent[at], doc_id[at].as_py(), 1, unusable_reason)
    for query, reason in failures.items():
        fault(query, None, int(size[query]), reason)
    for query in np.flatnonzero(~kept).tolist():
        if query not in failures:
            fault(query, None, 0, "no candidate of this query can be ranked")
    return pa.Table.from_pylist(lines, schema=REJECT_SCHEMA)
