"""One run over candidates, as rerank and label do it: units, pools, commits, a report."""

import dataclasses
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ray_rerank.cluster.executors import Executor, open_executor
from ray_rerank.cluster.run_folder import RunFolder, done_markers
from ray_rerank.cluster.secrets import shown
from ray_rerank.cluster.steps import Commit, Pool, Read, Step, UnitSteps
from ray_rerank.cluster.storage import absolute, write_whole
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.outputs.run_state import print_state, run_state
from ray_rerank.jobs.outputs.verification import damaged_units
from ray_rerank.jobs.scoring.claim import claimed
from ray_rerank.jobs.scoring.config import ExecutionConfig, ScoringConfig, Stage
from ray_rerank.jobs.scoring.forecast import forecast
from ray_rerank.jobs.scoring.input import CandidateInput
from ray_rerank.jobs.scoring.plan import PoolSize, default_unit_pairs, local_cpus, plan_units, pool_sizes
from ray_rerank.jobs.scoring.progress import progress


@dataclass(frozen=True, slots=True)
class Steps:
    """What is done to each unit.

    Attributes:
        load: for a stage's number, from 1, and the CPUs of its actors: what each actor calls once to load its step.
    """

    read: Read
    load: Callable[[int, float], Callable[[], Step]]
    commit: Commit


@dataclass(frozen=True, slots=True)
class Pass:
    """Units that all go through the same steps.

    Attributes:
        doing: what the progress calls it: "re-ranking".
        done: how many others are done already, which the progress counts as well.
        items: what the units hold: "pairs".
        unit_bytes: about how much a unit weighs.
        announce: prints what is worth knowing before it begins.
    """

    doing: str
    units: list[Unit]
    steps: Steps
    done: int = 0
    items: str = "pairs"
    unit_bytes: int = 0
    announce: Callable[[], None] = lambda: None


@dataclass(frozen=True, slots=True)
class ScoringRun:
    """A job that scores candidates: what it reads, what decides its results, and what it does to a unit.

    Attributes:
        job: its name, which the lease on the output shows.
        doing: what the progress calls it.
        started: seconds since the epoch.
        identity: all that decides what the output holds, but for the units.
        candidates: the input.
        stages_field: the config's field that holds the stages.
        read_done: the markers of units whose scores are written.
        second_pass: given all units and the pairs' weight, what is to be done once all are scored; None if nothing.
        finish: what else is written once all units are done; returns its part of the exit code.
    """

    job: str
    doing: str
    started: float
    config: ScoringConfig
    identity: dict[str, Any]
    candidates: CandidateInput
    stages: tuple[Stage, ...]
    steps: Steps
    stages_field: str = "stages"
    read_done: Callable[[RunFolder], Mapping[str, Scored]] = field(default=lambda output: done_markers(output, Scored))
    second_pass: Callable[[list[Unit]], Pass | None] = lambda units: None
    finish: Callable[[RunFolder], ExitCode] = lambda output: ExitCode.DONE


def run_scoring(run: ScoringRun) -> ExitCode:
    """Score all units that are left, commit each once, and report; a dry run prints the plan instead.

    Raises:
        UserError, ClusterError: something is wrong that can be known before the work starts, or the job is lost.
    """
    config, candidates = run.config, run.candidates
    output = RunFolder(absolute(config.output))
    unit_pairs = config.unit_pairs or default_unit_pairs(candidates.pairs)
    units = plan_units(candidates, config.columns, unit_pairs)
    with claimed(config, output, run.identity | {"unit_pairs": unit_pairs}, units, run.job) as resumes:
        damaged = damaged_units(output, units, mend=not config.dry_run) if config.verify and resumes else set()
        written = run.read_done(output) if resumes else {}
        done = {name: marker for name, marker in written.items() if name not in damaged}
        left = [unit for unit in units if unit.name not in done]
        if config.dry_run or left or run.second_pass(units):
            with open_executor(config.executor, config.address, cpus=local_cpus(run.stages)) as executor:
                sizes = pool_sizes(run.stages, executor, len(left), run.stages_field)
                if config.dry_run:
                    print_plan(run, units, done, sizes)
                    return ExitCode.DONE
                unit_bytes = candidates.bytes * unit_pairs // max(candidates.pairs, 1)
                scoring = Pass(run.doing, left, run.steps, done=len(done), unit_bytes=unit_bytes)
                do_pass(scoring, sizes, executor, config)
                if then := run.second_pass(units):
                    do_pass(dataclasses.replace(then, unit_bytes=unit_bytes), [], executor, config)
        code = report(run, output, len(done))
        return max(code, run.finish(output))


def do_pass(todo: Pass, sizes: list[PoolSize], executor: Executor, config: ExecutionConfig) -> list[dict[str, Any]]:
    """Take units through their steps under a progress bar; returns what the commits report, in order of completion.

    Args:
        sizes: of the pools, a stage each; none where units are only read and committed.

    Raises:
        ClusterError: the job is lost; what is committed stays.
    """
    if not todo.units:
        return []
    pools = [
        Pool(todo.steps.load(number, size.cpus), size.actors, size.cpus, size.gpus)
        for number, size in enumerate(sizes, start=1)
    ]
    todo.announce()
    unit_steps, reported = UnitSteps(todo.steps.read, pools, todo.steps.commit), []
    items = sum(unit.items for unit in todo.units)
    with progress(len(todo.units) + todo.done, todo.done, items, todo.doing, todo.items) as show:
        for said in executor.stream(todo.units, unit_steps, todo.unit_bytes, config.limits):
            show(said)
            reported.append(said)
    return reported


def report(run: ScoringRun, output: RunFolder, done_before: int) -> ExitCode:
    """Write and print what came of a run; the exit code says whether it is whole."""
    state = run_state(output)
    bad_files = run.candidates.bad_files
    facts = {
        "seconds": round(time.time() - run.started, 3),
        "units_done_before": done_before,
        "bad_files": list(map(shown, bad_files)),
        "config": json.loads(run.config.model_dump_json()),
    }
    write_whole(output.internal("report.json"), json.dumps(state.as_dict() | facts, indent=2).encode())
    print_state(state, f"{output.uri} in {facts['seconds']:.1f} s", skipped=done_before)
    for reason in bad_files:
        print(f"left out: {reason}")
    clean = state.left == 0 and not state.failed and not state.faults and not bad_files
    return ExitCode.DONE if clean else ExitCode.DONE_WITH_ERRORS


def print_plan(run: ScoringRun, units: list[Unit], done: Mapping[str, Scored], sizes: list[PoolSize]) -> None:
    """Print what a run would do; `done` are the markers of what is done."""
    config, given = run.config, run.candidates
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
    for number, (stage, size) in enumerate(zip(run.stages, sizes, strict=True), start=1):
        keep = f", keeps {stage.keep}" if stage.keep else ""
        print(
            f"stage {number}    {stage.scorer.kind} {stage.scorer.model} ({stage.scorer.precision}{keep}): "
            f"{size.actors} actors of {size.cpus:g} CPU, {size.gpus:g} GPU"
        )
    if config.cache:
        scorer = run.stages[0].scorer
        known = "" if scorer.pairwise else f": {forecast(scorer, config.cache, given, config.columns, left)}"
        print(f"cache      {config.cache}{known}")
    print(f"output     {config.output}")
