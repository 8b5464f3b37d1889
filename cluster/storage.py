"""Files by URI, local or remote: list, read, and write so that a file is whole or absent."""

import os
import posixpath
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import fsspec
import xxhash

from cluster.errors import StorageError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as a listing shows it: `version` is the etag or the modification time, whichever there is."""

    path: str
    size: int
    version: str


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI and the path on it.

    Raises:
        StorageError: the scheme is unknown or its package is not installed.
    """
    try:
        system, path = fsspec.core.url_to_fs(uri)
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"{uri}: no way to reach it: {error}") from None
    return system, path


def absolute(uri: str) -> str:
    """A URI that means the same on a worker that runs in another directory."""
    return uri if "://" in uri or "::" in uri else os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111


def join(uri: str, *names: str) -> str:
    """A path below a URI."""
    return posixpath.join(uri.rstrip("/") or "/", *names)


def list_files(uri: str, suffixes: tuple[str, ...]) -> list[StoredFile]:
    """The files with one of the endings at a URI: itself, below a folder, or by a glob; sorted by path.

    Names that begin with `_` or `.`, and everything in folders named so, are left out, as Parquet
    readers do. Paths come back as URIs that `open_read` takes.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    try:
        if any(sign in path for sign in "*?["):
            entries = system.glob(path, detail=True)
            root = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
        elif system.isdir(path):
            entries = system.find(path, detail=True)
            root = path
        elif system.exists(path):
            entries = {path: system.info(path)}
            root = posixpath.dirname(path)
        else:
            raise StorageError(f"{uri}: there is no such file or folder")
    except OSError as error:
        raise StorageError(f"{uri}: cannot be listed: {error}") from None
    found = []
    for name, info in sorted(entries.items()):
        below = name[len(root) :].lstrip("/")
        hidden = any(part.startswith(("_", ".")) for part in below.split("/"))
        if info["type"] == "file" and name.endswith(suffixes) and not hidden:
            found.append(StoredFile(system.unstrip_protocol(name), int(info["size"] or 0), _version(info)))
    return [_as_given(file, uri) for file in found]


def open_read(uri: str) -> IO[bytes]:
    """Open a file for reading, seekable.

    Raises:
        StorageError: it cannot be opened.
    """
    system, path = filesystem(uri)
    try:
        return system.open(path, "rb")  # type: ignore[no-any-return]
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {error}") from None


def read_bytes(uri: str) -> bytes | None:
    """The whole of a small file, or None where there is none."""
    system, path = filesystem(uri)
    try:
        return system.cat_file(path)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {error}") from None


def write_whole(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, and a later write replaces it whole.

    Local disk: a temporary file beside it, fsync, rename, fsync of the folder. Elsewhere: one PUT,
    since object stores show an object only when it is complete and have no rename to rely on.

    Raises:
        StorageError: it cannot be written.
    """
    system, path = filesystem(uri)
    try:
        if _is_local(system):
            _write_local(Path(path), data)
        else:
            system.pipe_file(path, data)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {error}") from None


def check_writable(uri: str) -> None:
    """Fail now, not after hours of work, where an output cannot be written.

    Raises:
        StorageError: a probe file could not be written and removed.
    """
    probe = join(uri, f".probe-{uuid.uuid4().hex}")
    system, path = filesystem(probe)
    try:
        write_whole(probe, b"ray-rerank")
        system.rm_file(path)
    except (OSError, StorageError) as error:
        raise StorageError(f"{uri}: the output cannot be written: {error}") from None


def fingerprint(data: bytes) -> str:
    """128-bit xxh3 of bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def _as_given(file: StoredFile, uri: str) -> StoredFile:
    """Local paths without `file://`, as people write them."""
    if "://" in uri or not file.path.startswith("file://"):
        return file
    return StoredFile(file.path.removeprefix("file://"), file.size, file.version)


def _version(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


def _is_local(system: Any) -> bool:
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))


def _write_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
