"""Units through Ray Data: read by tasks, worked on by one actor pool a stage, committed by tasks.

A unit travels as one row that carries its own description, so that splitting or bundling of blocks
cannot part the two. What the row's payload is, only the functions handed in know.
"""

import functools
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ray_rerank.cluster.attempts import Limits, ledger_class, this_process, time_limit
from ray_rerank.cluster.errors import ClusterError, WorkerDiedError, last_line
from ray_rerank.cluster.own_code import carried
from ray_rerank.cluster.steps import Commit, Read, Step, UnitSteps, commit_unit, describe, is_own
from ray_rerank.cluster.units import Unit

_IO_TASKS = 2  # reads and commits at a time; units are large and storage is rarely what is waited for
_FATAL = "fatal"  # what a commit says instead of a marker
_LEAST_STORE = 64 << 20  # bytes of the object store: units under way may always have this much
_AHEAD = 2  # units an actor has at hand: one that runs and one that waits
_LONGEST_PAUSE_S = 30.0  # between two starts of an actor that cannot load, while others of its stage work


def stream(
    units: list[Unit],
    steps: UnitSteps,
    unit_bytes: int = 0,
    limits: Limits = Limits(),  # noqa: B008 - frozen
) -> Iterator[dict[str, Any]]:
    """Run units through all stages at once and yield what each commit says, in order of completion.

    An exception in a step is the unit's own: the commit is told, and the other units go on. Ray starts a
    dead worker again and gives its unit to it anew, without end; a unit over which `limits.attempts` workers died or
    stood still is a failure of its own too. An actor that cannot be started is tried again while others of its stage
    work; where there is none, the job ends.

    Reads and commits ask for no CPU of Ray's: actors that hold every CPU would otherwise keep them waiting
    for ever (ray-project/ray#44687). How far they run ahead of the actors is bounded by what the units in
    flight weigh, not by the room in the object store, which Ray would fill up.

    Args:
        unit_bytes: about how much a unit's payload weighs.
        limits: attempts and seconds of each step.

    Raises:
        ClusterError: a stage cannot be loaded, a unit cannot be committed, or the cluster is lost.
    """
    import ray.data
    import ray.exceptions

    table = pa.Table.from_pylist([{"unit": json.dumps(asdict(unit))} for unit in units], schema=_SCHEMA)
    data = ray.data.from_arrow([table.slice(index, 1) for index in range(len(units))])
    io = ray.data.TaskPoolStrategy(size=min(_IO_TASKS, len(units)))
    ledger = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(ledger_class()).remote(limits.attempts)
    reading = _Tries("reading it", limits.reading(unit_bytes), limits.attempts)
    data = data.map_batches(
        _step_on_ledger(carried(_Reading(steps.read, reading)), ledger), compute=io, num_cpus=0, **_ONE_UNIT
    )
    for number, pool in enumerate(steps.pools, start=1):
        start = carried(functools.partial(_start, pool.load, number, limits))
        data = data.map_batches(
            _stage_class(),
            fn_constructor_args=(start, ledger),
            compute=ray.data.ActorPoolStrategy(size=pool.actors, max_tasks_in_flight_per_actor=_AHEAD),
            num_cpus=pool.cpus,
            num_gpus=pool.gpus or None,
            **_ONE_UNIT,
        )
    committing = _Tries("committing it", limits.committing(unit_bytes), limits.attempts)
    data = data.map_batches(
        _step_on_ledger(carried(_Committing(steps.commit, committing)), ledger), compute=io, num_cpus=0, **_ONE_UNIT
    )
    flying = 2 * _IO_TASKS + _AHEAD * sum(pool.actors for pool in steps.pools)
    data.context.execution_options.resource_limits = ray.data.ExecutionResources(
        object_store_memory=max(flying * unit_bytes, _LEAST_STORE)
    )
    try:
        for row in data.iter_rows():
            said = json.loads(row["said"])
            if _FATAL in said:
                raise ClusterError(f"{said[_FATAL]}; what is committed stays")
            yield said
    except ray.exceptions.RayError as error:
        raise ClusterError(f"the workers stopped: {last_line(error)}; what is committed stays") from error


_ONE_UNIT: dict[str, Any] = {"batch_size": 1, "batch_format": "pyarrow", "zero_copy_batch": True}
_SCHEMA = pa.schema(
    [("unit", pa.string()), ("payload", pa.large_binary()), ("failure", pa.string()), (_FATAL, pa.string())]
)


@dataclass(frozen=True, slots=True)
class _Tries:
    """A step that is tried so often, for so long.

    Attributes:
        doing: what a message calls it: "reading it".
        seconds: without a sign of life.
    """

    doing: str
    seconds: float
    attempts: int

    def begin(self, ledger: Any, unit: Unit) -> tuple[int, str | None]:
        """How often the step has failed before, and why it is not to be tried again, if so."""
        import ray

        failed, late = ray.get(ledger.begin.remote(self.doing, unit.name, this_process(), self.seconds))
        if failed < self.attempts:
            return failed, None
        return failed, f"left out: {_ends(failed, late, self.seconds)} while {self.doing}"

    def limit(self, ledger: Any, unit: Unit) -> AbstractContextManager[None]:
        """The step's time limit, from its beginning."""
        late, beat = (functools.partial(say, ledger, unit) for say in (self.late, self.beat))
        return time_limit(self.seconds, late, beat)

    def late(self, ledger: Any, unit: Unit) -> None:
        """Say that this worker gives up."""
        _tell(ledger.late.remote(self.doing, unit.name))

    def beat(self, ledger: Any, unit: Unit) -> None:
        """Say that this worker's process runs."""
        ledger.beat.remote(self.doing, unit.name)

    def end(self, ledger: Any, unit: Unit) -> None:
        """Say that this worker is alive."""
        ledger.end.remote(self.doing, unit.name)

    def run(self, ledger: Any, unit: Unit, step: Callable[[], bytes]) -> bytes:
        """Take the step.

        Raises:
            WorkerDeathError: enough workers died or stood still over it.
        """
        _, given_up = self.begin(ledger, unit)
        if given_up:
            raise WorkerDiedError(given_up)
        try:
            with self.limit(ledger, unit):
                return step()
        finally:
            self.end(ledger, unit)


def _ends(failed: int, late: int, seconds: float) -> str:
    """What became of so many workers, of which so many were late."""
    workers = f"{failed} workers" if failed > 1 else "1 worker"
    if not late:
        return f"{workers} died"
    return f"{workers} " + ("" if late >= failed else "died or ") + f"did not go on for {seconds:g} s"


def _tell(reference: Any) -> None:
    """See that a call has arrived, before this process ends."""
    import ray

    ray.wait([reference], timeout=5)


def _step_on_ledger(step: Callable[[Any, Any], Any], ledger: Any) -> Callable[[Any], Any]:
    """As `ledger_class`: a function that Ray takes to the workers by value."""

    def call(batch: Any) -> Any:
        return step(batch, ledger)

    return call


class _Reading:
    def __init__(self, read: Read, tries: _Tries) -> None:
        self._read, self._tries = read, tries

    def __call__(self, batch: pa.Table, ledger: Any) -> pa.Table:
        return _apply(batch, lambda unit, _: self._tries.run(ledger, unit, functools.partial(self._read, unit)))


def _stage_class() -> type:
    """As `ledger_class`."""

    class _Stage:
        def __init__(self, start: Any, ledger: Any) -> None:
            self._step = start(ledger)

        def __call__(self, batch: Any) -> Any:
            return self._step(batch)

    return _Stage


def _start(load: Callable[[], Step], number: int, limits: Limits, ledger: Any) -> Callable[[pa.Table], pa.Table]:
    """What a stage's actor does with a batch; its step is loaded here.

    An actor that cannot be started ends its process, and Ray starts it again, without end. Where no other actor of
    the stage can be hoped for, it stays, and says with the first unit that comes that the job is lost.
    """
    import ray

    stage, actor = f"stage {number}", ray.get_runtime_context().get_actor_id()
    failed, late, hopeless = ray.get(ledger.start.remote(stage, actor, this_process(), limits.load))
    if hopeless:
        return _lost(f"{stage} cannot be started: {_ends(failed, late, limits.load)} while they loaded its model")
    try:
        late, beat = lambda: _tell(ledger.late.remote(stage, actor)), lambda: ledger.beat.remote(stage, actor)
        with time_limit(limits.load, late, beat):
            step = load()
    except Exception as error:
        failed, hopeless = ray.get(ledger.refused.remote(stage, actor, is_own(error)))
        if hopeless:
            return _lost(f"{stage} cannot be started: {describe(error)}")
        time.sleep(min(2.0**failed, _LONGEST_PAUSE_S))
        os._exit(1)
    ray.get(ledger.loaded.remote(stage, actor))
    tries = _Tries(f"scoring it in {stage}", limits.batch, limits.attempts)
    return lambda batch: _apply(
        batch, lambda unit, payload: tries.run(ledger, unit, functools.partial(step, unit, payload))
    )


def _lost(reason: str) -> Callable[[pa.Table], pa.Table]:
    """What an actor does with a batch when its stage cannot be started."""

    def lose(batch: pa.Table) -> pa.Table:
        row = {"unit": batch["unit"][0].as_py(), _FATAL: reason}
        return pa.Table.from_pylist([row], schema=_SCHEMA)

    return lose


class _Committing:
    def __init__(self, commit: Commit, tries: _Tries) -> None:
        self._commit, self._tries = commit, tries

    def __call__(self, batch: pa.Table, ledger: Any) -> pa.Table:
        unit, payload, failure, fatal = _open(batch)
        said = {_FATAL: fatal} if fatal else self._try(ledger, unit, payload, failure)
        return pa.table({"said": [json.dumps(said)]})

    def _try(self, ledger: Any, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        """Commit the unit; where that cannot be, that it failed; where not even that, the job is lost."""
        failed, given_up = self._tries.begin(ledger, unit)
        if given_up and failed >= 2 * self._tries.attempts:
            return {_FATAL: f"a unit could not be committed: {given_up.removeprefix('left out: ')}"}
        try:
            with self._tries.limit(ledger, unit):
                if given_up:
                    return self._commit(unit, None, given_up)
                return commit_unit(self._commit, unit, payload, failure)
        except Exception as error:
            return {_FATAL: f"a unit could not be committed: {describe(error)}"}
        finally:
            self._tries.end(ledger, unit)


def _apply(batch: pa.Table, step: Step) -> pa.Table:
    unit, payload, failure, fatal = _open(batch)
    if not failure and not fatal:
        try:
            payload = step(unit, payload or b"")
        except Exception as error:
            payload, failure = None, describe(error)
    row = {"unit": batch["unit"][0].as_py(), "payload": payload, "failure": failure, _FATAL: fatal}
    return pa.Table.from_pylist([row], schema=_SCHEMA)


def _open(batch: pa.Table) -> tuple[Unit, bytes | None, str | None, str | None]:
    if batch.num_rows != 1:
        raise AssertionError(f"a batch is one unit, not {batch.num_rows}")
    unit, payload, failure, fatal = (batch[name][0].as_py() for name in _SCHEMA.names)
    return Unit(**json.loads(unit)), payload, failure, fatal
