"""The three things that are done to a unit, as values that travel to Ray's workers."""

import os
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

from ray_rerank.cluster.attempts import alive
from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.run_folder import RunFolder, commit, commit_failure
from ray_rerank.cluster.score_cache.cache_files import to_table, write_run
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.steps import Step
from ray_rerank.cluster.storage import join
from ray_rerank.cluster.units import Unit, read_rows
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.operators.arrow import list_sizes
from ray_rerank.operators.candidates.read import read_candidates
from ray_rerank.operators.candidates.schema import Columns, Origin
from ray_rerank.operators.formats.rankings import to_ranking
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.device import is_device_lost
from ray_rerank.operators.ranking.payload import UnitPayload
from ray_rerank.operators.ranking.rerank import StageRule, rerank
from ray_rerank.operators.scorers.base import Scorer
from ray_rerank.operators.scorers.cached import CachedEvaluation


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """Rows of a file into candidates and faults."""

    columns: Columns
    extra: tuple[str, ...]
    needed: dict[str, list[str]]
    repeated: dict[str, np.ndarray]
    carry: bool = False

    def __call__(self, unit: Unit) -> bytes:
        table = read_rows(unit, self.needed[unit.file])
        origin = Origin(unit.file, unit.start, self.repeated.get(unit.file))
        candidates, faults = read_candidates(table, self.columns, origin, self.extra, self.carry)
        pairs = int(list_sizes(candidates["candidates"]).sum())
        pairs += int(pa.compute.sum(faults["candidates"]).as_py() or 0)
        return UnitPayload(candidates, faults, (), pairs).pack()


@dataclass(frozen=True, slots=True)
class LoadStage:
    """Loads a stage's scorer inside its actor, puts the cache before it, and scores units.

    `planned` is the identity that the job was planned with.
    """

    stages: tuple[Stage, ...]
    number: int
    planned: dict[str, Any]
    cpus: float
    cache: str | None = None

    @classmethod
    def of(cls, stages: tuple[Stage, ...], number: int, cpus: float, cache: str | None) -> Self:
        """Plan the loading of a stage, by its number from 1."""
        return cls(stages, number, stages[number - 1].scorer.identity(), cpus, cache)

    def __call__(self) -> Step:
        stage = self.stages[self.number - 1]
        scorer = stage.scorer.load_planned(self.planned, threads=max(int(self.cpus), 1))
        depth = self.stages[self.number - 2].keep if self.number > 1 else None
        rule = StageRule(self.number, depth, stage.fusion)
        cached = _Cached(self.cache, stage, scorer) if self.cache else None

        def score(unit: Unit, payload: bytes) -> bytes:
            parcel = UnitPayload.unpack(payload)
            work = ScoringStats(alive=alive)
            try:
                candidates, faults = rerank(parcel.candidates, scorer, rule, Origin(unit.file, unit.start), work)
            except RuntimeError as error:
                if is_device_lost(error):
                    os._exit(1)  # Ray starts a worker with a device that works, and gives the unit to it
                raise
            computed, notes = parcel.computed, parcel.notes
            if cached:
                computed += (cached.computed(work),)
                notes += tuple(cached.cache.notes)
            faults = pa.concat_tables([parcel.faults, faults])
            return UnitPayload(candidates, faults, (*parcel.works, work), parcel.pairs, computed, notes).pack()

        return score


class _Cached:
    """The cache before a scorer: under its namespace, with the precision that it really runs in."""

    def __init__(self, uri: str, stage: Stage, scorer: Scorer) -> None:
        self.cache = ScoreCache.open(uri, stage.scorer.evaluation_identity() | {"precision": scorer.precision})
        scorer.evaluate = self.evaluation = CachedEvaluation(scorer.evaluate, self.cache.lookup)

    def computed(self, work: ScoringStats) -> tuple[str, pa.Table, float]:
        """What a unit adds to the cache, and what it took."""
        table = to_table(*self.evaluation.take())
        return self.cache.namespace, table, work.seconds if table.num_rows else 0.0


@dataclass(frozen=True, slots=True)
class CommitUnit:
    """Writes a unit's new scores, its ranking and its faults, or why there is none."""

    output: RunFolder
    include_text: bool
    extra: tuple[str, ...]
    cache: str | None = None

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if payload is None or failure is not None:
            return commit_failure(self.output, unit, failure or "nothing arrived")
        parcel = UnitPayload.unpack(payload)
        notes = [*parcel.notes, *keep_scores(self.cache, parcel)]
        ranking = to_ranking(parcel.candidates, self.include_text, self.extra)
        ranked = int(list_sizes(ranking["ranking"]).sum())
        facts = {"pairs": parcel.pairs, "ranked": ranked, "works": [work.as_dict() for work in parcel.works]}
        return commit(self.output, unit, ranking, parcel.faults, facts | {"notes": notes})


def keep_scores(cache: str | None, parcel: UnitPayload) -> list[str]:
    """Add what a unit computed to the cache; what cannot be written there costs its entries alone, and is told."""
    if cache is None:
        return []
    faults = []
    for namespace, table, seconds in parcel.computed:
        try:
            write_run(join(cache, namespace), table, seconds)
        except StorageError as error:
            faults.append(f"not kept in the cache: {error}")
    return faults
