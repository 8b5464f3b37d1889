"""An output folder: what it was made with, what is done, and how a unit's files are committed once."""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import pyarrow as pa

from ray_rerank.cluster.errors import OutputMismatchError, StorageError
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.records import Checksum, Count, DamagedRecordError, Record, brief, parsed, read_record
from ray_rerank.cluster.secrets import shown
from ray_rerank.cluster.storage import (
    UnavailableError,
    fingerprint,
    join,
    list_files,
    read_bytes,
    read_folder,
    write_whole,
)
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
class Output:
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
        return self.run("done", f"{unit.name}.json")

    def run(self, *names: str) -> str:
        """A file of the run's own books."""
        return join(self.uri, "_run", *names)


def claim(output: Output, identity: dict[str, Any], units: list[Unit]) -> None:
    """Make a folder the output of this run, or go on with it if it is.

    Raises:
        OutputMismatchError: it belongs to a run with another identity or input, or holds other files.
        StorageError: it cannot be read or written.
    """
    if check_claim(output, identity, units):
        return
    save_plan(output.run("plan.parquet"), units)
    manifest = {"format": FORMAT, "identity": identity, "created": time.time()}
    write_whole(output.run("manifest.json"), json.dumps(manifest, indent=2).encode())


def check_claim(output: Output, identity: dict[str, Any], units: list[Unit]) -> bool:
    """Whether a folder is the output of this run already; else it can become that: nothing is in it yet, or nothing but
    what another run had set out to do.

    Raises:
        OutputMismatchError, StorageError: as `claim` does.
    """
    identity = json.loads(json.dumps(identity))
    before = read_manifest(output)
    if before is not None:
        differences = _differences(before.identity, identity)
        if not differences and (planned := load_plan(output.run("plan.parquet"))) != units:
            differences = _plan_differences(planned, units)
        if differences and not _begun(output):
            return False
        if differences:
            raise OutputMismatchError(
                f"{output.uri}: was made by another run; what differs:\n  "
                + "\n  ".join(differences[:10])
                + "\nUse another output, or remove this one."
            )
        return True
    strangers = foreign_files(output)
    if strangers:
        raise OutputMismatchError(
            f"{output.uri}: holds Parquet files that are not of a run ({strangers[0]}, {len(strangers)} in all); "
            "use an empty output"
        )
    return False


def _begun(output: Output) -> bool:
    """Whether a run has come so far that it left anything, be it a failure."""
    return any(read_folder(output.run(name), ".json") for name in ("done", "failed")) or bool(foreign_files(output))


def read_manifest(output: Output) -> Manifest | None:
    """What the run was made with, or None where no run has begun.

    Raises:
        OutputMismatchError: it is not a manifest that this version reads.
    """
    try:
        return read_record(output.run("manifest.json"), Manifest)
    except DamagedRecordError as error:
        raise OutputMismatchError(
            f"{error} (no manifest of format {FORMAT}); remove {output.uri}, or use another output"
        ) from None


def foreign_files(output: Output) -> list[str]:
    """Parquet files that lie in a folder before any run.

    Raises:
        UnavailableError: the storage does not answer.
    """
    try:
        return [file.path for file in list_files(output.uri, (".parquet",))]
    except UnavailableError:
        raise
    except StorageError:
        return []


def commit(output: Output, unit: Unit, results: pa.Table, faults: pa.Table, facts: dict[str, Any]) -> dict[str, Any]:
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


def commit_failure(output: Output, unit: Unit, reason: str) -> dict[str, Any]:
    """Write down why a unit could not be done."""
    failure = {"unit": unit.name, "file": unit.file, "start": unit.start, "stop": unit.stop}
    failure |= {"reason": shown(reason)}
    write_whole(output.run("failed", f"{unit.name}.json"), json.dumps(failure).encode())
    return failure


def all_markers(output: Output, kind: type[M]) -> dict[str, M | None]:
    """The markers by unit name, whatever became of the parts; None where one is damaged, or another unit's."""
    return {name: m if m and m.unit == name else None for name, m in _records(output.run("done"), kind).items()}


def done_markers(output: Output, kind: type[M]) -> dict[str, M]:
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


def read_parts(output: Output, kind: type[M]) -> Iterator[tuple[Unit, bytes]]:
    """The results of the units that are done, in the plan's order, held against what was written.

    Raises:
        StorageError: one cannot be read, or is not what was written.
    """
    done = done_markers(output, kind)
    for unit in load_plan(output.run("plan.parquet")):
        if unit.name in done:
            yield unit, read_part(output, unit, done[unit.name])


def read_part(output: Output, unit: Unit, marker: Marker) -> bytes:
    """A done unit's results.

    Raises:
        StorageError: they cannot be read, or are not what was written.
    """
    return _as_written(output.part(unit), marker)


def read_errors(output: Output, unit: Unit, marker: Marker) -> bytes | None:
    """A done unit's error table; None where nothing was left out.

    Raises:
        StorageError: it cannot be read, or is not what was written.
    """
    if marker.errors is None:
        return read_bytes(output.errors(unit)) if marker.faults else None
    return _as_written(output.errors(unit), marker.errors)


def failures(output: Output) -> dict[str, Failure]:
    """The units that failed in some run, by name; a damaged record is none: its unit is not done, and is done again."""
    found = _records(output.run("failed"), Failure)
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


def _differences(before: Any, now: Any, at: str = "") -> list[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        found = []
        for key in sorted(before.keys() | now.keys()):
            found += _differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
        return found
    if isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        return [
            line for i, pair in enumerate(zip(before, now, strict=True)) for line in _differences(*pair, f"{at}[{i}]")
        ]
    return [] if before == now else [f"{at}: was {brief(json.dumps(before))}, is now {brief(json.dumps(now))}"]


def _plan_differences(before: list[Unit], now: list[Unit]) -> list[str]:
    files_before, files_now = {unit.file for unit in before}, {unit.file for unit in now}
    found = [f"input: {file} was there and is gone" for file in sorted(files_before - files_now)]
    found += [f"input: {file} is new" for file in sorted(files_now - files_before)]
    names = {unit.name.partition("-")[2] for unit in before}
    changed = {unit.file for unit in now if unit.name.partition("-")[2] not in names} & files_before
    return [*found, *(f"input: {file} has changed since" for file in sorted(changed))] or ["input: its units differ"]
