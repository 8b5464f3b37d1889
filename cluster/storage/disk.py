"""What lies in folders of this machine's disk, links followed: files, and what is none, with the reason."""

import errno
import glob
import os
import re
import stat
from collections.abc import Iterator

from fsspec.utils import glob_translate

NO_FILE = "is neither a file nor a folder"
_KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}

Seen = tuple[str, os.stat_result | str]
"""A path, and what it leads to, or why that is no file."""

_HIDDEN = ("_", ".")


def is_hidden(below: str) -> bool:
    """Whether a path below a folder is not data, as Parquet readers have it."""
    return any(part.startswith(_HIDDEN) for part in below.strip("/").split("/"))


def files_below(folder: str, hidden: bool, above: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Seen]:
    """All that is no folder below one; what goes away meanwhile is left out.

    Args:
        hidden: also names that begin with `_` or `.`, and what lies in folders named so.
        above: device and number of the folders that this one was reached through.

    Raises:
        OSError: a folder cannot be read.
    """
    own = os.stat(folder)  # noqa: PTH116
    above |= {(own.st_dev, own.st_ino)}
    with os.scandir(folder) as found:
        paths = [entry.path for entry in found if hidden or not entry.name.startswith(_HIDDEN)]
    for path in paths:
        seen = _look(path)
        if isinstance(seen, str) or not stat.S_ISDIR(seen.st_mode):
            if seen:
                yield path, seen
        elif (seen.st_dev, seen.st_ino) in above:
            yield path, f"is a link to a folder that it lies in ({os.path.realpath(path)})"
        else:
            yield from files_below(path, hidden, above)


def files_matching(pattern: str) -> Iterator[Seen]:
    """What a glob matches, and what is not hidden below the folders that it matches.

    Where `**` is in it, links that lead nowhere or round are there whatever they are called.

    Raises:
        OSError: a folder cannot be read.
        ValueError: it is no glob.
    """
    head, recursive, _ = pattern.partition("**")
    wanted = re.compile(glob_translate(pattern)) if recursive else None
    for match in glob.glob(head if recursive else pattern):  # noqa: PTH207
        path = match.rstrip("/") or "/"
        seen = _look(path)
        is_folder = not isinstance(seen, str) and stat.S_ISDIR(seen.st_mode)
        for name, own in files_below(path, False) if is_folder else [(path, seen)]:
            if own and (wanted is None or isinstance(own, str) or wanted.match(name)):
                yield name, own


def fault_at(path: str) -> str | None:
    """What to say of a path that is there, and leads to no file and no folder: a broken link, a pipe."""
    seen = _look(path)
    return seen or None if isinstance(seen, str) else None


def _look(path: str) -> os.stat_result | str:
    """What a path leads to, or why that is nothing; an empty text where there is no such path."""
    try:
        found = os.stat(path)  # noqa: PTH116
    except OSError as error:
        is_gone = error.errno in (errno.ENOENT, errno.ENOTDIR)
        if os.path.islink(path):  # noqa: PTH114
            told = {errno.ELOOP: "leads back to it"}.get(error.errno or 0, f"cannot be reached: {error.strerror}")
            return f"is a link to {os.readlink(path)}, which {'is not there' if is_gone else told}"  # noqa: PTH115
        return "" if is_gone else f"cannot be reached: {error.strerror}"
    kind = _KINDS.get(stat.S_IFMT(found.st_mode))
    return f"{NO_FILE} but {kind}" if kind else found
