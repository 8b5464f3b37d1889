"""Whether the folders that a job is given can be used together: seen before any work starts."""

import itertools
import tempfile
from pathlib import Path

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage import absolute, check_writable, fault_of, filesystem, place
from ray_rerank.operators.errors import InputError


def check_apart(**folders: str | None) -> None:
    """See that no folder lies in another, where its files would be taken for the other's.

    Raises:
        InputError: one does.
    """
    given = [(name, uri, place(uri).rstrip("/") + "/") for name, uri in folders.items() if uri]
    for (name, uri, path), (other, other_uri, other_path) in itertools.permutations(given, 2):
        if path.startswith(other_path):
            raise InputError(f"{uri}: the {name} lies in the {other} {other_uri}; use a folder beside it")


def check_folder(uri: str) -> None:
    """See that this can be a folder that other processes read.

    Raises:
        InputError: it is a file, a link that leads nowhere, or in this process's memory.
    """
    if uri.startswith("memory:"):
        raise InputError(f"{uri}: no other process sees what is written there; use a folder or an object store")
    system, path = filesystem(uri)
    if system.isfile(path):
        raise InputError(f"{uri}: is a file; a folder is needed here")
    if fault := fault_of(uri):
        raise InputError(f"{uri}: {fault}; a folder is needed here")


def contents(folder: str) -> list[str]:
    """What lies directly in a folder; names that begin with a dot are not content, but a lease or a half-made file."""
    system, path = filesystem(folder)
    found = system.ls(path, detail=False) if system.exists(path) else []
    return [name for name in found if not name.rstrip("/").rpartition("/")[2].startswith(".")]


def check_empty(folder: str) -> None:
    """See that nothing is there yet.

    Raises:
        InputError: something is.
    """
    check_folder(folder)
    if found := contents(folder):
        raise InputError(f"{folder}: holds files already ({found[0]}); use an empty folder")


def check_output(output: str, cache: str | None = None, *, leave_no_trace: bool = False) -> None:
    """See that workers can write the output, and read the cache; print a note where they cannot write it.

    Args:
        leave_no_trace: make no folder and no file; whether a store can be written is then not known.

    Raises:
        InputError: one cannot be a folder that other processes read.
        StorageError: the output cannot be written, or the cache neither written nor read.
    """
    for uri in filter(None, (output, cache)):
        check_folder(uri)
    check = _check_traceless if leave_no_trace else check_writable
    check(absolute(output), "output")
    if cache is None:
        return
    try:
        check(absolute(cache), "cache")
    except StorageError as error:
        system, path = filesystem(absolute(cache))
        if not system.isdir(path):
            raise
        system.ls(path, detail=False)
        print(f"note: {error}; scores are taken from it and none are added")


def _check_traceless(path: str, called: str) -> None:
    """As `check_writable`, by a file without a name in the folder, or in the one that it would be made in."""
    if "://" in path:
        return
    there = next(folder for folder in (Path(path), *Path(path).parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StorageError(f"{path}: the {called} cannot be written: {there}: {error.strerror}") from None
