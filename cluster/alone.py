"""One call in a worker process, with nothing of ours beside it: for what is to be timed."""

from collections.abc import Callable
from typing import Any, TypeVar

from cluster.errors import WorkerDeathError

Result = TypeVar("Result")


def run_alone(work: Callable[[], Result], cpus: float, gpus: float, node: str | None = None) -> tuple[Result, str]:
    """Call something on a worker that holds these CPUs and GPUs, and wait for it.

    Args:
        work: can be pickled; what it raises becomes a WorkerDeathError, so it should return its own faults.
        node: where; None lets Ray choose.

    Returns:
        What `work` returned, and the node that it ran on.

    Raises:
        WorkerDeathError: the process died, or its node is gone.
    """
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
    if node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        result, at = ray.get(ray.remote(**options)(_call).remote(work))
    except ray.exceptions.RayError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise WorkerDeathError(f"its worker died: {lines[0] if lines else type(error).__name__}") from None
    return result, at


def _call(work: Callable[[], Result]) -> tuple[Result, str]:
    import ray

    return work(), ray.get_runtime_context().get_node_id()
