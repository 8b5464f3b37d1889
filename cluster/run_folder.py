"""An output folder: what it was made with, what is done, and how a unit's files are committed once."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa

from ray_rerank.cluster.errors import OutputConflictError, StorageError, UnavailableError
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.records import Checksum, Count, DamagedRecordError, Record, parsed, read_record
from ray_rerank.cluster.secrets import shown
from ray_rerank.cluster.storage import fingerprint, join, list_files, read_bytes, read_folder, write_whole
from ray_rerank.cluster.units import Unit, load_plan, save_plan

FORMAT = 1


class Manifest(Record):
    """What a run was made with."""

    format: Literal[1]
    identity: dict[str, Any]


class Written(Record):
    """A file as it was written."""

    bytes: Count
    checksum: Checksum


class Marker(Written):
    """That a unit is done, and what its part was; jobs add their own facts.

    Attributes:
        errors: the error table; older versions did not write down what it was.
    """

    unit: str
    rows: Count
    faults: Count
    errors: Written | None = None


class Failure(Record):
    """Why a unit could not be done."""

    unit: str
    file: str
    start: Count
    stop: Count
    reason: str


R = TypeVar("R", bound=Record)
M = TypeVar("M", bound=Marker)


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The folder of one run.

    part-UNIT.parquet     results, one file a unit; what readers of the folder see
    _errors/UNIT.parquet  what was left out, and why
    _run/manifest.json    what the run was made with
    _run/plan.parquet     its units
    _run/done/UNIT.json   the marker: only with it a unit counts as done
    _run/failed/UNIT.json why a unit could not be done; tried again by the next run
    _run/report.json      the summary of the last run
    """

    uri: str

    def part(self, unit: Unit) -> str:
        """Where a unit's results lie."""
        return join(self.uri, f"part-{unit.name}.parquet")

    def errors(self, unit: Unit) -> str:
        """Where a unit's faults lie."""
        return join(self.uri, "_errors", f"{unit.name}.parquet")

    def marker(self, unit: Unit) -> str:
        """Where it is said that a unit is done."""
        return self.internal("done", f"{unit.name}.json")

    def internal(self, *names: str) -> str:
        """A file of the run's own books."""
        return join(self.uri, "_run", *names)


def begin(output: RunFolder, identity: dict[str, Any], units: list[Unit]) -> None:
    """Record what a run is made with: its units, then its identity.

    Raises:
        StorageError: the folder cannot be written.
    """
    save_plan(output.internal("plan.parquet"), units)
    manifest = {"format": FORMAT, "identity": identity, "created": time.time()}
    write_whole(output.internal("manifest.json"), json.dumps(manifest, indent=2).encode())


def has_begun(output: RunFolder) -> bool:
    """Whether a run has come so far that it left anything, be it a failure."""
    return any(read_folder(output.internal(name), ".json") for name in ("done", "failed")) or bool(
        visible_parquet(output)
    )


def read_manifest(output: RunFolder) -> Manifest | None:
    """What the run was made with, or None where no run has begun.

    Raises:
        OutputConflictError: it is not a manifest that this version reads.
    """
    try:
        return read_record(output.internal("manifest.json"), Manifest)
    except DamagedRecordError as error:
        raise OutputConflictError(
            f"{error} (no manifest of format {FORMAT}); remove {output.uri}, or use another output"
        ) from None


def visible_parquet(output: RunFolder) -> list[str]:
    """The Parquet files that readers of the folder see, be they of the run or not.

    Raises:
        UnavailableError: the storage does not answer.
    """
    try:
        return [file.path for file in list_files(output.uri, (".parquet",))]
    except UnavailableError:
        raise
    except StorageError:
        return []


def commit(output: RunFolder, unit: Unit, results: pa.Table, faults: pa.Table, facts: dict[str, Any]) -> dict[str, Any]:
    """Write a unit's results and faults, then its marker; done again, it leaves the same files.

    Args:
        output: the run's folder.
        unit: the unit.
        results: its rows for readers.
        faults: what was left out; no file where empty.
        facts: counts that the marker keeps.

    Returns:
        The marker's content.
    """
    part = parquet_bytes(results)
    faults = _without_secrets(faults)
    write_whole(output.part(unit), part)
    errors = parquet_bytes(faults) if faults.num_rows else None
    if errors is not None:
        write_whole(output.errors(unit), errors)
    marker = facts | {
        "unit": unit.name,
        "rows": results.num_rows,
        "faults": faults.num_rows,
        "bytes": len(part),
        "checksum": fingerprint(part),
        "errors": None if errors is None else {"bytes": len(errors), "checksum": fingerprint(errors)},
        "finished": time.time(),
    }
    write_whole(output.marker(unit), json.dumps(marker).encode())
    return marker


def _without_secrets(faults: pa.Table) -> pa.Table:
    """A reason may repeat what a library said."""
    if "reason" not in faults.column_names:
        return faults
    at = faults.schema.get_field_index("reason")
    told = [reason and shown(reason) for reason in faults["reason"].to_pylist()]
    return faults.set_column(at, faults.schema.field(at), [pa.array(told, faults.schema.field(at).type)])


def commit_failure(output: RunFolder, unit: Unit, reason: str) -> dict[str, Any]:
    """Write down why a unit could not be done."""
    failure = {"unit": unit.name, "file": unit.file, "start": unit.start, "stop": unit.stop}
    failure |= {"reason": shown(reason)}
    write_whole(output.internal("failed", f"{unit.name}.json"), json.dumps(failure).encode())
    return failure


def all_markers(output: RunFolder, kind: type[M]) -> dict[str, M | None]:
    """The markers by unit name, whatever became of the parts; None where one is damaged, or another unit's."""
    return {name: m if m and m.unit == name else None for name, m in _records(output.internal("done"), kind).items()}


def done_markers(output: RunFolder, kind: type[M]) -> dict[str, M]:
    """The markers by unit name, save where the part or the error table is missing or of another size: that unit is not
    done."""
    markers = {name: marker for name, marker in all_markers(output, kind).items() if marker}
    if not markers:
        return {}
    parts = _sizes(output.uri)
    errors = _sizes(join(output.uri, "_errors")) if any(marker.errors for marker in markers.values()) else {}
    return {
        name: marker
        for name, marker in markers.items()
        if parts.get(f"part-{name}.parquet") == marker.bytes
        and (marker.errors is None or errors.get(f"{name}.parquet") == marker.errors.bytes)
    }


def read_parts(output: RunFolder, kind: type[M]) -> Iterator[tuple[Unit, bytes]]:
    """The results of the units that are done, in the plan's order, held against what was written.

    Raises:
        StorageError: one cannot be read, or is not what was written.
    """
    done = done_markers(output, kind)
    for unit in load_plan(output.internal("plan.parquet")):
        if unit.name in done:
            yield unit, read_part(output, unit, done[unit.name])


def read_part(output: RunFolder, unit: Unit, marker: Marker) -> bytes:
    """A done unit's results.

    Raises:
        StorageError: they cannot be read, or are not what was written.
    """
    return _as_written(output.part(unit), marker)


def read_errors(output: RunFolder, unit: Unit, marker: Marker) -> bytes | None:
    """A done unit's error table; None where nothing was left out.

    Raises:
        StorageError: it cannot be read, or is not what was written.
    """
    if marker.errors is None:
        return read_bytes(output.errors(unit)) if marker.faults else None
    return _as_written(output.errors(unit), marker.errors)


def failures(output: RunFolder) -> dict[str, Failure]:
    """The units that failed in some run, by name; a damaged record is none: its unit is not done, and is done again."""
    found = _records(output.internal("failed"), Failure)
    return {name: failure for name, failure in found.items() if failure and failure.unit == name}


def _records(folder: str, kind: type[R]) -> dict[str, R | None]:
    def one(name: str, data: bytes) -> R | None:
        try:
            return parsed(name, data, kind)
        except DamagedRecordError:
            return None

    return {name: one(name, data) for name, data in read_folder(folder, ".json").items()}


def _sizes(folder: str) -> dict[str, int]:
    try:
        return {file.path.rpartition("/")[2]: file.size for file in list_files(folder, (".parquet",))}
    except UnavailableError:
        raise
    except StorageError:
        return {}  # there is no such folder


def _as_written(file: str, was: Written) -> bytes:
    data = read_bytes(file)
    if data is None or fingerprint(data) != was.checksum:
        raise StorageError(
            f"{file}: its bytes are not those that were written (the checksum differs); remove it, and the same "
            "command does its unit again"
        )
    return data
