"""Units through Ray Data: read by tasks, worked on by one actor pool a stage, committed by tasks.

A unit travels as one row that carries its own description, so that splitting or bundling of blocks
cannot part the two. What the row's payload is, only the functions handed in know.
"""

import functools
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from cluster.errors import ClusterError, WorkerDeathError
from cluster.own_code import carried
from cluster.units import Unit

Read = Callable[[Unit], bytes]
Step = Callable[[Unit, bytes], bytes]
Commit = Callable[[Unit, bytes | None, str | None], dict[str, Any]]

_IO_TASKS = 2  # reads and commits at a time; units are large and storage is rarely what is waited for
_DEATHS = 3  # workers that a unit may take with it before it is left out
_FATAL = "fatal"  # what a commit says instead of a marker
_LEAST_STORE = 64 << 20  # bytes of the object store: units under way may always have this much
_AHEAD = 2  # units an actor has at hand: one that runs and one that waits


@dataclass(frozen=True, slots=True)
class Pool:
    """The actors of one stage.

    Attributes:
        load: called once in each actor; gives what is called on every unit.
        actors: how many.
        cpus, gpus: of each.
    """

    load: Callable[[], Step]
    actors: int
    cpus: float = 1
    gpus: float = 0


def stream(
    units: list[Unit], read: Read, pools: list[Pool], commit: Commit, unit_bytes: int = 0
) -> Iterator[dict[str, Any]]:
    """Run units through all stages at once and yield what each commit says, in order of completion.

    An exception in a step is the unit's own: the commit is told, and the other units go on. Ray starts a
    dead actor again and gives its unit to it anew, without end; a unit during which _DEATHS workers died is a failure
    of its own too.

    Reads and commits ask for no CPU of Ray's: actors that hold every CPU would otherwise keep them waiting
    for ever (ray-project/ray#44687). How far they run ahead of the actors is bounded by what the units in
    flight weigh, not by the room in the object store, which Ray would fill up.

    Args:
        unit_bytes: about how much a unit's payload weighs.

    Raises:
        ClusterError: a stage cannot be loaded, a unit cannot be committed, or the cluster is lost.
    """
    import ray.data
    import ray.exceptions

    rows = [{"unit": json.dumps(asdict(unit)), "payload": None, "failure": None} for unit in units]
    table = pa.Table.from_pylist(rows, schema=_SCHEMA)
    data = ray.data.from_arrow([table.slice(index, 1) for index in range(len(units))])
    io = ray.data.TaskPoolStrategy(size=min(_IO_TASKS, len(units)))
    data = data.map_batches(carried(_Reading(read)), compute=io, num_cpus=0, **_ONE_UNIT)
    starts = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_starts_class()).remote()
    for number, pool in enumerate(pools, start=1):
        data = data.map_batches(
            _stage_class(),
            fn_constructor_args=(carried(functools.partial(_watched, pool.load, number)), starts),
            compute=ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=_AHEAD),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            **_ONE_UNIT,
        )
    data = data.map_batches(carried(_Committing(commit)), compute=io, num_cpus=0, **_ONE_UNIT)
    flying = 2 * _IO_TASKS + _AHEAD * sum(pool.actors for pool in pools)
    data.context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=max(flying * unit_bytes, _LEAST_STORE)
    )
    try:
        for row in data.iter_rows():
            said = json.loads(row["said"])
            if _FATAL in said:
                raise ClusterError(f"a unit could not be committed: {said[_FATAL]}; what is committed stays")
            yield said
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the workers stopped: {_last_line(error)}; what is committed stays") from error


_ONE_UNIT: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
_SCHEMA = pa.schema([("unit", pa.string()), ("payload", pa.large_binary()), ("failure", pa.string())])


class _Reading:
    def __init__(self, read: Read) -> None:
        self._read = read

    def __call__(self, batch: pa.Table) -> pa.Table:
        return _apply(batch, lambda unit, _: self._read(unit))


def _starts_class() -> type:
    """Made here, so that Ray takes it to the workers by value: by name it could be another's there."""

    class Starts:
        """An actor that outlives the workers and counts how often each unit was begun and not ended.

        Where its node is lost it starts anew elsewhere and counts from nothing; calls wait for it meanwhile.
        """

        def __init__(self) -> None:
            self._begun: dict[tuple[int, str], int] = {}

        def begin(self, stage: int, unit: str) -> int:
            """How often the unit has been begun in this stage, this time included."""
            self._begun[stage, unit] = self._begun.get((stage, unit), 0) + 1
            return self._begun[stage, unit]

        def end(self, stage: int, unit: str) -> None:
            """The worker is alive."""
            self._begun.pop((stage, unit), None)

    return Starts


def _stage_class() -> type:
    """As `_starts_class`."""

    class _Stage:
        def __init__(self, start: Any, starts: Any) -> None:
            self._step = start(starts)

        def __call__(self, batch: Any) -> Any:
            return self._step(batch)

    return _Stage


def _watched(load: Callable[[], Step], number: int, starts: Any) -> Callable[[pa.Table], pa.Table]:
    """What a stage's actor does with a batch; its step is loaded here."""
    import ray

    step = load()

    def watched(unit: Unit, payload: bytes) -> bytes:
        if ray.get(starts.begin.remote(number, unit.name)) > _DEATHS:
            raise WorkerDeathError(f"left out: {_DEATHS} workers died while they scored it in stage {number}")
        try:
            return step(unit, payload)
        finally:
            starts.end.remote(number, unit.name)

    return lambda batch: _apply(batch, watched)


class _Committing:
    def __init__(self, commit: Commit) -> None:
        self._commit = commit

    def __call__(self, batch: pa.Table) -> pa.Table:
        unit, payload, failure = _open(batch)
        try:
            said = self._commit(unit, payload, failure)
        except ClusterError as error:  # storage that takes nothing would take no other unit either
            said = {_FATAL: str(error)}
        return pa.table({"said": [json.dumps(said)]})


def _last_line(error: BaseException) -> str:
    """Ray's errors carry a remote traceback; its last line is what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _apply(batch: pa.Table, step: Step) -> pa.Table:
    unit, payload, failure = _open(batch)
    if failure is None:
        try:
            payload = step(unit, payload or b"")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            failure = f"{type(error).__name__}: {error} ({where.filename}:{where.lineno})"
            if isinstance(error, WorkerDeathError):
                failure = str(error)
            payload = None
    row = {"unit": batch["unit"][0].as_py(), "payload": payload, "failure": failure}
    return pa.Table.from_pylist([row], schema=_SCHEMA)


def _open(batch: pa.Table) -> tuple[Unit, bytes | None, str | None]:
    if batch.num_rows != 1:
        raise AssertionError(f"a batch is one unit, not {batch.num_rows}")
    unit, payload, failure = (batch[name][0].as_py() for name in ("unit", "payload", "failure"))
    return Unit(**json.loads(unit)), payload, failure
