"""Out of what became of each scorer, the rows of the comparison, its front and its notes."""

import re
from dataclasses import dataclass

import numpy as np

from ray_rerank.cluster.secrets import shown
from ray_rerank.cluster.storage import absolute, join
from ray_rerank.jobs.compare.config import Config
from ray_rerank.jobs.compare.entries import ScorerEntry
from ray_rerank.jobs.compare.rankings import FirstStage, ScorerRanking
from ray_rerank.jobs.compare.timing import ScorerTiming, threads_of
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.operators.arrow import list_sizes
from ray_rerank.operators.comparison.figures import Speed, cost, figures
from ray_rerank.operators.comparison.pareto import pareto_front
from ray_rerank.operators.comparison.schema import FIRST_STAGE, Comparison, ComparisonRow, Cost, Size, Timing
from ray_rerank.operators.evaluation.measures import Evaluation, NamedMeasure
from ray_rerank.operators.formats.qrels import highest_grade
from ray_rerank.operators.formats.trec_runs import Run
from ray_rerank.operators.models.size import model_size

PICTURED = "nDCG@10"
"""The measure of the front and of the picture, where it is among those asked for; else the first of them is."""


@dataclass(slots=True)
class ScorerOutcome:
    """A scorer, and what became of it: None while it is not known, or where it was not asked for."""

    entry: ScorerEntry
    stages: tuple[Stage, ...]
    ranked: ScorerRanking | None = None
    timed: ScorerTiming | None = None

    @property
    def run(self) -> Run | None:
        """Its ranking; None where it failed."""
        return self.ranked.run if self.ranked else None


def ranking_of(config: Config, entry: ScorerEntry) -> str:
    """The folder of a scorer's ranking."""
    return join(absolute(config.output), "rankings", entry.name)


def assemble_comparison(
    config: Config,
    evaluation: Evaluation,
    first: FirstStage,
    tried: dict[str, ScorerOutcome],
    hardware: tuple[str, ...],
) -> Comparison:
    """Measure every ranking, and set its cost beside it.

    Args:
        tried: by name.
        hardware: that the timing was done on; empty where there was none.
    """
    runs = {FIRST_STAGE: first.run} | {name: one.run for name, one in tried.items() if one.run is not None}
    baseline = config.baseline or config.scorers[0].name
    measured = {name: evaluation.of(run) for name, run in runs.items()}
    quality = figures(evaluation.measures, measured, baseline, config.seed)
    sizes = list_sizes(first.sample["candidates"])
    base = tried[baseline].timed if baseline in tried else None
    rows = [ComparisonRow(name=FIRST_STAGE, kind=FIRST_STAGE, stages=(), ranking=None, quality=quality[FIRST_STAGE])]
    for name, one in tried.items():
        failed = (f"not timed: {one.timed.error}",) if one.timed and one.timed.error else ()
        rows.append(
            ComparisonRow(
                name=name,
                kind=one.entry.kind,
                stages=tuple(stage.model_dump(mode="json", include=_DECIDING) for stage in one.stages),
                ranking=ranking_of(config, one.entry) if one.run is not None else None,
                error=shown(one.ranked.error) if one.ranked and one.ranked.error else None,
                notes=tuple(map(shown, (*(one.ranked.notes if one.ranked else ()), *failed))),
                quality=quality.get(name, {}),
                size=_size(one.stages) if one.run is not None else None,
                cost=_cost(config, one, base, int(sizes.sum())),
            )
        )
    pictured = _pictured(evaluation.measures) if any(one.cost for one in rows) else None
    front = _front(rows, pictured) if pictured else set()
    below = _below(rows, front, pictured) if pictured else []
    timing = Timing(
        queries=first.sample.num_rows,
        documents=int(np.median(sizes)),
        pairs=int(sizes.sum()),
        rounds=config.rounds,
        hardware=hardware,
        price_per_hour=config.price_per_hour,
    )
    return Comparison(
        candidates=config.candidates,
        qrels=config.qrels,
        queries=len(evaluation.grades),
        measures=tuple(named.name for named in evaluation.measures),
        front_measure=pictured,
        baseline=baseline,
        seed=config.seed,
        timing=timing if hardware else None,
        notes=(
            *below,
            *_notes(evaluation, runs, baseline, len(hardware), untimed=baseline in tried and base is None),
        ),
        scorers=tuple(one.model_copy(update={"on_front": one.name in front}) for one in rows),
    )


_DECIDING = {"scorer", "keep", "fusion"}


def _cost(config: Config, one: ScorerOutcome, base: ScorerTiming | None, pairs: int) -> Cost | None:
    if one.timed is None or one.timed.error or not one.timed.rounds:
        return None
    beside = base.rounds if base and not base.error else None
    own = one.timed
    speed = Speed(own.rounds, pairs, own.precision, threads_of(one.stages))
    return cost(speed, beside, config.price_per_hour)


def _pictured(measures: tuple[NamedMeasure, ...]) -> str:
    names = [named.name for named in measures]
    return PICTURED if PICTURED in names else names[0]


def _front(rows: list[ComparisonRow], measure: str) -> set[str]:
    """Of those that were timed: the first stage was not."""
    timed = [(one.name, one.cost.latency_ms, one.quality[measure].value) for one in rows if one.cost and one.quality]
    names, latencies, figures = zip(*timed, strict=True)
    return {names[at] for at in pareto_front(latencies, figures)}


def _below(rows: list[ComparisonRow], front: set[str], measure: str) -> list[str]:
    """A note on scorers of the front that the untimed first stage beats."""
    first = next(one.quality[measure].value for one in rows if one.name == FIRST_STAGE)
    below = [one.name for one in rows if one.name in front and one.quality[measure].value < first]
    return [f"on the front, and below the first stage in {measure}: {', '.join(below)}"] if below else []


def _size(stages: tuple[Stage, ...]) -> Size:
    """Of all models of a pipeline, each counted once."""
    models = {(stage.scorer.model, getattr(stage.scorer, "revision", None)) for stage in stages}
    sizes = [model_size(*model) for model in models]
    return Size(
        megabytes=sum(size.bytes for size in sizes) / 1e6,
        million_parameters=sum(size.parameters for size in sizes) / 1e6,
    )


def _notes(
    evaluation: Evaluation, runs: dict[str, Run], baseline: str, machines: int, untimed: bool
) -> tuple[str, ...]:
    notes = []
    grades = evaluation.grades
    if missing := sum(query_id not in runs[FIRST_STAGE] for query_id in grades):
        notes.append(
            f"{missing} of {len(grades)} judged queries lack candidates and count as 0; --only-ranked leaves them out"
        )
    if baseline not in runs:
        notes.append(f"the baseline {baseline} failed: there is nothing to compare with")
    binary = [one.name for one in evaluation.measures if re.match(r"RR(@|$)", str(one.measure))]
    if binary and highest_grade(grades) > 1:
        notes.append(f"grades go beyond 1, and {binary[0]} takes grade 1 as relevant; RR(rel=2)@10 asks for 2")
    if machines > 1:
        notes.append("the rounds ran on different hardware: their times do not compare")
    if machines and untimed and baseline in runs:
        notes.append(f"the baseline {baseline} was not timed: there are no ratios to it")
    return tuple(notes)
