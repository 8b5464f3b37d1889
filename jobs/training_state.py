"""Whether a training is new, unfinished or done: what decided it, written beside its checkpoints and its model."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster import storage
from jobs.folders import check_folder
from operators.errors import InputError

RECORD = "training.json"


def is_finished(output: str, checkpoints: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether the output holds this very training, finished; else whether it may be written to.

    Raises:
        InputError: the output holds something else and `overwrite` is not set, or the checkpoints are those
            of a training with other settings.
    """
    for folder in (output, str(checkpoints)):
        check_folder(folder)
    marked = read_record(str(checkpoints))
    if marked is not None and marked != settings:
        raise InputError(
            f"{checkpoints}: holds an unfinished training with other settings "
            f"({difference(marked, settings)}); delete it, or go on with the settings it began with"
        )
    system, path = storage.filesystem(output)
    empty = not system.exists(path) or not system.ls(path, detail=False)
    if empty or marked is not None or overwrite:
        return False
    record = read_record(output)
    if record is None:
        raise InputError(f"{output}: holds no finished training; name another output, or --overwrite")
    if record.get("settings") == settings:
        return True
    raise InputError(
        f"{output}: holds a model trained otherwise "
        f"({difference(record.get('settings') or {}, settings)}); name another output, or --overwrite"
    )


def claim(output: str, checkpoints: Path, settings: Mapping[str, Any]) -> None:
    """See that both folders can be written, and mark the checkpoints as this training's.

    Raises:
        StorageError: one cannot be written.
    """
    storage.check_writable(output)
    storage.write_whole(str(checkpoints / RECORD), _json(settings))


def finish(output: str, checkpoints: Path, model: Path, record: Mapping[str, Any]) -> None:
    """Put the files of a folder in the output, the record last, and drop the checkpoints.

    Raises:
        StorageError: the output cannot be written; the same command does it again.
    """
    system, path = storage.filesystem(storage.join(output, RECORD))
    if system.exists(path):
        system.rm_file(path)
    for file in sorted(model.iterdir()):
        with file.open("rb") as content, storage.writing_whole(storage.join(output, file.name)) as target:
            shutil.copyfileobj(content, target)
    storage.write_whole(storage.join(output, RECORD), _json(record))
    shutil.rmtree(checkpoints)


def read_record(folder: str) -> dict[str, Any] | None:
    """What a folder's `training.json` says; None where there is none."""
    data = storage.read_bytes(storage.join(folder, RECORD))
    try:
        content = json.loads(data) if data else None
    except ValueError:
        return None
    return content if isinstance(content, dict) else None


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2)}\n".encode()


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which settings differ, and how: `name: old there, new now`."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return "; ".join(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in names)
