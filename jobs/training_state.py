"""Whether a training is new, unfinished or done: what decided it, written beside its checkpoints and its model."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from operators.errors import InputError

RECORD = "training.json"


def is_finished(output: Path, checkpoints: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether the output holds this very training, finished; else whether it may be written to.

    Raises:
        InputError: the output holds something else and `overwrite` is not set, or the checkpoints are those
            of a training with other settings.
    """
    marked = read_record(checkpoints)
    if marked is not None and marked != settings:
        raise InputError(
            f"{checkpoints}: holds an unfinished training with other settings "
            f"({difference(marked, settings)}); delete it, or go on with the settings it began with"
        )
    for folder in (output, checkpoints):
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, and a folder is to stand there")
    empty = not output.exists() or not any(output.iterdir())
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


def claim(output: Path, checkpoints: Path, settings: Mapping[str, Any]) -> None:
    """Make both folders, and mark the checkpoints as this training's.

    Raises:
        InputError: they cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
        (checkpoints / RECORD).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} or {checkpoints} cannot be written: {error}") from None


def read_record(folder: Path) -> dict[str, Any] | None:
    """What a folder's `training.json` says; None where there is none."""
    try:
        content = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Which settings differ, and how: `name: old there, new now`."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return "; ".join(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in names)
