"""Whether what a run has written is still what it wrote: every file of every done unit, read and compared."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ray_rerank.cluster.errors import OutputConflictError, StorageError, UnavailableError
from ray_rerank.cluster.run_folder import Marker, RunFolder, Written, all_markers, read_manifest
from ray_rerank.cluster.storage import fingerprint_of, list_files, remove
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.outputs.markers import kind_of

_READERS = 16  # files that are read at a time


@dataclass(frozen=True, slots=True)
class Damage:
    """A file that is not what was written, and in what way; `unit` is None where it belongs to none."""

    unit: str | None
    file: str
    reason: str


def damages(output: RunFolder, units: list[Unit]) -> list[Damage]:
    """Read all files of the units that are marked as done, and hold them against what the markers say.

    Parquet files that readers of the folder see and that are no unit's results are told too.

    Raises:
        OutputConflictError: the manifest is damaged.
        UnavailableError: the storage does not answer.
    """
    manifest = read_manifest(output)
    markers = all_markers(output, kind_of(manifest)) if manifest else {}
    if not markers:  # perhaps there is no folder yet
        return []
    marked = [unit for unit in units if unit.name in markers]
    with ThreadPoolExecutor(_READERS) as readers:
        found = [one for own in readers.map(lambda u: _of_unit(output, u, markers[u.name]), marked) for one in own]
    parts = {output.part(unit).rpartition("/")[2] for unit in units}
    strangers = [f.path for f in list_files(output.uri, (".parquet",)) if f.path.rpartition("/")[2] not in parts]
    return found + [Damage(None, path, "is of no unit of this run; remove it") for path in strangers]


def _of_unit(output: RunFolder, unit: Unit, marker: Marker | None) -> list[Damage]:
    if marker is None:
        return [Damage(unit.name, output.marker(unit), "is no marker")]
    written: list[tuple[str, Written]] = [(output.part(unit), marker)]
    if marker.errors:  # older versions did not write down what their error tables were
        written.append((output.errors(unit), marker.errors))
    told = [(file, _difference(file, was.bytes, was.checksum)) for file, was in written]
    return [Damage(unit.name, file, reason) for file, reason in told if reason]


def _difference(file: str, size: int, checksum: str) -> str | None:
    try:
        found = fingerprint_of(file)
    except UnavailableError:
        raise
    except StorageError as error:
        return str(error).removeprefix(f"{file}: ")
    if found[0] != size:
        return f"holds {found[0]:,} bytes where {size:,} were written"
    return None if found[1] == checksum else "its bytes are not those that were written (the checksum differs)"


def damaged_units(output: RunFolder, units: list[Unit], mend: bool) -> set[str]:
    """Print what is damaged; the names of the units that are to be done again.

    Args:
        mend: take back their markers.

    Raises:
        OutputConflictError: the folder holds Parquet files of no unit.
        UnavailableError: the storage does not answer.
    """
    found = damages(output, units)
    for one in found:
        print(f"damaged: {one.file}: {one.reason}")
    if any(one.unit is None for one in found):
        raise OutputConflictError(f"{output.uri}: holds Parquet files that are not of this run; remove them")
    names = {str(one.unit) for one in found}
    for unit in units:
        if mend and unit.name in names:
            remove(output.marker(unit))
    return names
