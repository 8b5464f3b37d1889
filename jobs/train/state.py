"""Whether a training is new, unfinished or done: what decided it, written beside its checkpoints and its model."""

import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray_rerank.cluster import storage
from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.lease import held
from ray_rerank.cluster.records import DamagedRecordError, Record, read_record
from ray_rerank.jobs.outputs.checks import check_folder
from ray_rerank.jobs.outputs.record import (
    FolderRecord,
    check_known,
    files_to_replace,
    load_record,
    may_resume,
    remove_files,
    visible_names,
)
from ray_rerank.operators.errors import InputError

RECORD = "training.json"
_TRIES = 5  # to remove a folder in which another thread may just write
_OF_A_MODEL = re.compile(r".*\.safetensors(\.index\.json)?|modules\.json|vocab\.txt|merges\.txt|.*\.model")
"""What another checkpoint may have and the one that takes its place has not; it would be read along with it."""


class Trained(Record):
    """What is read of a finished training's record."""

    settings: dict[str, Any]


def is_finished(output: str, checkpoints: Path, settings: Mapping[str, Any], overwrite: bool) -> bool:
    """Whether the output holds this very training, finished; else whether it may be written to.

    Raises:
        InputError: one of them cannot be a folder.
        OutputConflictError: the output holds something else and `overwrite` is not set, or the checkpoints are those
            of a training with other settings, or not of a training at all, or what says so is damaged.
    """
    for folder in (output, str(checkpoints)):
        check_folder(folder)
    others = _files_of_another(checkpoints, settings, overwrite)
    names = visible_names(output)
    if others is None or not names:
        return False
    record = load_record(storage.join(output, RECORD), Trained, overwrite)
    before = None if record is None else FolderRecord("train", record.settings, finished=True)
    if may_resume(output, before, FolderRecord("train", settings), overwrite):
        _check_weights(storage.join(output, "model.safetensors"))
        return True
    if RECORD not in names and not others:  # no training was or is to be put there
        check_known(output, "train", names)
    files_to_replace(output, "train")
    return False


def _files_of_another(checkpoints: Path, settings: Mapping[str, Any], overwrite: bool) -> list[str] | None:
    """The files of another unfinished training, which have to go; None where the checkpoints are of this one.

    Raises:
        OutputConflictError: there are some and `overwrite` is not set, or there are files of no training.
    """
    folder = str(checkpoints)
    begun, names = load_record(storage.join(folder, RECORD), dict[str, Any], overwrite), visible_names(folder)
    if begun is None and not (overwrite and RECORD in names):
        check_known(folder, "train --checkpoints", names)
        return []
    before = None if begun is None else FolderRecord("train", begun)
    if may_resume(folder, before, FolderRecord("train", settings), overwrite):
        return None
    return files_to_replace(folder, "train --checkpoints")


def _check_weights(uri: str) -> None:
    """See that a safetensors file is as long as its header says."""
    try:
        with storage.open_read(uri) as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(0)
            header = int.from_bytes(file.read(8), "little")
            told = json.loads(file.read(min(header, size)))
            ends = [one["data_offsets"][1] for name, one in told.items() if name != "__metadata__"]
            whole = 8 + header + max(ends) == size
    except UnavailableError:
        raise
    except (StorageError, ValueError, KeyError, TypeError, AttributeError):
        whole = False
    if not whole:
        raise InputError(f"{uri}: the trained weights are gone or damaged; --overwrite trains anew")


@contextmanager
def claimed(output: str, checkpoints: Path, settings: Mapping[str, Any], overwrite: bool = False) -> Iterator[None]:
    """Check that both folders can be written, mark the checkpoints as this training's, and hold them for a with-block.

    Raises:
        OutputConflictError: the checkpoints are another training's by now.
        OutputBusyError: another process holds one of them.
        StorageError: one of them cannot be written.
    """
    storage.check_writable(output)
    storage.check_writable(str(checkpoints), "checkpoints folder")
    with held(str(checkpoints), "train"), held(output, "train"):
        remove_files(str(checkpoints), _files_of_another(checkpoints, settings, overwrite) or [])
        storage.write_whole(str(checkpoints / RECORD), _json(settings))
        yield


def finish(output: str, checkpoints: Path, model: Path, record: Mapping[str, Any]) -> None:
    """Put the files of a folder in the output in place of a model there, the record last; drop the checkpoints.

    Raises:
        StorageError: the output cannot be written, or the checkpoints not removed; the same command does it again.
    """
    system, path = storage.filesystem(output)
    found = system.ls(path, detail=False) if system.exists(path) else []
    files = sorted(model.iterdir())
    kept = {file.name for file in files}
    for old in found:
        name = old.rstrip("/").rpartition("/")[2]
        if name == RECORD or (_OF_A_MODEL.fullmatch(name) and name not in kept):
            system.rm_file(old)
    for file in files:
        with file.open("rb") as content, storage.writing_whole(storage.join(output, file.name)) as target:
            shutil.copyfileobj(content, target)
    storage.write_whole(storage.join(output, RECORD), _json(record))
    for _ in range(_TRIES):  # the lease shows its sign of life there meanwhile
        shutil.rmtree(checkpoints, ignore_errors=True)
        if not checkpoints.exists():
            return
    raise StorageError(f"{checkpoints}: cannot be removed; the model is whole and needs them no longer: remove them")


def started_from(model: str) -> dict[str, Any] | None:
    """What a checkpoint's own `training.json` says; None where there is none, or something else of that name."""
    try:
        return read_record(storage.join(model, RECORD), dict[str, Any])
    except DamagedRecordError:
        return None


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2)}\n".encode()
