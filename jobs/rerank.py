"""Re-rank candidate shards: plan units, read them, score stage by stage, commit each once, report."""

import json
import math
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field, model_validator

from ray_rerank.cluster.pipeline import Pool, stream
from ray_rerank.cluster.run_folder import Output, done_markers
from ray_rerank.cluster.secrets import shown
from ray_rerank.cluster.session import session
from ray_rerank.cluster.storage.files import absolute, write_whole
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.cli.command import ExitCode
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.files import OutputFile, check_output_files
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.outputs.run_state import print_state, run_state
from ray_rerank.jobs.outputs.skipped import print_left_out
from ray_rerank.jobs.outputs.verification import damaged_units
from ray_rerank.jobs.run_file import write_run_file
from ray_rerank.jobs.scoring.claim import claimed
from ray_rerank.jobs.scoring.config import ActorPool, ScoringConfig, from_model
from ray_rerank.jobs.scoring.forecast import forecast
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
from ray_rerank.jobs.scoring.steps import CommitUnit, LoadStage, ReadUnit
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.models.cpus import usable_cpus
from ray_rerank.operators.ranking.fusion import Fusion, WeightedFusion
from ray_rerank.operators.scorers.registry import ScorerConfig


class Stage(ActorPool):
    """One scorer, how many candidates it passes on, and the actors that hold it."""

    scorer: ScorerConfig
    keep: int | None = Field(
        None,
        ge=1,
        description="how many candidates go on to the next stage; the rest stay below them, as scored here",
    )
    fusion: Fusion | None = Field(
        None, description="combine the scores with the stage before: {kind: weighted} or {kind: reciprocal-rank}"
    )

    def identity(self) -> dict[str, Any]:
        """What of this stage decides the ranking."""
        fusion = {"fusion": self.fusion.model_dump()} if self.fusion else {}
        return {"scorer": self.scorer.identity(), "keep": self.keep} | fusion


class Config(ScoringConfig):
    """Re-rank candidate shards with one scorer or a cascade of them."""

    stages: tuple[Stage, ...] = Field((), description="scorers, first to last; or give --model")
    keep: int | None = Field(None, description="with `model`: `keep` of its stage")
    pass_through: tuple[str, ...] = Field((), description="input columns to copy into the ranking")
    include_text: bool = Field(False, description="write query and passage text into the ranking")
    trec_run: OutputFile | None = Field(None, description="also write the ranking to this TREC run file")

    @model_validator(mode="before")
    @classmethod
    def _one_stage_from_model(cls, values: Any) -> Any:
        return from_model(values, "stages", "keep")

    @model_validator(mode="after")
    def _has_stages(self) -> "Config":
        if not self.stages:
            raise ValueError("there is nothing to score with: give `stages` or `model`")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides what the output holds; what else differs between two runs may."""
        return {
            "stages": [stage.identity() for stage in self.stages],
            "columns": self.columns.model_dump(),
            "pass_through": list(self.pass_through),
            "include_text": self.include_text,
        }


def run(config: Config, doing: str = "re-ranking") -> int:
    """Re-rank, or go on with a re-ranking that was stopped.

    Args:
        doing: what the progress says where the ranking is part of another job.

    Raises:
        RerankError, ClusterError: something is wrong that can be known before the work starts.
    """
    started = time.time()
    output = Output(absolute(config.output))
    check_apart(output=config.output, input=config.input, cache=config.cache)
    check_output_files(config, made=config.output)
    given = read_input(config)
    if isinstance(config.stages[0].fusion, WeightedFusion) and not given.scored:
        raise InputError(
            f"{config.input}: has no first-stage scores ({config.columns.score!r}) for stages[0].fusion to weigh; "
            "`kind: reciprocal-rank` needs none"
        )
    unit_pairs = config.unit_pairs or default_unit_pairs(given.pairs)
    identity = config.identity() | {"unit_pairs": unit_pairs}
    units = plan_units(given, config.columns, unit_pairs)
    with claimed(config, output, identity, units, "rerank"):
        return _do(config, given, output, units, unit_pairs, started, doing)


def _do(
    config: Config, given: Input, output: Output, units: list[Unit], unit_pairs: int, started: float, doing: str
) -> int:
    """All that is left, or in a dry run what that is."""
    damaged = damaged_units(output, units, mend=not config.dry_run) if config.verify else set()
    done = {name: marker for name, marker in done_markers(output, Scored).items() if name not in damaged}
    left = [unit for unit in units if unit.name not in done]
    if config.dry_run or left:
        with session(config.address, cpus=local_cpus(config.stages)) as cluster:
            sizes = pool_sizes(config.stages, Resources.of(cluster), len(left))
            if config.dry_run:
                print_plan(config, given, units, done, sizes)
                return ExitCode.DONE
            unit_bytes = given.bytes * unit_pairs // max(given.pairs, 1)
            _run_units(config, given, output, left, len(done), sizes, unit_bytes, doing)
    code = report(config, output, given.bad_files, len(done), started)
    if config.trec_run:
        unfit = write_run_file(output, config.trec_run)
        print_left_out(unfit)
        code = max(code, ExitCode.DONE_WITH_ERRORS) if unfit.counts else code
    return code


def _run_units(
    config: Config,
    given: Input,
    output: Output,
    units: list[Unit],
    done: int,
    sizes: list[PoolSize],
    unit_bytes: int,
    doing: str,
) -> None:
    cache = absolute(config.cache) if config.cache else None
    pools = [
        Pool(
            LoadStage(config.stages, number, stage.scorer.identity(), size.cpus, cache),
            size.actors,
            size.cpus,
            size.gpus,
        )
        for number, (stage, size) in enumerate(zip(config.stages, sizes, strict=True), start=1)
    ]
    read = ReadUnit(config.columns, config.pass_through, given.columns, given.repeated)
    commit = CommitUnit(output, config.include_text, config.pass_through, cache)
    with progress(len(units) + done, done, sum(unit.items for unit in units), doing) as show:
        for said in stream(units, read, pools, commit, unit_bytes, config.limits):
            show(said)


def report(config: JobConfig, output: Output, bad_files: tuple[str, ...], skipped: int, started: float) -> int:
    """Write and print what came of a run; the exit code says whether it is whole."""
    state = run_state(output)
    facts = {
        "seconds": round(time.time() - started, 3),
        "units_done_before": skipped,
        "bad_files": list(map(shown, bad_files)),
        "config": json.loads(config.model_dump_json()),
    }
    write_whole(output.run("report.json"), json.dumps(state.as_dict() | facts, indent=2).encode())
    print_state(state, f"{output.uri} in {facts['seconds']:.1f} s", skipped=skipped)
    for reason in bad_files:
        print(f"left out: {reason}")
    clean = state.left == 0 and not state.failed and not state.faults and not bad_files
    return ExitCode.DONE if clean else ExitCode.DONE_WITH_ERRORS


def local_cpus(stages: tuple[Stage, ...]) -> int:
    """Room for every stage's pool on a small machine too: stages take turns by the data they wait for."""
    asked = sum(stage.cpus * (stage.actors or 1) for stage in stages)
    return max(usable_cpus(), math.ceil(asked))


def print_plan(
    config: Config, given: Input, units: list[Unit], done: Mapping[str, Scored], sizes: list[PoolSize]
) -> None:
    """Say what a run would do; `done` are the markers of what is done."""
    left = [unit for unit in units if unit.name not in done]
    about = "" if given.counted else "about "
    pairs = given.pairs - sum(done[unit.name].pairs for unit in units if unit.name in done)
    print(
        f"input      {config.input}: {len(given.shards)} shards, {given.queries} {given.row_name}, "
        f"{about}{given.pairs} pairs"
    )
    for reason in given.bad_files:
        print(f"left out   {reason}")
    remaining = f"{about}{max(pairs, 0)}" if left else "0"
    print(f"units      {len(units)}, of which {len(units) - len(left)} are done; {remaining} pairs are left")
    for number, (stage, size) in enumerate(zip(config.stages, sizes, strict=True), start=1):
        keep = f", keeps {stage.keep}" if stage.keep else ""
        print(
            f"stage {number}    {stage.scorer.kind} {stage.scorer.model} ({stage.scorer.precision}{keep}): "
            f"{size.actors} actors of {size.cpus:g} CPU, {size.gpus:g} GPU"
        )
    if config.cache:
        pairwise = config.stages[0].scorer.kind == "duot5"
        print(f"cache      {config.cache}" + ("" if pairwise else f": {forecast(config, given, left)}"))
    print(f"output     {config.output}")
