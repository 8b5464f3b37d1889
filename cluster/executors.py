"""Where units are worked on: by Ray's workers, or in this process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeVar

from ray_rerank.cluster import pipeline, single_task
from ray_rerank.cluster.attempts import Limits
from ray_rerank.cluster.inline import InlineExecutor
from ray_rerank.cluster.session import session
from ray_rerank.cluster.steps import UnitSteps
from ray_rerank.cluster.units import Unit

ExecutorName = Literal["ray", "inline"]
Result = TypeVar("Result")


class Executor(Protocol):
    """Takes units through their steps.

    Attributes:
        resources: what there is to share out, such as {"CPU": 2.0, "GPU": 1.0}.
    """

    @property
    def resources(self) -> Mapping[str, float]: ...

    def stream(
        self,
        units: list[Unit],
        steps: UnitSteps,
        unit_bytes: int = 0,
        limits: Limits = Limits(),  # noqa: B008 - frozen
    ) -> Iterator[dict[str, Any]]:
        """As `pipeline.stream`."""

    def run_alone(
        self, work: Callable[[], Result], cpus: float, gpus: float, seconds: float, node: str | None = None
    ) -> tuple[Result, str]:
        """As `single_task.run_alone`."""


@dataclass(frozen=True, slots=True)
class RayExecutor:
    """Ray Data's tasks and actor pools, within a session."""

    resources: Mapping[str, float]
    stream = staticmethod(pipeline.stream)
    run_alone = staticmethod(single_task.run_alone)


@contextmanager
def open_executor(name: ExecutorName, address: str | None, cpus: int) -> Iterator[Executor]:
    """An executor for the length of a with-block.

    Args:
        address: a Ray cluster, as `session` takes it; of no use to `inline`.
        cpus: CPUs that Ray is started with where it is started here, and that `inline` has.

    Raises:
        ClusterError: the cluster cannot be reached, or Ray not be started.
    """
    if name == "inline":
        yield InlineExecutor({"CPU": float(cpus)})
        return
    with session(address, cpus=cpus) as resources:
        yield RayExecutor(resources)
