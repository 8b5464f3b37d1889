"""What is done to a unit, and what becomes of its errors, whoever does it."""

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.own_code import NAMESPACE
from ray_rerank.cluster.units import Unit

Read = Callable[[Unit], bytes]
Step = Callable[[Unit, bytes], bytes]
Commit = Callable[[Unit, bytes | None, str | None], dict[str, Any]]
"""Writes what became of a unit, or why nothing did, and returns what there is to report of it."""


@dataclass(frozen=True, slots=True)
class Pool:
    """The actors of one stage.

    Attributes:
        load: called once in each actor; returns the step that is taken for every unit.
        actors: how many.
        cpus, gpus: of each.
    """

    load: Callable[[], Step]
    actors: int
    cpus: float = 1
    gpus: float = 0


@dataclass(frozen=True, slots=True)
class UnitSteps:
    """What is done to every unit.

    Attributes:
        read: gives its payload.
        pools: one per stage; none where units are only read and committed.
        commit: writes what became of it.
    """

    read: Read
    pools: list[Pool]
    commit: Commit


def is_own(error: Exception) -> bool:
    """Whether this product raised it, knowing why; then trying again would not help."""
    return type(error).__module__.partition(".")[0] == NAMESPACE


def describe(error: Exception) -> str:
    """Our own errors in their words, others with their kind and place."""
    if is_own(error):
        return str(error)
    where = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"


def commit_unit(commit: Commit, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
    """Commit a unit; where that raises, commit that it failed.

    Raises:
        ClusterError: the storage takes nothing, and would take no other unit either.
    """
    try:
        return commit(unit, payload, failure)
    except ClusterError:
        raise
    except Exception as error:
        return commit(unit, None, f"it could not be committed: {describe(error)}")
