"""Files of columns, such as runs and judgements: which column is what, by a line of names or by what they hold."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.cells import BLANKS, ITERATION, shown
from ray_rerank.operators.formats.file_kinds import what_they_are
from ray_rerank.operators.formats.lines import Line, Unusable, opening, parse_lines
from ray_rerank.operators.rejects import RejectSink

_WIDEST = 1 << 16  # characters of a line: its ids may be URLs, and it holds no text

QUERY_ID = frozenset({"query_id", "query-id", "queryid", "qid", "q_id", "topic", "topic_id", "topic-id"})
DOC_ID = frozenset(
    {"doc_id", "doc-id", "docid", "docno", "document_id", "corpus_id", "corpus-id", "pid", "passage_id", "did"}
)

Layout = tuple[str, ...]
"""What each column is, from the left."""
Row = dict[str, Any]
"""The values of one line, by what they are."""


@dataclass(frozen=True, slots=True)
class Form:
    """What files of one kind hold.

    Attributes:
        words: the kind, for messages, with the columns that are asked for.
        layouts: the orders of columns that are known without a line of names; the first that half of the lines have
            is taken, unless more have another. A `tag` is the same on all lines; what has no name is passed over.
        mistaken: orders that are not read, since nothing but the lines that lack the right one tells them.
        names: what a line of names may call each column that is read.
        values: how a column's text is read; says what it was where it raises Unusable.
        enough: which columns a line of names must have besides query_id and doc_id: one of them.
    """

    words: str
    layouts: tuple[Layout, ...]
    names: Mapping[str, frozenset[str]]
    values: Mapping[str, Callable[[str, str], Any]]
    enough: tuple[str, ...]
    mistaken: tuple[Layout, ...] = ()


def read_columns(
    lines: Iterator[Line], name: str, form: Form, rejects: RejectSink
) -> tuple[Layout, Iterator[tuple[int, Row]]]:
    """Find out what the columns are, and read them: separated by tabs, or by spaces and tabs; quoted as in CSV where
    the names are.

    Returns:
        What each column is, and the rows with the numbers of their lines; a malformed line goes to `rejects`.

    Raises:
        InputError: there is no line, or most are of no known layout (with what they are instead).
    """
    start = opening(lines, lambda line: len(line[1]))
    if not start:
        raise InputError(f"{name} holds no line; it should be {form.words}")
    named = _named(start[0], name, form)
    quoted = named is not None and start[0][1].lstrip(" ").startswith('"')
    if named is not None:
        del start[0]
    layout = named or _fitting(start, name, form)
    return layout, parse_lines(chain(start, lines), _reader(layout, form, quoted), name, form.words, rejects)


class _OtherWidth(Unusable):
    """A line has more columns or fewer."""


def _named(line: Line, name: str, form: Form) -> Layout | None:
    """What each column is by a line of names; None where it names neither a query nor a document.

    Raises:
        InputError: a column that is needed is not there, or two are the same.
    """
    number, text = line
    if len(text) > _WIDEST:
        return None
    for columns in (text.split("\t"), BLANKS.split(text.strip(" \t"))):
        plain = [one.strip(' "').lower() for one in columns]
        layout = tuple(next((known for known, names in form.names.items() if one in names), "") for one in plain)
        if {"query_id", "doc_id"} <= {*layout}:
            break
    else:
        return None
    where = f"{name}, line {number}: the columns are {listed(plain)}"
    if not {*form.enough} & {*layout}:
        raise InputError(f"{where}: none of them is the {' or '.join(form.enough)}")
    for column in form.names:
        if layout.count(column) > 1:
            raise InputError(f"{where}: more than one is the {column}; leave the others out")
    return layout


def _fitting(start: Sequence[Line], name: str, form: Form) -> Layout:
    """The first layout that half of the lines have.

    Raises:
        InputError: there is none, or more lines have another; tells the first line that the nearest one lacks.
    """
    nearest, seen = (0, False), f"line {start[0][0]}: {shown(start[0][1])}"
    taken: tuple[Layout, int] | None = None
    for layout in form.layouts + form.mistaken:
        read, rows, faults = _reader(layout, form, quoted=False), list[Row](), list[tuple[bool, str]]()
        for number, text in start:
            try:
                rows.append(read(text))
            except Unusable as fault:
                faults.append((not isinstance(fault, _OtherWidth), f"line {number}: {shown(text)}, {fault}"))
        if rows and layout[1] == "doc_id" and {row["doc_id"] for row in rows} <= ITERATION:
            continue
        if len({row.get("tag") for row in rows}) > 1:
            continue
        if taken is not None and len(rows) > taken[1]:
            break
        if faults and (len(rows), faults[0][0]) > nearest:
            nearest, seen = (len(rows), faults[0][0]), faults[0][1]
        if taken is None and len(rows) >= len(faults):
            taken = layout, len(rows)
    else:
        if taken is not None and taken[0] in form.layouts:
            return taken[0]
    hint = what_they_are((text[:_WIDEST] for _, text in start), form.words)
    hint = hint or f"a first line that names the columns says which is which ({_names_of(form)})"
    raise InputError(f"{name} is not {form.words}: {seen}; {hint}")


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
        if len(text) > _WIDEST:
            raise Unusable(f"longer than {_WIDEST:,} characters")
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
        blank = tabbed if len(tabbed) == many else BLANKS.split(text.strip(" \t"))
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
