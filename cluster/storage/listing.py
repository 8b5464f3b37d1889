"""Which files there are: listings of folders, globs and single files."""

import glob
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import Any

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage.disk import NO_FILE, files_below, files_matching, is_hidden
from ray_rerank.cluster.storage.paths import fault_of, filesystem
from ray_rerank.cluster.storage.retries import describe
from ray_rerank.cluster.storage.stores import file_version, is_local


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
