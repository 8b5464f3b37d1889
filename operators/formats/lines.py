"""Numbered lines out of a stream of bytes; compression, byte-order mark, CRLF and blank lines are dealt with."""

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import IO, TypeVar

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import DAMAGE, LONGEST, TOO_LONG, unpacked
from ray_rerank.operators.rejects import Reason, Reject, RejectSink

_CHUNK = 1 << 20
_OPENING = 1000  # lines that tell what a file is
_OPENING_SIZE = 16 << 20  # characters of them, at most
_HOPELESS = 10  # so many bad lines before the first good one: the file is of another format
_MARK = b"\xef\xbb\xbf"  # of the byte order: also where files that begin with it were put together
_LONE_RETURN = re.compile(rb"\r(?!\n).")

Line = tuple[int, str]
"""The number of a line in its file, from 1, and its text without the line ending."""

S = TypeVar("S")
T = TypeVar("T")


class Unusable(Exception):
    """A line is not what its format asks for; says what it is instead. Never leaves this package."""

    def __init__(self, detail: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(detail)
        self.reason = reason


class _TooLong(Exception):
    """A line does not end."""


def read_lines(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[Line]:
    """Yield the lines that hold anything; a line ends at \\n or \\r\\n and nowhere else.

    Args:
        stream: seekable bytes, plain or compressed (as `content.unpacked` knows), at its beginning.
        name: what messages call the file.
        rejects: is told of a line that is not UTF-8.

    Raises:
        InputError: the file is of another kind (an archive, Parquet, UTF-16, …), is damaged, its lines end in a
            carriage return alone, most of them are not UTF-8, or one has no end for 32 MiB.
    """
    number = good = bad = 0
    first = ""
    try:
        for number, raw in enumerate(_raw_lines(stream, name), start=1):
            content = raw.removesuffix(b"\r").removeprefix(_MARK)
            if not content or content.isspace():  # ASCII's white space: an id may be a no-break space
                continue
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                rejects.add(Reject(name, number, Reason.NOT_UTF8, f"byte {error.start + 1} of the line"))
                bad += 1
                first = first or f"line {number}, byte {error.start + 1}"
                continue
            good += 1
            yield number, text
    except _TooLong:
        raise InputError(f"{name}, line {number + 1}: {TOO_LONG}") from None
    except DAMAGE as error:
        raise InputError(f"{name}: cannot be read beyond line {number}: {error}") from None
    if bad > good:
        raise InputError(f"{name} is not UTF-8 ({first}; {bad:,} of {bad + good:,} lines are not): save it as UTF-8")


def opening(rows: Iterator[T], size: Callable[[T], int]) -> list[T]:
    """The first 1,000 rows, or fewer where they are long: what tells how a file is to be read."""
    taken: list[T] = []
    total = 0
    for row in islice(rows, _OPENING):
        taken.append(row)
        total += size(row)
        if total > _OPENING_SIZE:
            break
    return taken


def parse_lines(
    lines: Iterable[tuple[int, S]], parse: Callable[[S], T], name: str, form: str, rejects: RejectSink
) -> Iterator[tuple[int, T]]:
    """Parse each line or row; one that `parse` finds Unusable goes to `rejects` and costs itself alone.

    Args:
        form: the format in words, for the message.

    Raises:
        InputError: none of the first ten is of that format, or fewer than half of all are.
    """
    good = bad = 0
    first = ""
    for number, line in lines:
        try:
            value = parse(line)
        except Unusable as unusable:
            if unusable.reason is Reason.MALFORMED:
                bad += 1
                first = first or f"line {number}: {unusable}"
                if not good and bad == _HOPELESS:
                    break
            rejects.add(Reject(name, number, unusable.reason, str(unusable)))
            continue
        good += 1
        yield number, value
    if bad > good:
        others = f"; {bad:,} lines are not, {good:,} are" if good else ""
        raise InputError(f"{name} is not {form}: {first}{others}")


def _raw_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    source = unpacked(stream, name)
    chunk = source.read(_CHUNK)
    if b"\n" not in chunk and _LONE_RETURN.search(chunk):
        raise InputError(f"{name}: its lines end in a carriage return alone; end them in a line feed")
    begun: list[bytes] = []  # of a line that goes on in the next chunk
    held = 0
    while chunk:
        *ends, rest = chunk.split(b"\n")
        if ends:
            yield b"".join([*begun, ends[0]])
            yield from ends[1:]
            begun, held = [], 0
        begun.append(rest)
        held += len(rest)
        if held > LONGEST:
            raise _TooLong
        chunk = source.read(_CHUNK)
    if rest := b"".join(begun):
        yield rest
