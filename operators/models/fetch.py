"""Models at URIs, each copied once to this machine's disk."""

import os
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

import fsspec
import xxhash
from filelock import FileLock
from fsspec.implementations.local import LocalFileSystem

from ray_rerank.operators.errors import ModelError, reason_of


def fetched(uri: str, endings: tuple[str, ...]) -> Path:
    """The files of a folder with one of the endings, on this machine's disk.

    They lie in `ray-rerank/models` below `$XDG_CACHE_HOME`, or `~/.cache`, in a folder named by the place and by what
    the storage tells of each file: a model that is replaced is fetched again. Processes of one machine wait for the
    one that fetches.

    Args:
        uri: of a folder, such as `s3://bucket/models/minilm`.

    Raises:
        ModelError: it cannot be read, or holds no safetensors.
    """
    try:
        system, root = fsspec.core.url_to_fs(uri, **_options(uri))
        system.invalidate_cache()
        if isinstance(system, LocalFileSystem) and Path(root).is_dir():  # what it holds is seen where it is read
            return Path(root)
        found = sorted(system.find(root))
        _check(uri, root, found)
        return _copied(system, root.rstrip("/"), [path for path in found if path.endswith(endings)])
    except ModelError:
        raise
    except Exception as error:  # stores, their clients and the network each raise their own
        raise ModelError(f"{uri}: cannot be fetched: {reason_of(error)}") from None


def _options(uri: str) -> dict[str, Any]:
    """Some S3 stores send the whole object's checksum with a part of it."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    own = fsspec.config.conf.get("s3", {}).get("config_kwargs", {})
    return {"config_kwargs": {"response_checksum_validation": "when_required"} | own}


def _check(uri: str, root: str, found: list[str]) -> None:
    if not found:
        raise ModelError(f"{uri}: there is no such folder")
    if found == [root.rstrip("/")]:
        raise ModelError(f"{uri}: is a file; a model is a folder with its weights, config and tokenizer")
    if not any(path.endswith(".safetensors") for path in found):
        raise ModelError(f"{uri}: holds no *.safetensors{format_hint(found)}")


def _copied(system: Any, root: str, files: list[str]) -> Path:
    key = xxhash.xxh3_64_hexdigest(repr([(path, system.ukey(path)) for path in files]).encode())
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


def format_hint(names: list[str]) -> str:
    """What to add where weights are there, and not as safetensors."""
    beside = sorted({PurePosixPath(name).name for name in names})
    pickled = [name for name in beside if name.endswith((".bin", ".pt", ".pth", ".ckpt"))]
    if pickled:
        return f"; {', '.join(pickled[:3])} is pickle and not read, convert it to safetensors"
    others = [name for name in beside if name.endswith((".gguf", ".ggml", ".onnx", ".h5", ".msgpack", ".tflite"))]
    told = f"; {', '.join(others[:3])} is of another format and not read, use the checkpoint that it was made from"
    return told if others else ""
