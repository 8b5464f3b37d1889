"""The single files that a job writes where its user says: a path, a URI, or `-` for standard output.

A link is followed and its target replaced whole. What is no file (a pipe, a device, an open descriptor such as
`/dev/stdout`) is written to as it comes.
"""

import fcntl
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from itertools import combinations
from pathlib import Path
from typing import IO, Annotated, get_args

from cluster.errors import StorageError
from cluster.storage import check_writable, fault_of, filesystem, place, writing_whole
from jobs.config import JobConfig
from operators.errors import InputError
from operators.location import Location

_STDOUT = 1
_LINKS = 40  # as many in a row as the system follows


class _Written:
    """Marks the fields that name a file to be written."""


OutputFile = Annotated[Location, _Written()]


class ReadEnough(Exception):
    """Who reads a stream that is written has gone: the end of the job, and no fault."""


def check_output_files(config: JobConfig, made: str | None = None) -> None:
    """See before any work that all files that a config names can be written, and that each is a file of its own.

    Args:
        made: a folder that the job makes; files may lie in it.

    Raises:
        InputError: one is a folder, lies in none, is named twice, or is also read.
        StorageError: one cannot be written.
    """
    written, read = named_files(config)
    for flag, path in written.items():
        _check(path, flag, made)
    for (one, path), (other, same) in combinations((read | written).items(), 2):
        if other in written and _target(path) == _target(same) and _target(same) != os.devnull:
            raise InputError(f"{path}: {one} and {other} are one file; each needs a file of its own")


@contextmanager
def writing_file(path: str) -> Iterator[IO[bytes]]:
    """Write a file for the length of a with-block.

    Raises:
        StorageError: it cannot be written; a file is then left as it was.
    """
    target = _target(path)
    if isinstance(target, str) and not is_stream(path):
        with writing_whole(target) as file:
            yield file
        return
    sys.stdout.flush()
    try:
        with open(target, "wb", closefd=isinstance(target, str)) as file:
            yield file
    except BrokenPipeError:
        raise ReadEnough from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None


def write_file(path: str, data: bytes) -> None:
    """Write a file at once, as `writing_file` does."""
    with writing_file(path) as file:
        file.write(data)


def is_stream(path: str) -> bool:
    """Whether it is written to as it comes, and cannot be read again."""
    target = _target(path)
    if isinstance(target, int):
        return True
    mode = Path(target).stat().st_mode if Path(target).exists() else 0
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode)


def printing_beside(config: JobConfig) -> "redirect_stdout[IO[str]] | nullcontext[None]":
    """Print to standard error for the length of a with-block where a file of the config is standard output."""
    taken = _STDOUT in map(_target, named_files(config)[0].values())
    return redirect_stdout(sys.stderr) if taken else nullcontext()


def named_files(config: JobConfig) -> tuple[dict[str, str], dict[str, str]]:
    """By flag the files of a config that are written, and all else that it says lies somewhere."""
    written: dict[str, str] = {}
    read: dict[str, str] = {}
    for name, field in type(config).model_fields.items():
        marks = [*field.metadata, *(mark for own in get_args(field.annotation) for mark in get_args(own)[1:])]
        path = getattr(config, name)
        if isinstance(path, str) and any(mark in marks for mark in get_args(Location)[1:]):
            found = written if any(isinstance(mark, _Written) for mark in marks) else read
            found[f"--{(field.alias or name).replace('_', '-')}"] = path
    return written, read


def _check(path: str, flag: str, made: str | None) -> None:
    target = _target(path)
    if isinstance(target, int):
        try:
            mode = fcntl.fcntl(target, fcntl.F_GETFL) & os.O_ACCMODE
        except OSError:
            mode = os.O_RDONLY
        if mode == os.O_RDONLY:
            raise InputError(f"{path}: is not open; {flag} is a file, or `-` for standard output")
        return
    if is_stream(path):
        return
    system, at = filesystem(target)
    if path.endswith("/") or system.isdir(at):
        raise InputError(f"{path}: is a folder; {flag} is a file")
    if fault := fault_of(target):
        raise InputError(f"{path}: {fault}; {flag} is a file")
    folder = target.rpartition("/")[0] or "/"
    if made and Path(folder).is_relative_to(place(made)):
        return
    if "://" not in folder and not Path(folder).is_dir():
        raise InputError(f"{path}: there is no folder {folder}; make it, or name another file for {flag}")
    check_writable(folder, f"folder of {flag}")


def _target(path: str) -> str | int:
    """What is really written: a URI, the path at the end of all links, or the number of an open descriptor."""
    if path == "-":
        return _STDOUT
    number = _descriptor(Path(path)) if "://" not in path else None
    return place(path) if number is None else number


def _descriptor(path: Path) -> int | None:
    """The number of the open descriptor that `/dev/stdout` and its like stand for."""
    for _ in range(_LINKS):
        if path.name.isdecimal() and path.parent.resolve() == Path("/proc/self/fd").resolve():
            return int(path.name)
        if not path.is_symlink():
            break
        path = path.parent / path.readlink()
    return None
