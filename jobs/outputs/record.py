"""What made an output folder, and whether a job may write there.

Each job has a record of its own in its output (`_run/manifest.json`, `_prepare.json`, `_mine.json`,
`_export/export.json`, `training.json`, `loop.json`) and reads it into a `FolderRecord`. What the record means for the
next run, and the message where it refuses one, is here.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

from pydantic import Field

from ray_rerank.cluster.errors import OutputConflictError
from ray_rerank.cluster.records import DamagedRecordError, brief, read_record
from ray_rerank.cluster.storage import join, names_below, remove
from ray_rerank.jobs.outputs.checks import check_folder
from ray_rerank.operators.candidates.shards import SHARD_NAME

Overwrite = Annotated[
    bool,
    Field(
        description="replace what an earlier run of this job wrote there; an unfinished run with the same settings "
        "resumes, and a folder with other files is refused"
    ),
]
"""The type of every job's `overwrite`."""

_MOST_LINES = 10
_NAMED = 3
_REMEDY = "add --overwrite to replace it, choose another output, or remove this folder"

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class FolderRecord:
    """What made a folder.

    Attributes:
        job: the job's name on the command line.
        settings: all that decides what the folder holds but for the inputs, as plain JSON; None where an older version
            did not record them.
        inputs: what is read, by path or name: what tells one version of it from another.
        identity: a digest of settings and inputs; where it is there, it decides whether two records are the same.
        finished: whether the job came to its end.
    """

    job: str
    settings: Mapping[str, Any] | None
    inputs: Mapping[str, str] = field(default_factory=dict)
    identity: str | None = None
    finished: bool = False


def differences(before: FolderRecord, now: FolderRecord) -> list[str]:
    """What differs between two records of one job, a line each: `name: before -> now`; none where they are the same."""
    if now.identity is not None and before.identity == now.identity:
        return []
    lines: list[str] = []
    if before.settings is not None:
        lines += _setting_differences(before.settings, now.settings)
        lines += _input_differences(before.inputs, now.inputs)
    if before.settings is None or (now.identity is not None and not lines):
        lines = ["settings or inputs; the record does not say which"]
    return lines


def may_resume(folder: str, before: FolderRecord | None, now: FolderRecord, overwrite: bool) -> bool:
    """Whether a folder holds just this run, to be resumed or found finished; else it may be written anew.

    Raises:
        OutputConflictError: it holds the output of another job, or of other settings and `overwrite` is false.
    """
    if before is None:
        return False
    if before.job != now.job:
        raise OutputConflictError(f"{folder}: holds the output of `ray-rerank {before.job}`; choose another output")
    lines = differences(before, now)
    if lines and not overwrite:
        raise conflict(folder, now.job, lines)
    return not lines and not (overwrite and before.finished)


def conflict(folder: str, job: str, lines: Sequence[str]) -> OutputConflictError:
    """The error of a folder that another run of the job made."""
    more = [f"and {len(lines) - _MOST_LINES} more"] if len(lines) > _MOST_LINES else []
    told = "\n  ".join([*lines[:_MOST_LINES], *more])
    return OutputConflictError(
        f"{folder}: holds the output of another `ray-rerank {job}`; what differs (there -> now):\n  {told}\n{_REMEDY}"
    )


def check_known(folder: str, job: str, unknown: Sequence[str]) -> None:
    """Refuse files of which neither the record nor the job's layout says that the job wrote them.

    Raises:
        OutputConflictError: there are any.
    """
    if unknown:
        named = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
        raise OutputConflictError(
            f"{folder}: holds files that {job} did not write ({named}); choose another output, or move them away"
        )


def check_empty(folder: str) -> None:
    """Refuse a folder that holds anything.

    Raises:
        InputError: it cannot be a folder.
        OutputConflictError: there are files.
    """
    check_folder(folder)
    if names := visible_names(folder):
        raise OutputConflictError(f"{folder}: holds files already ({names[0]}); {_REMEDY}")


def load_record(uri: str, kind: type[R], overwrite: bool = False) -> R | None:
    """A job's own record; None where there is none, or where it is damaged and is to be replaced.

    Raises:
        OutputConflictError: it is damaged, and `overwrite` is false.
        StorageError: it cannot be read.
    """
    try:
        return read_record(uri, kind)
    except DamagedRecordError as error:
        if overwrite:
            return None
        raise OutputConflictError(f"{error}; {_REMEDY}") from None


def visible_names(folder: str) -> list[str]:
    """The paths of all files in a folder, relative to it, without hidden ones: a lease, a half-written file."""
    return [name for name in names_below(folder) if not any(part.startswith(".") for part in name.split("/"))]


def files_to_replace(folder: str, job: str, besides: Sequence[str] = ()) -> list[str]:
    """The files of an earlier run of a job, by its layout; data first, records last, as they may be removed.

    Args:
        besides: names of files that may lie in the folder as well; they are not removed.

    Raises:
        OutputConflictError: there are others.
    """
    names = [name for name in visible_names(folder) if name not in besides and not _KEPT.match(name)]
    check_known(folder, job, [name for name in names if not LAYOUTS[job].fullmatch(name)])
    return sorted(names, key=lambda name: (bool(_RECORD.search(name)), name))


def remove_files(folder: str, names: Sequence[str]) -> None:
    """Remove files of a folder, in this order.

    Raises:
        StorageError: one cannot be removed.
    """
    for name in names:
        remove(join(folder, name))


def _setting_differences(before: Any, now: Any, at: str = "") -> Iterator[str]:
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in sorted(before.keys() | now.keys()):
            yield from _setting_differences(before.get(key), now.get(key), f"{at}.{key}" if at else key)
    elif isinstance(before, list) and isinstance(now, list) and len(before) == len(now):
        for index, pair in enumerate(zip(before, now, strict=True)):
            yield from _setting_differences(*pair, f"{at}[{index}]")
    elif before != now:
        yield f"{at}: {brief(json.dumps(before))} -> {brief(json.dumps(now))}"


def _input_differences(before: Mapping[str, str], now: Mapping[str, str]) -> Iterator[str]:
    for path in sorted(before.keys() | now.keys()):
        if path not in now:
            yield f"input {path}: was read and is gone"
        elif path not in before:
            yield f"input {path}: is new"
        elif before[path] != now[path]:
            yield f"input {path}: has changed since"


_UNIT = r"\d{6,}-[0-9a-f]+"
_RUN = (
    rf"part-{_UNIT}\.parquet|_errors/{_UNIT}\.parquet"
    rf"|_run/(manifest\.json|plan\.parquet|report\.json|(done|failed)/{_UNIT}\.json)"
)
_SHARDS = SHARD_NAME.pattern
_PREPARED = rf"{_SHARDS}|_prepare\.json|_errors/prepare\.parquet|_qrels\.txt"
_MINED = rf"{_SHARDS}|_mine\.json|_errors/mine\.parquet"
_MODEL = (
    r"training\.(json|svg)|config\.json|generation_config\.json|[^/]*\.safetensors(\.index\.json)?"
    r"|(tokenizer|tokenizer_config|special_tokens_map|added_tokens|vocab|modules)\.json|chat_template\.jinja"
    r"|(vocab|merges)\.txt|[^/]*\.model"
)
_CHECKPOINTS = (
    r"(training|losses|evaluations)\.json(\.new)?|progress\.txt|(best|last)\.safetensors(\.new)?"
    r"|(start|model|ray|(tmp-)?checkpoint-\d+)/.*"
)
_LOOP = (
    rf"loop\.json|queries\.tsv|qrels\.txt|mined/[^/]+/({_MINED})|labels/({_RUN})|candidates/({_PREPARED})"
    rf"|students/[^/]+\.checkpoints/({_CHECKPOINTS})|students/[^/]+/({_MODEL})"
    rf"|comparison/(comparison\.(json|png|svg)|rankings/[^/]+/({_RUN}))"
)
LAYOUTS = {
    "rerank": re.compile(_RUN),
    "label": re.compile(_RUN),
    "prepare": re.compile(_PREPARED),
    "mine": re.compile(_MINED),
    "train": re.compile(_MODEL),
    "train --checkpoints": re.compile(_CHECKPOINTS),
    "loop": re.compile(_LOOP),
    "cache export": re.compile(r"part-\d{5,}\.parquet"),
}
"""What each job calls the files that it writes, relative to its folder."""

_KEPT = re.compile(r"(mined/[^/]+/)?_mine/|cache/|vectors/")
"""Scores and vectors that are stored by what they are of: other settings use them as well."""

_RECORD = re.compile(r"(^|/)(_run/.*|_\w+\.json|training\.json|loop\.json)$")
