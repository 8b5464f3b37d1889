"""Models at URIs, each copied once to this machine's disk."""

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import fsspec
import xxhash
from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem

from operators.errors import ModelError


def fetched(uri: str, endings: tuple[str, ...]) -> Path:
    """The files of a folder with one of the endings, on this machine's disk.

    They lie in `ray-rerank/models` below `$XDG_CACHE_HOME`, or `~/.cache`, in a folder named by the URI and by what the
    storage tells of each file: a model that is replaced is fetched again. Processes of one machine wait for the one
    that fetches.

    Args:
        uri: of a folder, such as `s3://bucket/models/minilm`.

    Raises:
        ModelError: it cannot be read, or holds no such file.
    """
    parts = urlsplit(uri)
    if parts.password:
        shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        raise ModelError(f"{shown}: carries a password; put it where the storage's own tools look for it")
    try:
        system, root = fsspec.core.url_to_fs(uri)
        system.invalidate_cache()
        files = {path: system.ukey(path) for path in sorted(system.find(root)) if path.endswith(endings)}
        if not files:
            raise ModelError(f"{uri}: there is no such folder, or it holds no file of a model")
        return Path(root) if isinstance(system, LocalFileSystem) else _copied(system, root, files, uri)
    except (OSError, ValueError, ImportError) as error:
        raise ModelError(f"{uri}: cannot be fetched: {_reason(error)}") from None


def _copied(system: Any, root: str, files: dict[str, str], uri: str) -> Path:
    key = xxhash.xxh3_64_hexdigest(f"{uri} {files}".encode())
    models = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ray-rerank" / "models"
    place = models / f"{PurePosixPath(root).name}-{key}"
    models.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place}.lock"):
        if not place.is_dir():
            with tempfile.TemporaryDirectory(dir=models, prefix=".fetching-") as fresh:
                whole = Path(fresh) / place.name
                for path in files:
                    target = whole / PurePosixPath(path).relative_to(PurePosixPath(root))
                    target.parent.mkdir(parents=True, exist_ok=True)
                    system.get_file(path, str(target))
                whole.rename(place)
    return place


def _reason(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
