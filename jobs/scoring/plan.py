"""What a re-ranking would work on and with: the input's shape and size, its units, the actor pools."""

import math
from dataclasses import dataclass

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.executors import Executor
from ray_rerank.cluster.inline import InlineExecutor
from ray_rerank.cluster.units import Unit, plan_by_group, plan_by_rows
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.jobs.scoring.input import CandidateInput
from ray_rerank.operators.candidates.schema import Columns, query_starts
from ray_rerank.operators.models.cpus import usable_cpus


@dataclass(frozen=True, slots=True)
class PoolSize:
    """How many actors a stage gets, and what each holds."""

    actors: int
    cpus: float
    gpus: float


def default_unit_pairs(pairs: int) -> int:
    """Small enough to share a small job out, large enough to be worth a commit; from the input alone, so that
    the units are the same on any cluster."""
    return min(max(pairs // 64, 1024), 32_768)


def plan_units(given: CandidateInput, columns: Columns, target: int) -> list[Unit]:
    """Cut the input into units of about `target` pairs, never a query across two."""
    if given.shape == "nested":
        return plan_by_rows(list(given.shards), columns.candidates, target)
    return plan_by_group(list(given.shards), columns.query_id, query_starts, target)


def pool_sizes(stages: tuple[Stage, ...], executor: Executor, units: int, called: str = "stages") -> list[PoolSize]:
    """Share what there is out among the stages, where the config leaves it open; `called` is their field there.

    Raises:
        ClusterError: a stage asks for what the cluster does not have.
    """
    if isinstance(executor, InlineExecutor):  # whatever the stages ask of a cluster: here units take turns
        return [PoolSize(1, s.cpus if "cpus" in s.model_fields_set else usable_cpus(), 0) for s in stages]
    cpus, gpus = (executor.resources.get(name, 0.0) for name in ("CPU", "GPU"))
    sizes = []
    for number, stage in enumerate(stages, start=1):
        own_gpus = stage.gpus if stage.gpus is not None else (1.0 if gpus else 0.0)
        if own_gpus > gpus:
            raise ClusterError(
                f"{called}[{number - 1}]: asks for {own_gpus:g} GPU an actor and the cluster has {gpus:g}; "
                "set `gpus: 0` to run on CPUs"
            )
        room = gpus / own_gpus if own_gpus else cpus / stage.cpus
        actors = stage.actors or max(int(room / len(stages)), 1)
        sizes.append(PoolSize(max(min(actors, units), 1), stage.cpus, own_gpus))
    asked_cpus = sum(size.actors * size.cpus for size in sizes)
    asked_gpus = sum(size.actors * size.gpus for size in sizes)
    if asked_cpus > cpus or asked_gpus > gpus:
        raise ClusterError(
            f"the {called}' actors ask for {asked_cpus:g} CPUs and {asked_gpus:g} GPUs together; the cluster has "
            f"{cpus:g} and {gpus:g}: lower `actors`, `cpus` or `gpus`"
        )
    return sizes


def local_cpus(stages: tuple[Stage, ...]) -> int:
    """CPUs to start Ray with on this machine, with room for every stage's pool on a small one too: stages take turns
    by the data they wait for."""
    wanted = sum(stage.cpus * (stage.actors or 1) for stage in stages)
    return max(usable_cpus(), math.ceil(wanted))
