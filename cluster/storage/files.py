"""Files by URI, local or remote: list, read, and write so that a file is whole or absent.

Remote storage fails now and then: every call of a filesystem that `filesystem` gives is tried again a few times
while the fault may pass (5xx, throttling, a lost connection, no answer), and at once given up where it will not
(no such bucket, access denied). What is raised then names the URI in one line.
"""

import glob
import io
import os
import posixpath
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from operator import itemgetter
from pathlib import Path
from typing import IO, Any

import fsspec
import xxhash

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage.disk import NO_FILE, fault_at, files_below, files_matching, is_hidden
from ray_rerank.cluster.storage.remote_file import RemoteFile
from ray_rerank.cluster.storage.retries import RetryingFilesystem, UnavailableError, describe
from ray_rerank.cluster.storage.stores import file_version, is_local, store_options, upload_limit, version_time

READ_AHEAD = 2 << 20  # bytes of one request for a part of a remote file
_MANY = 1000  # small files read at once


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as a listing shows it.

    Attributes:
        version: the etag or the modification time, whichever there is.
        fault: why it cannot be read as a file: it is a link that leads nowhere, a pipe, a device.
    """

    path: str
    size: int
    version: str
    fault: str | None = None


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI and the path on it.

    Its calls are tried again while a fault may pass, and raise FileNotFoundError or StorageError, nothing else.
    It forgets earlier listings: other processes write too.

    Raises:
        StorageError: the scheme is unknown, its package is not installed, or URIs are chained.
    """
    if "::" in uri:
        raise StorageError(f"{uri}: names with `::`, which chain URIs (zip::, simplecache::), are not read")
    try:
        system, path = fsspec.core.url_to_fs(uri, **store_options(uri))
        system.invalidate_cache()
        if hasattr(system, "retries"):
            system.retries = 1  # s3fs's would multiply with those that are made here, as botocore's
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"{uri}: no way to reach it: {describe(error)}") from None
    return RetryingFilesystem(system, uri), path


def absolute(uri: str) -> str:
    """A URI that means the same on a worker that runs in another directory."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111


def place(uri: str) -> str:
    """One name of what may be called in several ways: to see whether two paths are the same. Links are followed."""
    system, path = filesystem(uri)
    return os.path.realpath(path) if is_local(system) else uri


def join(uri: str, *names: str) -> str:
    """A path below a URI."""
    return posixpath.join(uri.rstrip("/") or "/", *names)


def list_files(uri: str, suffixes: tuple[str, ...]) -> list[StoredFile]:
    """The files with one of the endings below a folder, or the one file that is meant; sorted by path.

    The URI is literal: `*`, `?` and `[` are characters like others. Links are followed. Below a folder, names that
    begin with `_` or `.`, and everything in folders named so, are left out, as Parquet readers do. Paths come back as
    URIs that `open_read` takes.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    found = _below(system, path) if system.isdir(path) else [_one(system, path, uri)]
    return [_as_given(file, uri) for file in found if file.path.endswith(suffixes)]


def find_files(uri: str) -> list[StoredFile]:
    """All files as `list_files`; where nothing is called so, those that the URI matches as a glob, folders opened.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    if not glob.has_magic(path) or system.exists(path):
        return list_files(uri, ("",))
    root = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
    with _listing(uri):
        found = _matching(system, path)
    shown = {name: file for name, file in found.items() if not is_hidden(name[len(root) :])}
    if not shown:
        raise StorageError(f"{uri}: there is no such file or folder, and nothing that matches it")
    return [_as_given(file, uri) for _, file in sorted(shown.items())]


def names_below(uri: str) -> list[str]:
    """The paths of all files in a folder, relative to it, hidden ones too; none where nothing is there.

    Raises:
        StorageError: they cannot be listed.
    """
    system, path = filesystem(uri)
    if not system.isdir(path):
        return []
    if is_local(system):
        with _listing(uri):
            return sorted(os.path.relpath(name, path) for name, _ in files_below(path, hidden=True))
    return [name[len(path) :].lstrip("/") for name in sorted(system.find(path))]


def stored_file(uri: str) -> StoredFile:
    """One file as it is now.

    Raises:
        StorageError: it is not there.
    """
    system, path = filesystem(uri)
    try:
        info = system.info(path)
    except FileNotFoundError:
        raise StorageError(f"{uri}: {fault_of(uri) or 'there is no such file'}") from None
    return StoredFile(uri, int(info["size"] or 0), file_version(info))


def check_unchanged(file: StoredFile) -> None:
    """See that a file still is what a listing showed. What one of the two listings does not say is not compared.

    Raises:
        StorageError: it is gone, or another by now; the message says what differs.
    """
    now = stored_file(file.path)
    told = [("size", f"{file.size:,} bytes", f"{now.size:,}")] if 0 < file.size != now.size > 0 else []
    before, after = version_time(file.version), version_time(now.version)
    if before and after and before != after:
        told.append(("modification time", before.isoformat(" "), after.isoformat(" ")))
    elif not (before and after) and file.version and now.version and file.version != now.version:
        told.append(("version", file.version, now.version))
    if told:
        differs = "; ".join(f"{what} was {then}, is now {later}" for what, then, later in told)
        raise StorageError(
            f"{file.path}: has changed since the job first looked at it ({differs}); run the job again on "
            "files that stay as they are"
        )


@contextmanager
def unchanged(file: StoredFile) -> Iterator[None]:
    """See before and after a with-block, which reads a file, that it is what a listing showed.

    Raises:
        StorageError: as `check_unchanged`; also in place of what reading a changed file raised.
    """
    check_unchanged(file)
    try:
        yield
    except UnavailableError:
        raise
    except StorageError:
        check_unchanged(file)
        raise
    check_unchanged(file)


def open_read(uri: str) -> IO[bytes]:
    """Open a file for reading, seekable. A remote one is read in parts, and each part is tried again if need be.

    Raises:
        StorageError: it cannot be opened; later reads of a remote file raise it too.
    """
    system, path = filesystem(uri)
    try:
        if is_local(system):
            return system.open(path, "rb")  # type: ignore[no-any-return]
        info = system.info(path)
        if info["type"] == "directory":
            raise StorageError(f"{uri}: cannot be read: it is a folder")
        if info["size"] is None:  # a server that does not say
            return io.BytesIO(system.cat_file(path))
        return io.BufferedReader(RemoteFile(system, path, info["size"]), READ_AHEAD)
    except FileNotFoundError:
        raise StorageError(f"{uri}: cannot be read: {fault_of(uri) or 'there is no such file'}") from None


def read_bytes(uri: str) -> bytes | None:
    """The whole of a small file, or None where there is none."""
    system, path = filesystem(uri)
    try:
        return system.cat_file(path)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def read_folder(uri: str, suffix: str) -> dict[str, bytes]:
    """The contents of the small files directly in a folder by name, the ending left off; none where it is not there.

    Raises:
        StorageError: they cannot be read.
    """
    system, folder = filesystem(uri)
    try:
        paths = [path for path in system.ls(folder, detail=False) if path.endswith(suffix)]
    except FileNotFoundError:
        return {}
    contents: dict[str, bytes] = {}
    for start in range(0, len(paths), _MANY):
        contents |= system.cat_some(paths[start : start + _MANY])
    return {path.rpartition("/")[2].removesuffix(suffix): data for path, data in contents.items()}


def write_whole(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, and a later write replaces it whole.

    Local disk: a temporary file beside it, fsync, rename, fsync of the folder. Elsewhere: one PUT,
    since object stores show an object only when it is complete and have no rename to rely on.

    Raises:
        StorageError: it cannot be written.
    """
    system, path = filesystem(uri)
    if not is_local(system):
        system.pipe_file(path, data, **upload_limit(system, len(data)))
        return
    with writing_whole(uri) as file:
        file.write(data)


@contextmanager
def writing_whole(uri: str) -> Iterator[IO[bytes]]:
    """As `write_whole`, for what is too large for memory: what the with-block writes is put in place at its end.

    Elsewhere than on a local disk it passes through a temporary file here.

    Raises:
        StorageError: it cannot be written; nothing is left where it was to stand.
    """
    system, path = filesystem(uri)
    try:
        if is_local(system):
            with _placing(Path(path)) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                system.put_file(file.name, path)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {describe(error)}") from None


def check_writable(uri: str, called: str = "output") -> None:
    """Fail now, not after hours of work, where a folder cannot be written.

    Args:
        called: what the message calls it.

    Raises:
        StorageError: a probe file could not be written and removed.
    """
    probe = join(uri, f".probe-{uuid.uuid4().hex}")
    try:
        write_whole(probe, b"ray-rerank")
        remove(probe)
    except StorageError as error:
        reason = str(error).removeprefix(f"{probe}: ").removeprefix("cannot be written: ")
        raise type(error)(f"{uri}: the {called} cannot be written: {reason}") from None


def fault_of(uri: str) -> str | None:
    """What to say of a path that is there, and leads to no file and no folder: a broken link, a pipe."""
    system, path = filesystem(uri)
    return fault_at(path) if is_local(system) else None


def fingerprint(data: bytes) -> str:
    """128-bit xxh3 of bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def fingerprint_of(uri: str) -> tuple[int, str]:
    """The size and the fingerprint of a file, which need not fit into memory.

    Raises:
        StorageError: it is not there, or cannot be read.
    """
    told, size = xxhash.xxh3_128(), 0
    try:
        with open_read(uri) as file:
            while piece := file.read(READ_AHEAD):
                told.update(piece)
                size += len(piece)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {describe(error)}") from None
    return size, told.hexdigest()


def remove(uri: str) -> None:
    """Remove a file, if it is there.

    Raises:
        StorageError: it cannot be removed.
    """
    system, path = filesystem(uri)
    with suppress(FileNotFoundError):  # also where it was removed by a try whose answer was lost
        system.rm_file(path)


def _below(system: Any, folder: str) -> list[StoredFile]:
    """What is not hidden below a folder, sorted by path."""
    if is_local(system):
        with _listing(folder):
            return [_on_disk(path, seen) for path, seen in sorted(files_below(folder, hidden=False), key=itemgetter(0))]
    entries = system.find(folder, detail=True)
    return [_entry(system, info) for name, info in sorted(entries.items()) if not is_hidden(name[len(folder) :])]


def _one(system: Any, path: str, uri: str) -> StoredFile:
    try:
        return _entry(system, system.info(path))
    except FileNotFoundError:
        raise StorageError(f"{uri}: {fault_of(uri) or 'there is no such file or folder'}") from None


def _entry(system: Any, info: dict[str, Any]) -> StoredFile:
    path = system.unstrip_protocol(info["name"])
    if info["type"] != "file":
        return StoredFile(path, 0, "", NO_FILE)
    return StoredFile(path, int(info["size"] or 0), file_version(info))


def _on_disk(path: str, seen: os.stat_result | str) -> StoredFile:
    path = f"file://{path}"
    try:
        path.encode()
    except UnicodeEncodeError:
        seen = "has a name that is no UTF-8"
    return (
        StoredFile(path, 0, "", seen) if isinstance(seen, str) else StoredFile(path, seen.st_size, str(seen.st_mtime))
    )


def _matching(system: Any, pattern: str) -> dict[str, StoredFile]:
    """What a glob matches by path, and what lies below the folders that it matches."""
    if is_local(system):
        return {path: _on_disk(path, seen) for path, seen in files_matching(pattern)}
    files: dict[str, StoredFile] = {}
    for name, info in system.glob(pattern, detail=True).items():
        below = system.find(name, detail=True) if info["type"] == "directory" else {name: info}
        files |= {path: _entry(system, own) for path, own in below.items()}
    return files


@contextmanager
def _listing(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise StorageError(f"{uri}: cannot be listed: {describe(error)}") from None


def _as_given(file: StoredFile, uri: str) -> StoredFile:
    """Local paths without `file://`, as people write them."""
    if "://" in uri or not file.path.startswith("file://"):
        return file
    return replace(file, path=file.path.removeprefix("file://"))


@contextmanager
def _placing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
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
