"""Whether what another job writes is whole: half of it would be taken for all of it without a word."""

import io
from collections import Counter
from collections.abc import Collection, Iterator

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import ClusterError, StorageError, UnavailableError
from ray_rerank.cluster.records import DamagedRecordError, Record, read_record
from ray_rerank.cluster.run_folder import Marker, RunFolder, done_markers, failures, read_manifest
from ray_rerank.cluster.storage import read_bytes
from ray_rerank.cluster.units import Unit, load_plan, read_rows
from ray_rerank.jobs.inputs.files import input_folders
from ray_rerank.jobs.outputs.run_state import RunState, run_state
from ray_rerank.jobs.outputs.shards import unfinished
from ray_rerank.operators.errors import InputError

_NOT_DONE = "their units are not done"


def check_prepared(uri: str) -> None:
    """See that no `prepare` or `mine` is unfinished where the input lies.

    Raises:
        InputError: one is.
    """
    for folder in input_folders(uri):
        if job := unfinished(folder):
            raise InputError(f"{folder}: `ray-rerank {job}` has not finished here; run it again first")


def check_finished(uri: str) -> list[str]:
    """What to tell of units that failed and of rows that were left out; nothing where the files are of no job.

    Raises:
        InputError: a job that writes there has not come to its end.
    """
    check_prepared(uri)
    notes = []
    for output, state in _runs(uri):
        if left := state.left - len(state.failed):
            raise InputError(f"{output.uri}: the job has not finished here ({left} units are left); run it again first")
        notes += _what_is_missing(output, state)
    return notes


def check_begun(uri: str) -> list[str]:
    """What to tell of a ranking that is not whole, so far as it goes; nothing where the files are of no job.

    Raises:
        InputError: nothing of it is there yet, or a `prepare` has not come to its end.
    """
    check_prepared(uri)
    notes = []
    for output, state in _readable_runs(uri, tell=True):
        if not state.done and state.units:
            why = f": {state.failed[0]['reason']}" if state.failed else "; run it again first"
            raise InputError(f"{output.uri}: none of the {state.units} units of this run is done{why}")
        if left := state.left - len(state.failed):
            notes.append(f"{output.uri}: the job has not finished: {left} of {state.units} units are left")
        notes += _what_is_missing(output, state)
    return notes


def why_missing(uri: str, query_ids: Collection[str]) -> Counter[str]:
    """Why these queries are not in a ranking, as far as its books and the run's input tell."""
    reasons: dict[str, str] = {}
    for output, _ in _readable_runs(uri):
        manifest, markers, failed = read_manifest(output), done_markers(output, Marker), failures(output)
        columns = manifest.identity.get("columns") if manifest else None
        column = columns.get("query_id", "query_id") if isinstance(columns, dict) else "query_id"
        for unit in load_plan(output.internal("plan.parquet")):
            if unit.name in markers:
                found = _left_out(output, unit) if markers[unit.name].faults else {}
            else:
                why = failed[unit.name].reason if unit.name in failed else None
                found = dict.fromkeys(_queries(unit, column), f"their units failed: {why}" if why else _NOT_DONE)
            reasons |= {query_id: reason for query_id, reason in found.items() if query_id in query_ids}
    return Counter(reasons.values())


def _runs(uri: str) -> Iterator[tuple[RunFolder, RunState]]:
    for folder in input_folders(uri):
        output = RunFolder(folder)
        if read_manifest(output) is not None:
            yield output, run_state(output)


class _Report(Record):
    bad_files: tuple[str, ...] = ()


def _bad_files(output: RunFolder) -> tuple[str, ...]:
    try:
        report = read_record(output.internal("report.json"), _Report)
    except DamagedRecordError:  # the next run of the job writes it again
        return ()
    return report.bad_files if report else ()


def _readable_runs(uri: str, tell: bool = False) -> Iterator[tuple[RunFolder, RunState]]:
    """As `_runs`, but for those whose books are damaged: the ranking itself may be whole."""
    try:
        yield from _runs(uri)
    except UnavailableError:
        raise
    except ClusterError as error:
        if tell:
            print(f"note: whether the ranking is whole cannot be told: {error}")


def _what_is_missing(output: RunFolder, state: RunState) -> list[str]:
    notes = []
    if bad := _bad_files(output):
        notes.append(f"not in {output.uri}: {len(bad)} of its input's files: {bad[0]}")
    if state.failed:
        notes.append(f"not in {output.uri}: {len(state.failed)} units that failed: {state.failed[0]['reason']}")
    if state.faults:
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(state.reasons).most_common(3))
        notes.append(f"not in {output.uri}: {state.faults} lines of its error tables: {reasons}")
    return notes


def _left_out(output: RunFolder, unit: Unit) -> dict[str, str]:
    """The queries of a done unit's error table that were left out whole, with the reason."""
    data = read_bytes(output.errors(unit))
    try:
        table = pq.read_table(io.BytesIO(data or b""), columns=["query_id", "doc_id", "reason"])
    except (pa.ArrowException, OSError):  # `run_state` tells of damage
        return {}
    whole = table.filter(pc.is_null(table["doc_id"]))
    return dict(zip(whole["query_id"].to_pylist(), whole["reason"].to_pylist(), strict=True))


def _queries(unit: Unit, column: str) -> list[str]:
    """The ids of a unit's queries; none where its input is no longer what it was."""
    try:
        return [str(value) for value in read_rows(unit, [column])[column].to_pylist()]
    except UnavailableError:
        raise
    except StorageError:
        return []
