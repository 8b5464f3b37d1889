"""The folder of shards that prepare or mine writes: whose it is, and how it is replaced without mixing two sets."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa
from pydantic import Field

from ray_rerank.cluster import storage
from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.records import Count, DamagedRecordError, Record, read_record
from ray_rerank.cluster.storage import UnavailableError
from ray_rerank.jobs.outputs.checks import check_folder
from ray_rerank.operators.candidates.shards import SHARD_NAME, shard_name
from ray_rerank.operators.errors import InputError

QRELS = "_qrels.txt"
"""The judgements of a collection that has no file of them, beside the shards."""


class _Begun(Record):
    identity: str = ""
    complete: bool


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
        job: of JOBS.
        inputs: what is read, as it was listed.
        old: files of an earlier run of the job, which go before the first shard is written.
        finished: the manifest of a finished run of the same settings and inputs; nothing is to be done.
    """

    output: str
    identity: str
    job: str
    inputs: tuple[storage.StoredFile, ...]
    old: tuple[str, ...]
    finished: dict[str, Any] | None = None

    @property
    def errors(self) -> str:
        """The table of what was left out."""
        return storage.join(self.output, _errors(self.job))

    @property
    def work(self) -> str:
        """A folder for what the job keeps besides its shards; what lies there outlives a replacement."""
        return storage.join(self.output, _work(self.job))


def claim(
    output: str, settings: dict[str, Any], inputs: Iterable[storage.StoredFile], overwrite: bool, job: str = "prepare"
) -> Claim:
    """Find out whether the job may write here, without writing anything that stays.

    An unfinished run of the same settings and inputs is made anew without `overwrite`.

    Raises:
        InputError: the folder holds other files, or the shards of another run and `overwrite` is false.
        StorageError: it cannot be written.
    """
    listed = tuple(inputs)
    described = [[file.path, file.size, file.version] for file in listed]
    identity = storage.fingerprint(json.dumps([settings, described], sort_keys=True).encode())
    check_folder(output)
    found = storage.names_below(output)
    visible = [name for name in found if not any(part.startswith(".") for part in name.split("/"))]
    own = [name for name in visible if SHARD_NAME.fullmatch(name) or name in _own(job)]
    foreign = [name for name in visible if name not in own and not name.startswith(f"{_work(job)}/")]
    if foreign:
        raise InputError(
            f"{output}: holds files that {job} did not write ({', '.join(foreign[:3])}"
            f"{', …' if len(foreign) > 3 else ''}); give --output a folder of its own"
        )
    before = None if overwrite else _manifest(output, job, "add --overwrite to make the folder anew")
    same = before is not None and before.identity == identity
    if isinstance(before, _Finished) and same and {*before.shards} <= {*own} and _is_whole(output, before):
        return Claim(output, identity, job, listed, (), before.model_dump(mode="json"))
    if own and not overwrite and not same:
        raise InputError(
            f"{output}: holds the shards of another {job} ({own[-1]}); add --overwrite to replace them, or "
            "choose another folder"
        )
    storage.check_writable(output)
    return Claim(output, identity, job, listed, tuple(own))


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
        if name != _name(claim.job):
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


def _own(job: str) -> set[str]:
    return {_name(job), _errors(job)} | ({QRELS} if job == "prepare" else set())


def _name(job: str) -> str:
    return f"_{job}.json"


def _errors(job: str) -> str:
    return f"_errors/{job}.parquet"


def _work(job: str) -> str:
    return f"_{job}"


def _manifest_of(folder: str, job: str) -> _Begun | None:
    system, path = storage.filesystem(folder)
    hint = f"whether `ray-rerank {job}` has finished here cannot be told; run it again with --overwrite"
    return _manifest(folder, job, hint, _Begun) if system.isdir(path) else None


def _manifest(output: str, job: str, hint: str, kind: Any = None) -> _Begun | None:
    """What the job says of a folder, or nothing where it says nothing.

    Args:
        kind: what is read of it; all, where nothing is given.

    Raises:
        InputError: it is damaged.
    """
    place = storage.join(output, _name(job))
    try:
        begun = read_record(place, _Begun)
        return read_record(place, JOBS[job]) if kind is None and begun and begun.complete else begun
    except DamagedRecordError as error:
        raise InputError(f"{error}; {hint}") from None


def _beside(claim: Claim) -> list[str]:
    own = _own(claim.job) - {_name(claim.job)}
    return [name for name in storage.names_below(claim.output) if name in own]


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
    text = json.dumps({"identity": claim.identity, **content}, indent=2, ensure_ascii=False)
    storage.write_whole(storage.join(claim.output, _name(claim.job)), text.encode())
