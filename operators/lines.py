"""Numbered lines out of a stream of bytes; gzip, byte-order mark, CRLF and blank lines are dealt with."""

import gzip
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import IO, TypeVar

from operators.errors import InputError
from operators.faults import Fault, FaultSink, Reason

_CHUNK = 1 << 20
_HOPELESS = 10  # so many bad lines before the first good one: the file is of another format
_FOREIGN = {
    b"PK\x03\x04": "a ZIP archive: unpack it first",
    b"PAR1": "a Parquet file, where a text file is asked for",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first (gzip is read as it is)",
    b"BZh": "compressed with bzip2: unpack it first (gzip is read as it is)",
    b"\xfd7zXZ": "compressed with xz: unpack it first (gzip is read as it is)",
    b"\xff\xfe": "UTF-16: save it as UTF-8",
    b"\xfe\xff": "UTF-16: save it as UTF-8",
}

Line = tuple[int, str]
"""The number of a line in its file, from 1, and its text without the line ending."""

T = TypeVar("T")


class Unusable(Exception):
    """A line is not what its format asks for; says what it is instead. Never leaves this package."""

    def __init__(self, detail: str, reason: Reason = Reason.MALFORMED) -> None:
        super().__init__(detail)
        self.reason = reason


def read_lines(stream: IO[bytes], name: str, faults: FaultSink) -> Iterator[Line]:
    """Yield the lines that hold anything; a line ends at \\n or \\r\\n and nowhere else.

    Args:
        stream: seekable bytes, gzip or plain, at its beginning.
        name: what messages call the file.
        faults: is told of a line that is not UTF-8.

    Raises:
        InputError: the file is of another kind (ZIP, Parquet, UTF-16, …) or its gzip stream breaks off.
    """
    number = 0
    try:
        for number, raw in enumerate(_raw_lines(stream, name), start=1):
            content = raw[:-1] if raw.endswith(b"\r") else raw
            if number == 1:
                content = content.removeprefix(b"\xef\xbb\xbf")
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                faults.add(Fault(name, number, Reason.NOT_UTF8, f"byte {error.start + 1} of the line"))
                continue
            if text and not text.isspace():
                yield number, text
    except (EOFError, zlib.error, OSError) as error:
        raise InputError(f"{name}: cannot be read beyond line {number}: {error}") from None


def parse_lines(
    lines: Iterable[Line], parse: Callable[[str], T], name: str, form: str, faults: FaultSink
) -> Iterator[tuple[int, T]]:
    """Parse each line; one that `parse` finds Unusable goes to `faults` and costs itself alone.

    Args:
        form: the format in words, for the message.

    Raises:
        InputError: none of the first ten lines, or of all where there are fewer, is of that format.
    """
    good = 0
    bad: list[str] = []
    for number, text in lines:
        try:
            value = parse(text)
        except Unusable as unusable:
            if not good and unusable.reason is Reason.MALFORMED:
                bad.append(f"line {number}: {unusable}")
                if len(bad) == _HOPELESS:
                    break
            faults.add(Fault(name, number, unusable.reason, str(unusable)))
            continue
        good += 1
        yield number, value
    if bad and not good:
        raise InputError(f"{name} is not {form}: {bad[0]}")


def _raw_lines(stream: IO[bytes], name: str) -> Iterator[bytes]:
    opening = stream.read(8)
    stream.seek(0)
    for magic, what in _FOREIGN.items():
        if opening.startswith(magic):
            raise InputError(f"{name} is {what}")
    source: IO[bytes] = stream
    if opening.startswith(b"\x1f\x8b"):
        source = gzip.GzipFile(fileobj=stream)  # type: ignore[assignment]
    rest = b""
    while chunk := source.read(_CHUNK):
        pieces = (rest + chunk).split(b"\n")
        rest = pieces.pop()
        yield from pieces
    if rest:
        yield rest
