"""The folder that prepare writes: whose it is, and how its shards are replaced without mixing two sets."""

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cluster import storage
from operators.errors import InputError
from operators.shards import SHARD_NAME, shard_name

MANIFEST = "_prepare.json"
ERRORS = "_errors/prepare.parquet"


@dataclass(frozen=True, slots=True)
class Claim:
    """An output folder that may be written, or that holds just what is asked for.

    Attributes:
        old: files of an earlier prepare, which go before the first shard is written.
        finished: the manifest of a finished prepare of the same settings and inputs; nothing is to be done.
    """

    output: str
    identity: str
    old: tuple[str, ...]
    finished: dict[str, Any] | None = None


def claim(output: str, settings: dict[str, Any], inputs: Iterable[storage.StoredFile], overwrite: bool) -> Claim:
    """Find out whether prepare may write here, without writing anything that stays.

    An unfinished prepare of the same settings and inputs is made anew without `overwrite`.

    Raises:
        InputError: the folder holds other files, or the shards of another prepare and `overwrite` is false.
        StorageError: it cannot be written.
    """
    described = [[file.path, file.size, file.version] for file in inputs]
    identity = storage.fingerprint(json.dumps([settings, described], sort_keys=True).encode())
    system, root = storage.filesystem(output)
    if system.isfile(root):
        raise InputError(f"{output}: is a file; --output is a folder")
    found = [name[len(root) :].lstrip("/") for name in system.find(root)] if system.exists(root) else []
    visible = sorted(name for name in found if not any(part.startswith(".") for part in name.split("/")))
    own = [name for name in visible if SHARD_NAME.fullmatch(name) or name in {MANIFEST, ERRORS}]
    foreign = [name for name in visible if name not in own]
    if foreign:
        raise InputError(
            f"{output}: holds files that prepare did not write ({', '.join(foreign[:3])}"
            f"{', …' if len(foreign) > 3 else ''}); give --output a folder of its own"
        )
    manifest = _manifest(output)
    same = manifest.get("identity") == identity
    if same and not overwrite and manifest.get("complete") and {*manifest["shards"]} <= {*own}:
        return Claim(output, identity, (), manifest)
    if own and not overwrite and not same:
        raise InputError(
            f"{output}: holds the shards of another prepare ({own[-1]}); add --overwrite to replace them, or "
            "choose another folder"
        )
    storage.check_writable(output)
    return Claim(output, identity, tuple(own))


def begin(claim: Claim) -> None:
    """Say that the folder is unfinished, then remove what an earlier prepare left."""
    _write_manifest(claim, {"complete": False})
    system, root = storage.filesystem(claim.output)
    for name in claim.old:
        if name != MANIFEST:
            system.rm_file(storage.join(root, name))


def write_shard(claim: Claim, index: int, count: int, data: bytes) -> str:
    """Write one shard whole; returns its name."""
    name = shard_name(index, count)
    storage.write_whole(storage.join(claim.output, name), data)
    return name


def finish(claim: Claim, faults: pa.Table, summary: dict[str, Any]) -> None:
    """Write the faults, if any, and then that the folder is complete."""
    if faults.num_rows:
        sink = io.BytesIO()
        pq.write_table(faults, sink, compression="zstd")
        storage.write_whole(storage.join(claim.output, ERRORS), sink.getvalue())
    _write_manifest(claim, {"complete": True, **summary})


def is_unfinished(folder: str) -> bool:
    """Whether a prepare began in this folder and did not end: its shards are not all there yet."""
    system, path = storage.filesystem(folder)
    return bool(system.isdir(path)) and _manifest(folder).get("complete") is False


def _manifest(output: str) -> dict[str, Any]:
    """The manifest, or nothing where there is none that can be read."""
    data = storage.read_bytes(storage.join(output, MANIFEST))
    try:
        manifest = json.loads(data) if data else {}
    except ValueError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def _write_manifest(claim: Claim, content: dict[str, Any]) -> None:
    text = json.dumps({"identity": claim.identity, **content}, indent=2, ensure_ascii=False)
    storage.write_whole(storage.join(claim.output, MANIFEST), text.encode())
