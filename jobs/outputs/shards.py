"""The folder of shards that prepare or mine writes: whose it is, and how it is replaced without mixing two sets."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from ray_rerank.cluster import storage
from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.records import Count, DamagedRecordError, Record, read_record
from ray_rerank.jobs.outputs.checks import check_folder
from ray_rerank.jobs.outputs.record import (
    LAYOUTS,
    FolderRecord,
    check_known,
    conflict,
    load_record,
    may_resume,
    visible_names,
)
from ray_rerank.operators.candidates.shards import shard_name
from ray_rerank.operators.errors import InputError

QRELS = "_qrels.txt"
"""The judgements of a collection that has no file of them, beside the shards."""


class _Begun(Record):
    """
    Attributes:
        settings, inputs: what `identity` is the digest of; older versions recorded only that.
    """

    identity: str = ""
    complete: bool
    settings: dict[str, Any] | None = None
    inputs: tuple[tuple[str, int, str], ...] = ()

    def record(self, job: str) -> FolderRecord:
        """What it says of the folder."""
        return FolderRecord(job, self.settings, _versions(self.inputs), self.identity, self.complete)


class _Finished(_Begun):
    """
    Attributes:
        sizes: bytes of the files by name; older versions did not write them down.
    """

    complete: Literal[True]
    shards: tuple[str, ...]
    sizes: dict[str, Count] = Field({})
    queries: Count
    left_out: dict[str, Count]
    first: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    seconds: float


class _Prepared(_Finished):
    candidates: Count
    passages: Count


class _Mined(_Finished):
    positives: Count
    negatives: dict[str, Count]


JOBS: dict[str, type[_Finished]] = {"prepare": _Prepared, "mine": _Mined}
"""What writes such folders, and what it says of a whole one."""


@dataclass(frozen=True, slots=True)
class Claim:
    """An output folder that may be written, or that holds just what is asked for.

    Attributes:
        record: what the job, one of JOBS, makes the folder with.
        inputs: what is read, as it was listed.
        old: files of an earlier run of the job, which go before the first shard is written.
        finished: the manifest of a finished run of the same settings and inputs; nothing is to be done.
    """

    output: str
    record: FolderRecord
    inputs: tuple[storage.StoredFile, ...]
    old: tuple[str, ...]
    finished: dict[str, Any] | None = None

    @property
    def errors(self) -> str:
        """The table of what was left out."""
        return storage.join(self.output, _errors(self.record.job))

    @property
    def work(self) -> str:
        """A folder for what the job keeps besides its shards; what lies there outlives a replacement."""
        return storage.join(self.output, _work(self.record.job))


def claim(
    output: str, settings: dict[str, Any], inputs: Iterable[storage.StoredFile], overwrite: bool, job: str = "prepare"
) -> Claim:
    """Find out whether the job may write here, without writing anything that stays.

    An unfinished run of the same settings and inputs is made anew without `overwrite`.

    Raises:
        InputError: it cannot be a folder.
        OutputConflictError: it holds other files, or the shards of another run and `overwrite` is false.
        StorageError: it cannot be written.
    """
    listed = tuple(inputs)
    described = [[file.path, file.size, file.version] for file in listed]
    settings = json.loads(json.dumps(settings))
    identity = storage.fingerprint(json.dumps([settings, described], sort_keys=True).encode())
    now = FolderRecord(job, settings, _versions(described), identity)
    check_folder(output)
    own = [name for name in visible_names(output) if not name.startswith(f"{_work(job)}/")]
    check_known(output, job, [name for name in own if not LAYOUTS[job].fullmatch(name)])
    begun = _load(output, job, overwrite)
    before = None if begun is None else begun.record(job)
    if may_resume(output, before, now, overwrite):
        if isinstance(begun, _Finished) and {*begun.shards} <= {*own} and _is_whole(output, begun):
            return Claim(output, now, listed, (), begun.model_dump(mode="json", exclude={"settings", "inputs"}))
    elif before is None and own and not overwrite:
        raise conflict(output, job, ["there is no record of what made it"])
    storage.check_writable(output)
    return Claim(output, now, listed, tuple(own))


def begin(claim: Claim) -> None:
    """Say that the folder is unfinished, then remove what an earlier run left; all inputs have been read by now.

    Raises:
        StorageError: an input is not what it was when the folder was claimed, or the folder cannot be written.
    """
    for file in claim.inputs:
        if file.version:  # else it is no file, but a collection's name
            storage.check_unchanged(file)
    _write_manifest(claim, {"complete": False})
    system, root = storage.filesystem(claim.output)
    for name in claim.old:
        if name != _name(claim.record.job):
            system.rm_file(storage.join(root, name))


def write_shard(claim: Claim, index: int, count: int, data: bytes) -> str:
    """Write one shard whole; returns its name."""
    name = shard_name(index, count)
    storage.write_whole(storage.join(claim.output, name), data)
    return name


def finish(claim: Claim, faults: pa.Table, summary: dict[str, Any]) -> None:
    """Write the faults, if any, and then that the folder is complete."""
    if faults.num_rows:
        storage.write_whole(claim.errors, parquet_bytes(faults))
    names = [*summary["shards"], *_beside(claim)]
    sizes = {name: storage.stored_file(storage.join(claim.output, name)).size for name in names}
    _write_manifest(claim, {"complete": True, **summary, "sizes": sizes})


def written_by(folder: str) -> str | None:
    """The job whose shards lie in this folder.

    Raises:
        InputError: its manifest is damaged.
    """
    return next((job for job in JOBS if _manifest_of(folder, job)), None)


def unfinished(folder: str) -> str | None:
    """The job that began in this folder and did not end: its shards are not all there yet.

    Raises:
        InputError: whether it did cannot be told, for its manifest is damaged.
    """
    return next((job for job in JOBS if (found := _manifest_of(folder, job)) and not found.complete), None)


def _name(job: str) -> str:
    return f"_{job}.json"


def _errors(job: str) -> str:
    return f"_errors/{job}.parquet"


def _work(job: str) -> str:
    return f"_{job}"


def _manifest_of(folder: str, job: str) -> _Begun | None:
    """What the job says of a folder that is read; None where it says nothing.

    Raises:
        InputError: it is damaged.
    """
    system, path = storage.filesystem(folder)
    try:
        return read_record(storage.join(folder, _name(job)), _Begun) if system.isdir(path) else None
    except DamagedRecordError as error:
        hint = f"whether `ray-rerank {job}` has finished here cannot be told; run it again with --overwrite"
        raise InputError(f"{error}; {hint}") from None


def _load(output: str, job: str, overwrite: bool) -> _Begun | None:
    place = storage.join(output, _name(job))
    begun = load_record(place, _Begun, overwrite)
    return load_record(place, JOBS[job], overwrite) if begun and begun.complete else begun


def _versions(inputs: Iterable[Sequence[Any]]) -> dict[str, str]:
    return {path: f"{size} bytes, version {version}" for path, size, version in inputs}


def _beside(claim: Claim) -> list[str]:
    """The names of what the job wrote besides the shards and its record."""
    beside = {_errors(claim.record.job)} | ({QRELS} if claim.record.job == "prepare" else set())
    return [name for name in storage.names_below(claim.output) if name in beside]


def _is_whole(output: str, found: _Finished) -> bool:
    """Whether all files are there in their size."""
    try:
        sizes = {name: storage.stored_file(storage.join(output, name)).size for name in found.sizes}
    except UnavailableError:
        raise
    except StorageError:
        return False
    return sizes == found.sizes


def _write_manifest(claim: Claim, content: dict[str, Any]) -> None:
    made = {
        "identity": claim.record.identity,
        "settings": claim.record.settings,
        "inputs": [[file.path, file.size, file.version] for file in claim.inputs],
    }
    text = json.dumps({**made, **content}, indent=2, ensure_ascii=False)
    storage.write_whole(storage.join(claim.output, _name(claim.record.job)), text.encode())
