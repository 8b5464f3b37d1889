"""What scorers cost, side by side: every round each of them in turn goes over the same sample, alone on a worker."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from ray_rerank.cluster.attempts import Limits, alive
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.executors import Executor
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.operators.comparison.hardware import this_hardware
from ray_rerank.operators.comparison.timing import LoadedStage, PassTimes, time_stages
from ray_rerank.operators.errors import UserError


@dataclass(slots=True)
class ScorerTiming:
    """A scorer's rounds so far.

    Attributes:
        rounds: what each took.
        precision: really used, by stage.
        error: why there is no more.
    """

    rounds: list[PassTimes] = field(default_factory=list)
    precision: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """What a worker says of one pass: it took so long, with these precisions, on that hardware."""

    took: PassTimes
    precision: tuple[str, ...]
    hardware: str


@dataclass(frozen=True, slots=True)
class FailedRound:
    """Why a worker has no round to report."""

    reason: str


@dataclass(frozen=True, slots=True)
class TimeRound:
    """Loads a pipeline in a worker, goes over the sample, and lets go of it: one model at a time is in memory."""

    stages: tuple[Stage, ...]
    sample: pa.Table

    def __call__(self) -> Round | FailedRound:
        """The round, or why there is none."""
        try:
            loaded = [
                LoadedStage(stage.scorer.load(threads_of(self.stages)), stage.keep, stage.fusion)
                for stage in self.stages
            ]
            took = time_stages(loaded, self.sample, alive)
        except UserError as error:
            return FailedRound(str(error))
        except Exception as error:  # any fault of a model: it is the scorer's own
            return FailedRound(f"{type(error).__name__}: {error}")
        return Round(took, tuple(stage.scorer.precision for stage in loaded), str(this_hardware()))


def threads_of(stages: tuple[Stage, ...]) -> int:
    """CPU threads that torch gets: those of the stage's actor that has most."""
    return max(1, *(int(stage.cpus) for stage in stages))


def time_pipelines(
    pipelines: Mapping[str, tuple[Stage, ...]], sample: pa.Table, rounds: int, executor: Executor, limits: Limits
) -> tuple[dict[str, ScorerTiming], tuple[str, ...]]:
    """Time pipelines by name; one that fails is left out of the rounds after.

    All rounds run on one node, one after the other: what disturbs it disturbs all of them alike.

    Args:
        executor: where there are GPUs, a stage that does not say takes one.

    Returns:
        What was timed, and the hardware.
    """
    timed = {name: ScorerTiming() for name in pipelines}
    hardware: dict[str, None] = {}
    node: str | None = None
    for number in range(1, rounds + 1):
        for name, stages in pipelines.items():
            own = timed[name]
            if own.error is not None:
                continue
            cpus = max(stage.cpus for stage in stages)
            gpus = max(
                min(1.0, executor.resources.get("GPU", 0)) if stage.gpus is None else stage.gpus for stage in stages
            )
            outcome: Round | FailedRound
            try:
                outcome, node = executor.run_alone(
                    TimeRound(stages, sample), cpus, gpus, limits.load + limits.batch, node
                )
            except ClusterError as error:
                outcome = FailedRound(str(error))
            if isinstance(outcome, FailedRound):
                own.error = outcome.reason
                print(f"round {number} of {rounds}: {name} failed: {outcome.reason}")
                continue
            own.rounds.append(outcome.took)
            own.precision = outcome.precision
            hardware[outcome.hardware] = None
            print(f"round {number} of {rounds}: {name} {outcome.took.together:.2f} s")
    return timed, tuple(hardware)
