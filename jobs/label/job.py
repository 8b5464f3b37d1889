"""Label candidates with teacher scores, of one scorer or of several: what students are distilled from."""

import dataclasses
import math
import time
from typing import Any, Literal

from pydantic import Field, model_validator

from ray_rerank.cluster.pipeline import Pool, stream
from ray_rerank.cluster.run_folder import Output, done_markers
from ray_rerank.cluster.session import session
from ray_rerank.cluster.storage.files import absolute
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.cli.command import ExitCode
from ray_rerank.jobs.label.steps import LabelUnit, LoadTeacher, ReadPart, StandardiseUnit
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.outputs.verification import damaged_units
from ray_rerank.jobs.rerank import Config as RerankConfig
from ray_rerank.jobs.rerank import Stage, local_cpus, print_plan, report
from ray_rerank.jobs.scoring.claim import claimed
from ray_rerank.jobs.scoring.config import OF_SCORER, ActorPool, ScoringConfig, from_model
from ray_rerank.jobs.scoring.plan import (
    Input,
    PoolSize,
    Resources,
    default_unit_pairs,
    plan_units,
    pool_sizes,
    read_input,
)
from ray_rerank.jobs.scoring.progress import progress
from ray_rerank.jobs.scoring.steps import ReadUnit
from ray_rerank.operators.candidates.read import Columns, check_carried
from ray_rerank.operators.ranking.labels import Moments, pooled
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

    def scoring(self) -> RerankConfig:
        """The re-ranking that scores all candidates with every teacher, none dropped."""
        stages = tuple(Stage(**{name: getattr(t, name) for name in ("scorer", *_POOL)}) for t in self.teachers)
        same = {*ScoringConfig.model_fields} - {"model", *OF_SCORER}
        return RerankConfig(stages=stages, **{name: getattr(self, name) for name in same})


def run(config: Config) -> int:
    """Label, or go on with a labelling that was stopped.

    Raises:
        RerankError, ClusterError: something is wrong that can be known before the work starts.
    """
    started = time.time()
    output = Output(absolute(config.output))
    check_apart(output=config.output, input=config.input, cache=config.cache)
    given = _with_carried(read_input(config.scoring()), config.columns)
    unit_pairs = config.unit_pairs or default_unit_pairs(given.pairs)
    identity = config.identity() | {"unit_pairs": unit_pairs}
    units = plan_units(given, config.columns, unit_pairs)
    with claimed(config, output, identity, units, "label"):
        return _do(config, given, output, units, unit_pairs, started)


def _do(config: Config, given: Input, output: Output, units: list[Unit], unit_pairs: int, started: float) -> int:
    """All that is left, or in a dry run what that is."""
    scoring = config.scoring()
    damaged = damaged_units(output, units, mend=not config.dry_run) if config.verify else set()
    done = {name: marker for name, marker in _done(config, output).items() if name not in damaged}
    left = [unit for unit in units if unit.name not in done]
    if config.dry_run or left or _unscaled(config, output, units)[0]:
        with session(config.address, cpus=local_cpus(scoring.stages)) as cluster:
            sizes = pool_sizes(scoring.stages, Resources.of(cluster), len(left), "teachers")
            if config.dry_run:
                print_plan(scoring, given, units, done, sizes)
                return ExitCode.DONE
            unit_bytes = given.bytes * unit_pairs // max(given.pairs, 1)
            _score(config, given, output, left, len(done), sizes, unit_bytes)
            _standardise(config, output, units, unit_bytes)
    return report(config, output, given.bad_files, len(done), started)


def _with_carried(given: Input, columns: Columns) -> Input:
    """The input, with the columns `label` and `source` read as well where they are."""
    needed = dict(given.columns)
    for shard in given.shards:
        path = shard.stored.path
        needed[path] = list(dict.fromkeys([*needed[path], *check_carried(shard.schema, columns, given.shape, path)]))
    return dataclasses.replace(given, columns=needed)


def _score(
    config: Config,
    given: Input,
    output: Output,
    units: list[Unit],
    done: int,
    sizes: list[PoolSize],
    unit_bytes: int,
) -> None:
    if not units:
        return
    cache = absolute(config.cache) if config.cache else None
    stages = config.scoring().stages
    pools = [
        Pool(LoadTeacher(stages, number, stage.scorer.identity(), size.cpus, cache), size.actors, size.cpus, size.gpus)
        for number, (stage, size) in enumerate(zip(stages, sizes, strict=True), start=1)
    ]
    read = ReadUnit(config.columns, (), given.columns, given.repeated, carry=True)
    commit = LabelUnit(output, config.shares(), config.combine == "standardised", config.include_text, cache)
    with progress(len(units) + done, done, sum(unit.items for unit in units), "labelling") as show:
        for said in stream(units, read, pools, commit, unit_bytes, config.limits):
            show(said)


def _unscaled(config: Config, output: Output, units: list[Unit]) -> tuple[list[Unit], list[Moments]]:
    """The scored units that are not standardised by what is now known, and what is known: each teacher's moments."""
    if config.combine != "standardised":
        return [], []
    markers = _done(config, output)
    scored = [unit for unit in units if unit.name in markers]
    scales = pooled([markers[unit.name].moments for unit in scored], len(config.teachers))
    told = tuple(scales)
    stale = [unit for unit in scored if markers[unit.name].provisional or markers[unit.name].scales != told]
    return stale, scales


def _done(config: Config, output: Output) -> dict[str, Scored]:
    """Markers of units that are scored; without a teacher's moments a unit cannot be standardised, and is not."""
    found = done_markers(output, Scored)
    if config.combine != "standardised":
        return found
    return {name: marker for name, marker in found.items() if len(marker.moments) == len(config.teachers)}


def _standardise(config: Config, output: Output, units: list[Unit], unit_bytes: int) -> None:
    """The second pass over the parts, which hold each teacher's own scores."""
    stale, scales = _unscaled(config, output, units)
    if not stale:
        return
    for number, scale in enumerate(scales, start=1):
        flat = "" if scale.deviation else ": it tells no pair from another, and adds 0"
        print(f"teacher {number}: mean {scale.mean:.4f}, standard deviation {scale.deviation:.4f}{flat}")
    commit = StandardiseUnit(output, config.shares(), tuple(scales))
    with progress(len(stale), 0, sum(unit.items for unit in stale), "standardising") as show:
        for said in stream(stale, ReadPart(output), [], commit, unit_bytes, config.limits):
            show(said)
