"""Queries and passages: id and text, from TSV, CSV, JSON lines, a JSON array or Parquet, one row each."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

import pyarrow as pa

from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.cells import identifier
from ray_rerank.operators.formats.column_files import DOC_ID, QUERY_ID
from ray_rerank.operators.formats.file_kinds import check_texts
from ray_rerank.operators.formats.json_rows import is_json, json_object, json_rows
from ray_rerank.operators.formats.lines import Unusable, opening, parse_lines
from ray_rerank.operators.formats.parquet_rows import is_parquet_file, parquet_rows
from ray_rerank.operators.formats.tables import Row, check_headless, read_table, row_size
from ray_rerank.operators.rejects import Reason, Reject, RejectSink

_OWN_IDS = ("_id", "id")
_QUERY_IDS = ("query_id", "query-id", "qid")
_DOC_IDS = ("pid", "passage_id", "doc_id", "docid", "docno", "corpus-id")
ID_NAMES = (*_OWN_IDS, *_QUERY_IDS, *_DOC_IDS)
"""Under which names an id stands; the first that is there counts: a passage's `pid` before its document's `docid`."""
TEXT_NAMES = ("text", "contents", "content", "passage", "segment", "body", "query")
_HEADER_TEXTS = frozenset((*TEXT_NAMES, "title", "url", "question", "document", "headings"))
_COLUMN_NAMES = frozenset((*ID_NAMES, *QUERY_ID, *DOC_ID, *_HEADER_TEXTS))
_FORM = "queries or passages, rows of an id and a text"
_SPACE = " \t\n\r\v\f"  # ASCII's: a no-break space is part of an id
_CHUNK = 1 << 16
_CHUNK_SIZE = 64 << 20  # characters


@dataclass(frozen=True, slots=True)
class TextLine:
    """One query or passage and the line it stands on; the text may be empty."""

    line: int
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Queries:
    """Query texts by query_id in file order, and what messages call them."""

    name: str
    texts: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Passages:
    """Passages by id, their texts in Arrow memory: a Python string each would take several times as much.

    Attributes:
        name: what messages call them.
        row: doc_id to its row in `texts`; in file order.
        texts: large_string, none empty.
        empty: how many were left out for having no text.
    """

    name: str
    row: Mapping[str, int]
    texts: pa.Array
    empty: int = 0


def read_collection(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[TextLine]:
    """Read Parquet, JSON lines, a JSON array, or `id<TAB>text`, plain or compressed.

    In a line without a header all after the first tab is text. A first line that names columns is a header.

    Args:
        stream: seekable, at its beginning.

    Raises:
        InputError: the file is none of these.
    """
    if is_parquet_file(stream, name):
        yield from entries_of(parquet_rows(stream, name, (*ID_NAMES, *TEXT_NAMES, "title")), name, rejects)
    elif is_json(stream, name):
        rows = json_rows(stream, name, rejects)
        yield from _entries(parse_lines(rows, lambda row: entry_of(json_object(row)), name, _FORM, rejects))
    else:
        yield from _entries(_table_entries(stream, name, rejects))


def entries_of(rows: Iterable[tuple[int, Mapping[str, Any]]], name: str, rejects: RejectSink) -> Iterator[TextLine]:
    """Queries or passages out of rows of named values, as `entry_of` knows them, with the rows' numbers.

    Raises:
        InputError: most rows are none.
    """
    return _entries(parse_lines(rows, entry_of, name, _FORM, rejects))


def _entries(parsed: Iterable[tuple[int, tuple[str, str]]]) -> Iterator[TextLine]:
    return (TextLine(number, key, text) for number, (key, text) in parsed)


def entry_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Id and text of a row of named values; a `title` goes before the text with a space between, as BEIR does, but not
    before Anserini's `contents` where they begin with it.

    The text is `text`, else the one of TEXT_NAMES that is there.

    Raises:
        Unusable: the row has no id or text, or may have several.
    """
    if not any(row.get(name) is not None for name in _OWN_IDS):
        both = [next((name for name in names if row.get(name) is not None), None) for names in (_QUERY_IDS, _DOC_IDS)]
        if all(both):
            raise Unusable(f"a query and a document, {' and '.join(map(str, both))}, where one of them is asked for")
    key = json_id(row, ID_NAMES)
    texts = [name for name in TEXT_NAMES if row.get(name) is not None]
    if len(texts) > 1 and "text" not in texts:
        raise Unusable(f"the text may be any of {', '.join(texts)}: call it text")
    body = json_text(row, texts[0] if texts else "text")
    title = _title(row)
    if title is None or (texts == ["contents"] and _begins_with(body, title)):
        return key, body
    return key, f"{title} {body}".strip()


def _begins_with(text: str, title: str) -> bool:
    return text.startswith(title) and not text[len(title) : len(title) + 1].strip()


def _title(row: Mapping[str, Any]) -> str | None:
    found = row.get("title")
    if isinstance(found, list) and all(isinstance(part, str) for part in found):
        return json_text({"title": " ".join(found)}, "title")
    return None if found is None else json_text(row, "title")


def texts_by_id(entries: Iterable[TextLine], name: str, rejects: RejectSink) -> dict[str, str]:
    """Queries by id in file order; an empty text and an id's second line go to `rejects`."""
    texts: dict[str, str] = {}
    for entry in entries:
        if entry.id in texts:
            rejects.add(Reject(name, entry.line, Reason.DUPLICATE_ID, repr(entry.id)))
        elif not entry.text.strip():
            rejects.add(Reject(name, entry.line, Reason.EMPTY_TEXT, f"id {entry.id!r}"))
        else:
            texts[entry.id] = entry.text
    return texts


def passages_of(
    entries: Iterable[TextLine], name: str, rejects: RejectSink, wanted: frozenset[str] | None = None
) -> Passages:
    """Keep the passages that are wanted (all where None), so that a corpus is streamed and not held.

    An id's second line goes to `rejects`; a passage without text is not kept: there is nothing to score.
    """
    row: dict[str, int] = {}
    chunks: list[pa.Array] = []
    pending: list[str] = []
    empty = held = 0
    for entry in entries:
        if wanted is not None and entry.id not in wanted:
            continue
        if entry.id in row:
            rejects.add(Reject(name, entry.line, Reason.DUPLICATE_ID, repr(entry.id)))
        elif entry.text.strip():
            row[entry.id] = len(row)
            pending.append(entry.text)
            held += len(entry.text)
            if len(pending) == _CHUNK or held > _CHUNK_SIZE:
                chunks.append(pa.array(pending, pa.large_string()))
                pending, held = [], 0
        else:
            empty += 1
    chunks.append(pa.array(pending, pa.large_string()))
    return Passages(name, row, pa.concat_arrays(chunks), empty)


def ids_of(entries: Iterable[TextLine]) -> pa.Array:
    """The ids of all entries that have a text (large_string, in file order), in Arrow memory."""
    chunks: list[pa.Array] = []
    pending: list[str] = []
    for entry in entries:
        if entry.text.strip():
            pending.append(entry.id)
            if len(pending) == _CHUNK:
                chunks.append(pa.array(pending, pa.large_string()))
                pending = []
    chunks.append(pa.array(pending, pa.large_string()))
    return pa.concat_arrays(chunks)


def json_id(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The id under the first of the names that is there; whole numbers are taken as their digits: 3, not 3.0.

    Raises:
        Unusable: there is none, or it is blank, too long, of another type, or not valid unicode.
    """
    key = next((name for name in names if value.get(name) is not None), None)
    if key is None:
        raise Unusable(f"none of the fields {', '.join(names)}: it has {listed(value) or 'none'}")
    found = value[key]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    if isinstance(found, float):
        raise Unusable(f"{key!r} is {found!r}: an id is a string or a whole number")
    text = json_text(value, key)
    if not text.strip():
        raise Unusable("the id is empty")
    return identifier(text, "the id")


def json_text(value: Mapping[str, Any], key: str) -> str:
    """The text under a key.

    Raises:
        Unusable: it is missing, not a string, or holds half a surrogate pair.
    """
    if key not in value:
        raise Unusable(f"no field {key!r}: it has {listed(value) or 'none'}")
    found = value[key]
    if not isinstance(found, str):
        raise Unusable(f"{key!r} is a {type(found).__name__}, not a string")
    if not found.isascii():
        try:
            found.encode("utf-8")
        except UnicodeEncodeError:
            raise Unusable(f"{key!r} holds half a surrogate pair", Reason.NOT_UTF8) from None
    return found


def checked_id(text: str) -> str:
    """An id in a column of a text file, without the ASCII white space around it.

    Raises:
        Unusable: nothing is left, or only other white space, or too much.
    """
    if not text.strip():
        raise Unusable("the id is empty")
    return identifier(text.strip(_SPACE), "the id")


def _table_entries(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[tuple[int, tuple[str, str]]]:
    table = read_table(stream, name, rejects)
    first = next(table.rows, None)
    if first is None:
        return
    header = _header(first[1])
    if table.headed and header is None:
        raise InputError(
            f"{name}: CSV is read under a header that names an id ({', '.join(ID_NAMES)}) and a text "
            f"({', '.join(TEXT_NAMES)}); its first row is {', '.join(first[1])[:80]!r}"
        )
    if header is None:
        asked = f"an id ({', '.join(ID_NAMES)}) and a text ({', '.join(TEXT_NAMES)})"
        check_headless(first, _COLUMN_NAMES, asked, name)
    start: list[Row] = [] if header else [first, *opening(table.rows, row_size)]
    check_texts(start, name)
    named = header is not None and (table.quoted or len(header) > 2 or not _is_id_and_text(header))

    def parse(fields: list[str]) -> tuple[str, str]:
        if header is not None and named:
            return entry_of(named_fields(header, fields))
        if len(fields) < 2:
            raise Unusable("no tab between id and text")
        if table.quoted and len(fields) > 2:
            raise Unusable(f"{len(fields)} columns, quoted, without a header to say which are the id and the text")
        return checked_id(fields[0]), "\t".join(fields[1:])

    form = _FORM if named else "TSV of id<TAB>text"
    yield from parse_lines(chain(start, table.rows), parse, name, form, rejects)


def named_fields(header: Sequence[str], fields: Sequence[str]) -> dict[str, str]:
    """A row's fields by the names in the header; an id is stripped.

    Raises:
        Unusable: there are more or fewer than the header names, or it names one twice.
    """
    if len(fields) != len(header):
        raise Unusable(f"{len(fields)} columns, where the header names {len(header)}")
    row = {name: field.strip(_SPACE) if name in ID_NAMES else field for name, field in zip(header, fields, strict=True)}
    if len(row) < len(header):
        raise Unusable("the header names a column twice")
    return row


def _is_id_and_text(header: list[str]) -> bool:
    return header[0] in ID_NAMES and header[1] in TEXT_NAMES


def _header(fields: list[str]) -> list[str] | None:
    """The columns' names where the first row gives them, an id and a text among them."""
    names = [field.strip().lower() for field in fields]
    return names if set(names) & set(ID_NAMES) and set(names) & _HEADER_TEXTS else None
