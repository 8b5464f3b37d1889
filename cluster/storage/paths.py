"""URIs and paths, and the filesystem behind each."""

import os
import posixpath
from typing import Any

import fsspec

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage.disk import fault_at
from ray_rerank.cluster.storage.retries import RetryingFilesystem, describe
from ray_rerank.cluster.storage.stores import is_local, store_options


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


def fault_of(uri: str) -> str | None:
    """What to say of a path that is there, and leads to no file and no folder: a broken link, a pipe."""
    system, path = filesystem(uri)
    return fault_at(path) if is_local(system) else None
