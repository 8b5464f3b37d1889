"""Label candidates with teacher scores, of one scorer or of several: what students are distilled from."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any, Literal

from pydantic import Field, model_validator

from ray_rerank.cluster.run_folder import RunFolder, done_markers
from ray_rerank.cluster.steps import Step
from ray_rerank.cluster.storage import absolute
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.label.steps import LabelUnit, LoadTeacher, ReadPart, StandardiseUnit
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.scoring.config import ActorPool, ScoringConfig, Stage, from_model
from ray_rerank.jobs.scoring.input import CandidateInput, CandidateSource, read_input
from ray_rerank.jobs.scoring.run import Pass, ScoringRun, Steps, run_scoring
from ray_rerank.jobs.scoring.steps import ReadUnit
from ray_rerank.operators.candidates.schema import Columns, check_carried
from ray_rerank.operators.ranking.labels import Moments, pool_moments
from ray_rerank.operators.scorers.registry import ScorerConfig

_POOL = tuple(ActorPool.model_fields)


class Teacher(ActorPool):
    """One scorer and the actors that hold it; the scorer's fields may also stand beside the others."""

    scorer: ScorerConfig

    @model_validator(mode="before")
    @classmethod
    def _scorer_beside(cls, values: Any) -> Any:
        if isinstance(values, dict) and "scorer" not in values:
            pool = {name: values[name] for name in _POOL if name in values}
            return {"scorer": {name: value for name, value in values.items() if name not in pool}} | pool
        return values


class Config(ScoringConfig):
    """Label candidates with the scores of one teacher, or of several together."""

    teachers: tuple[Teacher, ...] = Field((), description="scorers, with actors, cpus and gpus; or give --model")
    combine: Literal["mean", "standardised"] = Field(
        "mean", description="mean of the raw logits, or of the logits less their mean over their standard deviation"
    )
    weights: tuple[float, ...] = Field((), description="one a teacher: 0.7,0.3; default: all the same")
    include_text: bool = Field(True, description="write query and passage text, which `train` and `export` need")

    @model_validator(mode="before")
    @classmethod
    def _one_teacher_from_model(cls, values: Any) -> Any:
        return from_model(values, "teachers")

    @model_validator(mode="after")
    def _is_whole(self) -> "Config":
        if not self.teachers:
            raise ValueError("there is nothing to label with: give `teachers` or `model`")
        if self.weights and len(self.weights) != len(self.teachers):
            raise ValueError(f"{len(self.weights)} weights for {len(self.teachers)} teachers; give one to each")
        if not all(weight > 0 and math.isfinite(weight) for weight in self.weights):
            raise ValueError("a weight is a number above 0; leave out a teacher that is not to count")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides what the output holds; what else differs between two runs may."""
        return {
            "teachers": [teacher.scorer.identity() for teacher in self.teachers],
            "combine": self.combine,
            "weights": list(self.shares()),
            "columns": self.columns.model_dump(),
            "include_text": self.include_text,
        }

    def shares(self) -> tuple[float, ...]:
        """The weights, also where none are given."""
        return self.weights or (1.0,) * len(self.teachers)

    def stages(self) -> tuple[Stage, ...]:
        """The stages that score all candidates with every teacher, none dropped."""
        return tuple(Stage(**{name: getattr(t, name) for name in ("scorer", *_POOL)}) for t in self.teachers)


def run(config: Config) -> int:
    """Label, or resume a labelling that was stopped.

    Raises:
        UserError, ClusterError: something is wrong that can be known before the work starts.
    """
    started = time.time()
    output, cache = RunFolder(absolute(config.output)), config.cache and absolute(config.cache)
    check_apart(output=config.output, input=config.input, cache=config.cache)
    source = CandidateSource(config.input, config.columns, skip_bad_files=config.skip_bad_files)
    candidates = _with_carried(read_input(source), config.columns)
    stages = config.stages()
    steps = Steps(
        ReadUnit(config.columns, (), candidates.columns, candidates.repeated, carry=True),
        lambda number, cpus: LoadTeacher.of(stages, number, cpus, cache),
        LabelUnit(output, config.shares(), config.combine == "standardised", config.include_text, cache),
    )
    return run_scoring(
        ScoringRun(
            job="label",
            doing="labelling",
            started=started,
            config=config,
            identity=config.identity(),
            candidates=candidates,
            stages=stages,
            stages_field="teachers",
            steps=steps,
            read_done=functools.partial(_done, config),
            second_pass=functools.partial(_standardise, config, output),
        )
    )


def _with_carried(given: CandidateInput, columns: Columns) -> CandidateInput:
    """The input, with the columns `label` and `source` read as well where they are."""
    needed = dict(given.columns)
    for shard in given.shards:
        path = shard.stored.path
        needed[path] = list(dict.fromkeys([*needed[path], *check_carried(shard.schema, columns, given.shape, path)]))
    return dataclasses.replace(given, columns=needed)


def _unscaled(config: Config, output: RunFolder, units: list[Unit]) -> tuple[list[Unit], list[Moments]]:
    """The scored units that are not standardised by what is now known, and what is known: each teacher's moments."""
    if config.combine != "standardised":
        return [], []
    markers = _done(config, output)
    scored = [unit for unit in units if unit.name in markers]
    scales = pool_moments([markers[unit.name].moments for unit in scored], len(config.teachers))
    told = tuple(scales)
    stale = [unit for unit in scored if markers[unit.name].provisional or markers[unit.name].scales != told]
    return stale, scales


def _done(config: Config, output: RunFolder) -> dict[str, Scored]:
    """Markers of units that are scored; without a teacher's moments a unit cannot be standardised, and is not."""
    found = done_markers(output, Scored)
    if config.combine != "standardised":
        return found
    return {name: marker for name, marker in found.items() if len(marker.moments) == len(config.teachers)}


def _standardise(config: Config, output: RunFolder, units: list[Unit]) -> Pass | None:
    """The second pass over the parts, which hold each teacher's own scores."""
    stale, scales = _unscaled(config, output, units)
    if not stale:
        return None
    steps = Steps(ReadPart(output), _no_stage, StandardiseUnit(output, config.shares(), tuple(scales)))
    return Pass("standardising", stale, steps, announce=functools.partial(_print_scales, scales))


def _no_stage(number: int, cpus: float) -> Callable[[], Step]:
    raise AssertionError("units are read and committed, and scored by nothing")


def _print_scales(scales: list[Moments]) -> None:
    for number, scale in enumerate(scales, start=1):
        flat = "" if scale.deviation else ": it tells no pair from another, and adds 0"
        print(f"teacher {number}: mean {scale.mean:.4f}, standard deviation {scale.deviation:.4f}{flat}")
