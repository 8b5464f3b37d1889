"""Tables in text files: TSV whose lines are what they are, TSV that is quoted as CSV is, and CSV."""

import csv
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import IO

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import DAMAGE, LONGEST, SAMPLE, TOO_LONG, bare_name, beginning, whole_text
from ray_rerank.operators.formats.lines import read_lines
from ray_rerank.operators.rejects import RejectSink

_FIELD = re.compile(r'(?:"(?P<quoted>[^"]*(?:""[^"]*)*)"|(?P<bare>[^"\t\n]*))(?P<end>\t|\r?\n|\r?\Z)')
_OPEN = re.compile(r'"[^"]*(?:""[^"]*)*\Z')
_MOST_COLUMNS = 10_000
_ENOUGH = 10  # rows: so many texts that all are in quotation marks are quoted
_WAY_OUT = "write it as JSONL, or as CSV with a header under a name that ends in .csv"

Row = tuple[int, list[str]]
"""The number of the line on which a row begins, and its fields."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of fields.

    Attributes:
        quoted: a tab or a line end may be part of a field; where they are not, a tab ends a field wherever it stands.
        headed: the first row must name the columns: what separates CSV's, a comma or not, is else a guess.
    """

    rows: Iterator[Row]
    quoted: bool
    headed: bool = False


def read_table(stream: IO[bytes], name: str, rejects: RejectSink) -> Table:
    """Read CSV by its name, else TSV: as quoted, as CSV is, where its first MiB is written so, else as it stands.

    Args:
        stream: seekable, at its beginning; plain or compressed.

    Raises:
        InputError: the file is of another kind, or it cannot be told whether quotation marks belong to the texts;
            while rows are read, also where quoting begins or breaks off later.
    """
    if bare_name(name).endswith(".csv"):
        return Table(_quoted_rows(stream, name, ","), True, headed=True)
    start = beginning(stream, name)
    quoted = _quoting(start.decode("utf-8", "replace"), name, whole=len(start) < SAMPLE)
    if quoted:
        return Table(_quoted_rows(stream, name, "\t"), True)
    return Table(_plain_rows(stream, name, rejects, settled=quoted is False), False)


def row_size(row: Row) -> int:
    """How many characters a row has."""
    return sum(map(len, row[1]))


def check_headless(first: Row, known: Collection[str], asked: str, name: str) -> None:
    """Refuse a first row that is a header, but not one that is understood: it would be read as data.

    Args:
        known: names of columns, in lower case; data do not begin with one.
        asked: what a header has to name, for the message.

    Raises:
        InputError: it begins with one of the names.
    """
    line, fields = first
    if fields[0].strip(' "#').lower() in known:
        raise InputError(
            f"{name}, line {line}: {', '.join(fields)[:80]!r} seems to name the columns; known are {asked}; name them "
            "so, or put such a header before the line where it is data"
        )


def _plain_rows(stream: IO[bytes], name: str, rejects: RejectSink, settled: bool) -> Iterator[Row]:
    for number, text in read_lines(stream, name, rejects):
        if "\r" in text and all("\t" in piece for piece in text.split("\r")):
            raise InputError(
                f"{name}, line {number}: rows seem to end in a carriage return alone; end them in a line feed, "
                "or write the file as JSONL"
            )
        if not settled and '"' in text:
            seen = _marks(text)
            if seen.demanded or seen.unclosed:
                raise InputError(
                    f"{name}, line {number}: a field is quoted as in CSV, and none before it is; {_WAY_OUT}"
                )
            settled = seen.loose
        if text.count("\t") >= _MOST_COLUMNS:
            raise InputError(f"{name}, line {number}: has more than {_MOST_COLUMNS:,} columns")
        yield number, text.split("\t")


def _quoted_rows(stream: IO[bytes], name: str, delimiter: str) -> Iterator[Row]:
    csv.field_size_limit(LONGEST)
    line = held = 0

    def lines(text: IO[str]) -> Iterator[str]:
        nonlocal held
        while piece := text.readline(LONGEST):
            held += len(piece)
            if held > LONGEST:
                raise csv.Error(f"a row {TOO_LONG}")
            yield piece

    try:
        reader = csv.reader(lines(whole_text(stream, name)), delimiter=delimiter, strict=True)
        for fields in reader:
            held = 0
            if len(fields) > _MOST_COLUMNS:
                raise csv.Error(f"a row has more than {_MOST_COLUMNS:,} columns")
            if any(field and not field.isspace() for field in fields):
                yield line + 1, fields
            line = reader.line_num
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: is quoted as CSV is, and is not UTF-8 beyond line {line}: {error}") from None
    except (csv.Error, *DAMAGE) as error:
        told = str(error).partition(" - ")[0]  # what follows is advice to programmers
        raise InputError(f"{name}: is quoted as CSV is, and cannot be read beyond line {line}: {told}") from None


@dataclass(slots=True)
class _Marks:
    """What a stretch of TSV shows of quotation marks.

    Attributes:
        loose: one stands where no CSV writer puts it: such a file is not quoted.
        unclosed: the last field opens a quotation and does not close it.
        demanded: a field is quoted as its content demands (a tab, a line end, a quotation mark), or is an id.
        spanning: one has a tab in an id or behind a line end: rows, it may be, between two marks of their own.
        bare: fields with letters that are not quoted, but for ids and the first row, which may be a header.
    """

    loose: bool = False
    unclosed: bool = False
    demanded: bool = False
    spanning: bool = False
    ids: int = 0  # that are quoted
    bare: int = 0
    rows: int = 0
    quoted: int = 0
    commas: tuple[int, int] = (0, 0)  # in quoted fields, in others


def _marks(text: str) -> _Marks:
    seen, position, first = _Marks(), 0, True
    while position < len(text):
        field = _FIELD.match(text, position)
        if field is None:
            seen.unclosed = bool(_OPEN.match(text, position))
            seen.loose = not seen.unclosed
            break
        quoted, bare = field["quoted"], field["bare"]
        if quoted is not None:
            seen.quoted += 1
            spanning = "\t" in (quoted if first else quoted.partition("\n")[2])
            seen.spanning |= spanning
            seen.ids += first
            seen.demanded |= not spanning and (first or any(sign in quoted for sign in '\t\n\r"'))
            seen.commas = (seen.commas[0] + ("," in quoted), seen.commas[1])
        else:
            seen.bare += bool(seen.rows and not first and any(map(str.isalpha, bare)))
            seen.commas = (seen.commas[0], seen.commas[1] + ("," in bare))
        first = field["end"] != "\t"
        seen.rows += first
        position = field.end()
    return seen


def _quoting(sample: str, name: str, whole: bool) -> bool | None:
    """Whether TSV is quoted as CSV is; None where nothing speaks for it or against it.

    Raises:
        InputError: there are quotation marks around fields, and they may belong to the texts or not.
    """
    if '"' not in sample:
        return None
    seen = _marks(sample)
    if seen.loose or (seen.unclosed and whole and not seen.demanded):
        return False
    every = seen.quoted and not seen.bare
    spanning = seen.spanning and seen.ids < seen.rows
    if not spanning and (seen.demanded or (every and seen.rows > _ENOUGH)):
        return True
    if spanning or every or (seen.commas[0] and not seen.commas[1]):
        raise InputError(
            f"{name}: there are quotation marks around fields, and nothing shows whether they belong to the texts; "
            f"{_WAY_OUT}"
        )
    return None
