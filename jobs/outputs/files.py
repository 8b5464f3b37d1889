"""The single files that a job writes where its user says: a path, a URI, or `-` for standard output.

A link is followed and its target replaced whole. A pipe that is read, a terminal, `/dev/null` and an open descriptor
such as `/dev/stdout` are written to as it comes.
"""

import errno
import fcntl
import json
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout
from itertools import combinations
from pathlib import Path
from time import monotonic, sleep
from typing import IO, Annotated, Any, get_args

from pydantic import BaseModel, BeforeValidator

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage import check_writable, fault_of, filesystem, place, writing_whole
from ray_rerank.cluster.storage.disk import NO_FILE, fault_at
from ray_rerank.jobs.config import JobConfig
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.location import Location

STDOUT = "-"
_STDOUT = 1
_READER_S = 5  # as the shell starts both ends of a pipe at once, its reader may come second
_LINKS = 40  # as many in a row as the system follows
_MADE = {"--output", "--cache", "--vectors", "--checkpoints"}  # folders
_pipes: dict[str, int] = {}  # those that are opened, by path: to close one tells its reader that this was all


class _Written:
    """Marks the fields that name a file to be written."""


OutputFile = Annotated[Location, _Written()]


def _path_of_json(value: Any) -> Any:
    """In a job file `json: true` is standard output."""
    return STDOUT if value is True else None if value is False else value


JsonFile = Annotated[OutputFile | None, BeforeValidator(_path_of_json)]
"""The type of every `--json`: a file, or standard output where no value follows the flag."""


def check_kinds(config: JobConfig) -> None:
    """See that nothing that a config names, nested or not, is a pipe, a socket or a device: such have no end.

    Files to be written may be pipes and more, see `check_output_files`.

    Raises:
        InputError: one is.
    """
    for name, path, is_written in _locations(config):
        fault = None if is_written else fault_at(os.path.expanduser(path.removeprefix("file://")))  # noqa: PTH111
        if fault and fault.startswith(NO_FILE):
            remedy = "name a folder" if name in _MADE else "copy its content into a file and name that"
            raise InputError(f"{name}: {path} {fault}; {remedy}")


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
        with open(_pipes.pop(str(target), target), "wb", closefd=isinstance(target, str)) as file:
            yield file
    except BrokenPipeError:
        raise ReadEnough from None
    except OSError as error:
        raise StorageError(f"{path}: cannot be written: {error.strerror}") from None


def write_file(path: str, data: bytes) -> None:
    """Write a file at once, as `writing_file` does."""
    with writing_file(path) as file:
        file.write(data)


def write_json(path: str, content: Any) -> None:
    """Write JSON to a file at once, as `writing_file` does."""
    write_file(path, (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode())


def is_stream(path: str) -> bool:
    """Whether it is written to as it comes, and cannot be read again."""
    target = _target(path)
    if isinstance(target, int):
        return True
    mode = Path(target).stat().st_mode if Path(target).exists() else 0
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISBLK(mode)


def printing_beside(config: JobConfig) -> "redirect_stdout[IO[str]] | nullcontext[None]":
    """Print to standard error for the length of a with-block where a file of the config is standard output."""
    taken = _STDOUT in map(_target, named_files(config)[0].values())
    return redirect_stdout(sys.stderr) if taken else nullcontext()


def named_files(config: JobConfig) -> tuple[dict[str, str], dict[str, str]]:
    """By flag the files of a config that are written, and all else that it says lies somewhere."""
    written: dict[str, str] = {}
    read: dict[str, str] = {}
    for name, path, is_written in _locations(config):
        (written if is_written else read)[name] = path
    return written, read


def _locations(config: BaseModel, above: str = "") -> Iterator[tuple[str, str, bool]]:
    """The flag or the dotted name of everything that a config says lies somewhere, the path, and if it is written."""
    for name, field in type(config).model_fields.items():
        called = f"{above}{name}" if above else f"--{(field.alias or name).replace('_', '-')}"
        marks = _marks(field.annotation, *field.metadata)
        located = any(mark in marks for mark in get_args(Location)[1:])
        value = getattr(config, name)
        for at, own in enumerate(value if isinstance(value, tuple) else (value,)):
            place = f"{called.removeprefix('--')}[{at}]" if isinstance(value, tuple) else called
            if isinstance(own, BaseModel):
                yield from _locations(own, f"{place.removeprefix('--')}.")
            elif located and isinstance(own, str):
                yield place, own, any(isinstance(mark, _Written) for mark in marks)


def _marks(annotation: Any, *own: Any) -> list[Any]:
    """All that is annotated to a type and those in it."""
    return [*own, *getattr(annotation, "__metadata__", ()), *(m for kind in get_args(annotation) for m in _marks(kind))]


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
        _check_stream(target, path, flag)
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


def _check_stream(target: str, path: str, flag: str) -> None:
    """Only what is read: to open a pipe that is not is to wait, and a device may take nothing, or be a disk."""
    if Path(target).is_fifo():
        until = monotonic() + _READER_S
        while target not in _pipes:
            try:
                _pipes[target] = os.open(target, os.O_WRONLY | os.O_NONBLOCK)
            except OSError as error:
                if error.errno == errno.ENXIO and monotonic() < until:
                    sleep(0.05)
                    continue
                reason = "is a pipe that nobody reads" if error.errno == errno.ENXIO else f"is a pipe: {error.strerror}"
                raise InputError(f"{path}: {reason}; start its reader first, or name a file for {flag}") from None
        os.set_blocking(_pipes[target], True)
    elif Path(target).stat().st_rdev != Path(os.devnull).stat().st_rdev and not _is_terminal(target):
        raise InputError(f"{path}: is a device; {flag} is a file")


def _is_terminal(path: str) -> bool:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return False
    try:
        return os.isatty(handle)
    finally:
        os.close(handle)


def _target(path: str) -> str | int:
    """What is really written: a URI, the path at the end of all links, or the number of an open descriptor."""
    if path == STDOUT:
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
