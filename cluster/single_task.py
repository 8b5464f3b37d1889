"""One call in a worker process, with nothing of ours beside it: for what is to be timed."""

import functools
from collections.abc import Callable
from typing import Any, TypeVar

from ray_rerank.cluster.attempts import time_limit
from ray_rerank.cluster.errors import ClusterError, WorkerDiedError, first_line, last_line
from ray_rerank.cluster.own_code import carried

Result = TypeVar("Result")


def run_alone(
    work: Callable[[], Result], cpus: float, gpus: float, seconds: float, node: str | None = None
) -> tuple[Result, str]:
    """Call something on a worker that holds these CPUs and GPUs, and wait for it.

    Args:
        work: can be pickled.
        seconds: that it may take between two signs of life (`attempts.alive`).
        node: where; None lets Ray choose.

    Returns:
        What `work` returned, and the node that it ran on.

    Raises:
        WorkerDeathError: the process died or stood still, or its node is gone.
        ClusterError: `work` raised something, or cannot be pickled there and back.
    """
    import ray
    import ray.exceptions
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    options: dict[str, Any] = {"num_cpus": cpus, "num_gpus": gpus, "max_retries": 0}
    if node is not None:
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
    try:
        result, at = ray.get(ray.remote(**options)(carried(functools.partial(_call, work, seconds))).remote())
    except ray.exceptions.RayTaskError as error:
        raise ClusterError(f"it failed in its worker: {last_line(error)}") from None
    except ray.exceptions.RayError as error:
        raise WorkerDiedError(
            f"its worker died, or was ended after {seconds:g} s without a sign of life: {first_line(error)}"
        ) from None
    return result, at


def _call(work: Callable[[], Result], seconds: float) -> tuple[Result, str]:
    import ray

    with time_limit(seconds):
        return work(), ray.get_runtime_context().get_node_id()
