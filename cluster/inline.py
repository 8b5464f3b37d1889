"""Units in this process, one after the other: for small jobs that need no Ray."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ray_rerank.cluster.attempts import Limits
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.steps import Pool, Step, UnitSteps, commit_unit, describe
from ray_rerank.cluster.units import Unit

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class InlineExecutor:
    """The same reads, steps and commits as on Ray, without attempts and time limits: a step that ends its process
    ends the job, and the same command resumes it.

    Attributes:
        resources: as Ray calls them, such as {"CPU": 2.0}.
    """

    resources: Mapping[str, float] = field(default_factory=dict)

    def stream(
        self,
        units: list[Unit],
        steps: UnitSteps,
        unit_bytes: int = 0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> Iterator[dict[str, Any]]:
        """Take each unit through all stages, and yield what its commit reports; the arguments are `pipeline.stream`'s.

        Raises:
            ClusterError: a stage cannot be loaded, or a unit cannot be committed.
        """
        stages = [_load(pool, number) for number, pool in enumerate(steps.pools, start=1)]
        for unit in units:
            payload, failure = None, None
            try:
                payload = steps.read(unit)
                for stage in stages:
                    payload = stage(unit, payload)
            except Exception as error:
                payload, failure = None, describe(error)
            try:
                yield commit_unit(steps.commit, unit, payload, failure)
            except Exception as error:
                raise ClusterError(
                    f"a unit could not be committed: {describe(error)}; what is committed stays"
                ) from error

    def run_alone(
        self, work: Callable[[], Result], cpus: float, gpus: float, seconds: float, node: str | None = None
    ) -> tuple[Result, str]:
        """Call something here; the arguments are `single_task.run_alone`'s.

        Raises:
            ClusterError: it raised something.
        """
        try:
            return work(), "here"
        except Exception as error:
            raise ClusterError(f"it failed: {describe(error)}") from error


def _load(pool: Pool, number: int) -> Step:
    try:
        return pool.load()
    except Exception as error:
        raise ClusterError(f"stage {number} cannot be started: {describe(error)}; what is committed stays") from error
