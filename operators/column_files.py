"""Files of columns, such as runs and judgements: which column is what, by a line of names or by what they hold."""

import csv
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

import numpy as np

from operators.errors import InputError
from operators.faults import FaultSink
from operators.lines import Line, Unusable, parse_lines

SAMPLE = 1000
"""So many lines at the beginning of a file tell what its columns are."""

QUERY_ID = frozenset({"query_id", "query-id", "queryid", "qid", "q_id", "topic", "topic_id", "topic-id"})
DOC_ID = frozenset(
    {"doc_id", "doc-id", "docid", "docno", "document_id", "corpus_id", "corpus-id", "pid", "passage_id", "did"}
)

TREC_RUN = "a TREC run (query_id Q0 doc_id rank score tag)"
TREC_QRELS = "TREC qrels (query_id 0 doc_id grade)"

Layout = tuple[str, ...]
"""What each column is, from the left."""
Row = dict[str, Any]
"""The values of one line, by what they are."""

_BLANKS = re.compile("[ \t]+")  # and nothing else: a no-break space belongs to its id
_ITERATION = frozenset({"0", "Q0", "q0"})
_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Form:
    """What files of one kind hold.

    Attributes:
        words: the kind, for messages, with the columns that are asked for.
        layouts: the orders of columns that are known without a line of names; the first that half of the lines have
            is taken. What is not in `names` is passed over.
        names: what a line of names may call each column that is read.
        values: how a column's text is read; says what it was where it raises Unusable.
        enough: which columns a line of names must have besides query_id and doc_id: one of them.
    """

    words: str
    layouts: tuple[Layout, ...]
    names: Mapping[str, frozenset[str]]
    values: Mapping[str, Callable[[str, str], Any]]
    enough: tuple[str, ...]


def read_columns(
    lines: Iterator[Line], name: str, form: Form, faults: FaultSink
) -> tuple[Layout, Iterator[tuple[int, Row]]]:
    """Find out what the columns are, and read them: separated by tabs, or by spaces and tabs; quoted where the first
    lines all are.

    Returns:
        What each column is, and the rows with the numbers of their lines; a malformed line goes to `faults`.

    Raises:
        InputError: there is no line, or most are of no known layout (with what they are instead).
    """
    start = list(islice(lines, SAMPLE))
    if not start:
        raise InputError(f"{name} holds no line; it should be {form.words}")
    named = _named(start[0], name, form)
    if named is not None:
        del start[0]
    quoted = all(text.lstrip(" ").startswith('"') for _, text in start)
    layout = named or _fitting(start, name, form, quoted)
    return layout, parse_lines(chain(start, lines), _reader(layout, form, quoted), name, form.words, faults)


def number(text: str, what: str) -> float:
    """A finite number that 32 bits can hold.

    Raises:
        Unusable: it is none.
    """
    try:
        score = float(text)
    except ValueError:
        score = None
    if score is None or "_" in text or not text.isascii():  # Python reads 1_0 and digits of other scripts
        raise Unusable(f"{what} is {text[:40]!r}")
    if not math.isfinite(score) or abs(score) > _FLOAT32_MAX:
        raise Unusable(f"{what} is {text[:40]!r}, not a finite 32-bit number")
    return score


def whole(text: str, what: str) -> int:
    """A whole number, also where a tool wrote it as `1.0`.

    Raises:
        Unusable: it is none, or beyond 64 bits.
    """
    try:
        value = int(text) if text.isdecimal() and text.isascii() else number(text, what)
    except Unusable:
        raise Unusable(f"{what} is {text[:40]!r}, not a whole number") from None
    if value != int(value):
        raise Unusable(f"{what} is {text[:40]!r}, not a whole number")
    if abs(value) > _INT64_MAX:
        raise Unusable(f"{what} has more than 64 bits")
    return int(value)


def identifier(text: str, what: str) -> str:
    """An id as it stands.

    Raises:
        Unusable: it is empty.
    """
    if not text:
        raise Unusable(f"{what} is empty")
    return text


def iteration(text: str, what: str) -> str:
    """The column of TREC files that says nothing: 0 or Q0.

    Raises:
        Unusable: it is something else.
    """
    if text not in _ITERATION:
        raise Unusable(f"{what} is {text[:40]!r}, neither 0 nor Q0")
    return text


def what_they_are(texts: Iterable[str], apart_from: str = "") -> str:
    """What lines of another kind look like, and what reads them; empty where that is not known.

    Args:
        apart_from: names the kinds that are asked for.
    """
    tabbed = [text.split("\t") for text in texts]
    blank = [_BLANKS.split("\t".join(row).strip(" \t")) for row in tabbed]
    shapes = {
        "MS MARCO's top-1000 (qid, pid, query, passage), which `prepare --pairs` reads": (
            len(row) == 4 and list(map(is_text, row[:3])) == [False, False, True] for row in tabbed
        ),
        "triples (query, positive, negative); `train` reads a row for each pair, under the header "
        "query<TAB>document<TAB>label": (len(row) == 3 and all(map(is_text, row)) for row in tabbed),
        TREC_RUN: (len(row) == 6 and row[1] in _ITERATION for row in blank),
        TREC_QRELS: (len(row) == 4 and row[1] in _ITERATION for row in blank),
        "texts (id<TAB>text)": (len(row) == 2 and not is_text(row[0]) and is_text(row[1]) for row in tabbed),
    }
    found = (shape for shape, rows in shapes.items() if shape not in apart_from and 2 * sum(rows) > len(tabbed))
    shape = next(found, "")
    return shape and f"it looks like {shape}"


def check_texts(rows: Sequence[tuple[int, Sequence[str]]], name: str) -> None:
    """Refuse rows without a header that are no id and text, though each has a first column and another.

    Args:
        rows: the first of a file, with the numbers of their lines.

    Raises:
        InputError: most have the same three columns or more, or a text where the id should be.
    """
    if not rows:
        return
    texts = ["\t".join(row) for _, row in rows]
    (columns, many), *_ = Counter(text.rstrip("\t").count("\t") + 1 for text in texts).most_common(1)
    where = f"{name}, line {rows[0][0]}"
    if columns > 2 and 2 * many > len(rows):
        hint = what_they_are(texts) or "leave an id and a text, or name the columns in JSONL"
        raise InputError(f"{where}: {columns} columns ({shown(texts[0])}), not id<TAB>text; {hint}")
    numbers = sum(len(row) == 2 and is_number(row[1]) for _, row in rows)
    if 2 * numbers > len(rows):
        raise InputError(f"{where}: column 2 should be the text and holds a number ({shown(texts[0])})")
    turned = sum(len(row) == 2 and is_text(row[0]) and not is_text(row[1]) for _, row in rows)
    if 2 * turned > len(rows):
        raise InputError(
            f"{where}: column 1 should be the id and holds a text ({shown(texts[0])}); put the id first, or name the "
            "columns in JSONL"
        )


def is_text(column: str) -> bool:
    """Whether a column holds several words, as an id seldom does."""
    return " " in column.strip(" ")


def is_number(column: str) -> bool:
    """Whether a column holds a number and nothing else."""
    try:
        number(column, "the column")
    except Unusable:
        return False
    return True


def shown(text: str) -> str:
    """A line, or its beginning, as messages quote it."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")


class _OtherWidth(Unusable):
    """A line has more columns or fewer."""


def _named(line: Line, name: str, form: Form) -> Layout | None:
    """What each column is by a line of names; None where it names neither a query nor a document.

    Raises:
        InputError: a column that is needed is not there, or two are the same.
    """
    number, text = line
    for columns in (text.split("\t"), _BLANKS.split(text.strip(" \t"))):
        plain = [one.strip(' "').lower() for one in columns]
        layout = tuple(next((known for known, names in form.names.items() if one in names), "") for one in plain)
        if {"query_id", "doc_id"} <= {*layout}:
            break
    else:
        return None
    where = f"{name}, line {number}: the columns are {', '.join(plain)}"
    if not {*form.enough} & {*layout}:
        raise InputError(f"{where}: none of them is the {' or '.join(form.enough)}")
    for column in form.names:
        if layout.count(column) > 1:
            raise InputError(f"{where}: more than one is the {column}; leave the others out")
    return layout


def _fitting(start: Sequence[Line], name: str, form: Form, quoted: bool) -> Layout:
    """The first layout that half of the lines have."""
    reasons: list[str] = []
    number, first = start[0]
    for layout in form.layouts:
        rows, reason, read = list[Row](), "", _reader(layout, form, quoted)
        for _, text in start:
            try:
                rows.append(read(text))
            except _OtherWidth:
                continue
            except Unusable as unusable:
                reason = reason or f", {unusable}"
        is_iteration = layout[1] == "doc_id" and {row["doc_id"] for row in rows} <= _ITERATION
        if 2 * len(rows) >= len(start) and not is_iteration:
            return layout
        reasons += [reason] if reason else []
    hint = what_they_are((text for _, text in start), form.words)
    reason = reasons[0] if len(reasons) == 1 and not hint else ""
    hint = hint or f"a first line that names the columns says which is which ({_names_of(form)})"
    raise InputError(f"{name} is not {form.words}: line {number}: {shown(first)}{reason}; {hint}")


def _names_of(form: Form) -> str:
    return " ".join(("query_id", "doc_id", *form.enough))


def _reader(layout: Layout, form: Form, quoted: bool) -> Callable[[str], Row]:
    """How a line is read; raises Unusable."""
    wanted = [
        (at, column, form.values[column], f"column {at + 1}, the {column.replace('_', ' ')},")
        for at, column in enumerate(layout)
        if column in form.values
    ]

    def read(text: str) -> Row:
        columns = _columns(text, len(layout), quoted)
        return {column: value(columns[at], what) for at, column, value, what in wanted}

    return read


def _columns(text: str, many: int, quoted: bool) -> list[str]:
    """The columns between tabs, or between blanks where there are not as many as asked for."""
    columns = text.split(" ")
    if len(columns) == many and "" not in columns and "\t" not in text and not quoted:  # nearly all that there are
        return columns
    if quoted:
        tabbed, blank = _unquoted(text, "\t"), _unquoted(text.replace("\t", " "), " ")
        if not tabbed and not blank:
            raise Unusable("its quotes do not close")
    else:
        tabbed = [column.strip(" ") for column in text.split("\t")]
        blank = tabbed if len(tabbed) == many else _BLANKS.split(text.strip(" \t"))
    if len(tabbed) == many:
        return tabbed
    if len(blank) == many:
        return blank
    raise _OtherWidth(f"{len(tabbed if len(tabbed) > 1 else blank)} columns, not {many}")


def _unquoted(text: str, separator: str) -> list[str]:
    """The columns of a line of CSV; none where it is not one."""
    try:
        (row,) = csv.reader([text.strip(" ")], delimiter=separator, skipinitialspace=True, strict=True)
    except (csv.Error, ValueError):
        return []
    return row
