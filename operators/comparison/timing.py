"""How long re-ranking takes: every query's candidates alone, then all of them at once, on a warm model."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_rerank.operators.candidates.schema import Origin
from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.ranking.fusion import Fusion
from ray_rerank.operators.ranking.rerank import StageRule, rerank
from ray_rerank.operators.scorers.base import Scorer

_WARM_UPS = 2


@dataclass(frozen=True, slots=True)
class LoadedStage:
    """A scorer that is ready, and how many candidates it passes on to the next one."""

    scorer: Scorer
    keep: int | None = None
    fusion: Fusion | None = None


@dataclass(frozen=True, slots=True)
class PassTimes:
    """Wall-clock seconds of one pass over the same candidates.

    Attributes:
        alone: float64 of (queries,): each query's candidates by themselves, as a service would re-rank them.
        together: all queries at once, as a work unit of a batch job.
    """

    alone: np.ndarray
    together: float


def time_stages(
    stages: Sequence[LoadedStage], candidates: pa.Table, alive: Callable[[], None] = lambda: None
) -> PassTimes:
    """Re-rank candidates query by query, then together. The first query is run before, and not counted.

    Args:
        stages: first to last; no cache stands before their scorers.
        candidates: of one query or more, as `read_candidates` gives them.
        alive: called after each batch.

    Raises:
        ModelError: a scorer fails on a query: what it took would mean nothing.
    """
    for _ in range(_WARM_UPS):
        _seconds(stages, candidates.slice(0, 1), alive)
    alone = [_seconds(stages, candidates.slice(row, 1), alive) for row in range(candidates.num_rows)]
    return PassTimes(np.array(alone), _seconds(stages, candidates, alive))


def _seconds(stages: Sequence[LoadedStage], table: pa.Table, alive: Callable[[], None]) -> float:
    table = table.combine_chunks()
    started = time.perf_counter()
    depth = None
    for number, stage in enumerate(stages, start=1):
        rule = StageRule(number, depth, stage.fusion)
        table, rejects = rerank(table, stage.scorer, rule, Origin("the sample"), ScoringStats(alive=alive))
        if rejects.num_rows:
            reject = rejects.slice(0, 1).to_pylist()[0]
            raise ModelError(f"query {reject['query_id']!r}: {reject['reason']}")
        depth = stage.keep
    return time.perf_counter() - started
