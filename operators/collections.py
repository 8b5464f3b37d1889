"""Queries and passages: id and text, from TSV, JSONL or BEIR files, one line each."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from typing import IO, Any

import pyarrow as pa

from operators.column_files import SAMPLE
from operators.errors import InputError
from operators.faults import Fault, FaultSink, Reason
from operators.file_kinds import check_texts
from operators.lines import Line, Unusable, parse_lines, read_lines

ID_NAMES = ("_id", "id", "query_id", "doc_id")
_ID_HEADERS = frozenset((*ID_NAMES, "qid", "pid", "docid", "docno", "query-id", "corpus-id", "passage_id"))
_TEXT_HEADERS = frozenset({"text", "query", "passage", "contents", "content", "body"})
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True)
class Entry:
    """One query or passage and the line it stands on; the text may be empty."""

    line: int
    id: str
    text: str


@dataclass(frozen=True, slots=True)
class Passages:
    """Passages by id, their texts in Arrow memory: a Python string each would take several times as much.

    Attributes:
        row: doc_id to its row in `texts`; in file order.
        texts: large_string, none empty.
        empty: how many were left out for having no text.
    """

    row: Mapping[str, int]
    texts: pa.Array
    empty: int = 0


def read_collection(stream: IO[bytes], name: str, faults: FaultSink) -> Iterator[Entry]:
    """Read `id<TAB>text` (all after the first tab is text) or JSON objects, one a line; plain or gzip.

    A JSON object has its id under `_id`, `id`, `query_id` or `doc_id`, and `text`; a `title` goes before the
    text with a space between, as BEIR does. A first TSV line that names its two columns is skipped.

    Raises:
        InputError: the file is neither, or a TSV header names columns other than an id and a text.
    """
    lines = read_lines(stream, name, faults)
    first = next(lines, None)
    if first is None:
        return
    if is_jsonl(name, first[1]):
        form = 'JSONL with "_id" and "text"'
        parsed = parse_lines(chain([first], lines), _json_entry, name, form, faults)
    else:
        start: list[Line] = [] if _is_header(first[1], name) else [first, *islice(lines, SAMPLE)]
        check_texts([(number, text.split("\t")) for number, text in start], name)
        parsed = parse_lines(chain(start, lines), _tsv_entry, name, "TSV of id<TAB>text", faults)
    for number, (key, text) in parsed:
        yield Entry(number, key, text)


def texts_by_id(entries: Iterable[Entry], name: str, faults: FaultSink) -> dict[str, str]:
    """Queries by id in file order; an empty text and an id's second line go to `faults`."""
    texts: dict[str, str] = {}
    for entry in entries:
        if entry.id in texts:
            faults.add(Fault(name, entry.line, Reason.DUPLICATE_ID, repr(entry.id)))
        elif not entry.text.strip():
            faults.add(Fault(name, entry.line, Reason.EMPTY_TEXT, f"id {entry.id!r}"))
        else:
            texts[entry.id] = entry.text
    return texts


def passages_of(
    entries: Iterable[Entry], name: str, faults: FaultSink, wanted: frozenset[str] | None = None
) -> Passages:
    """Keep the passages that are wanted (all where None), so that a corpus is streamed and not held.

    An id's second line goes to `faults`; a passage without text is not kept: there is nothing to score.
    """
    row: dict[str, int] = {}
    chunks: list[pa.Array] = []
    pending: list[str] = []
    empty = 0
    for entry in entries:
        if wanted is not None and entry.id not in wanted:
            continue
        if entry.id in row:
            faults.add(Fault(name, entry.line, Reason.DUPLICATE_ID, repr(entry.id)))
        elif entry.text.strip():
            row[entry.id] = len(row)
            pending.append(entry.text)
            if len(pending) == _CHUNK:
                chunks.append(pa.array(pending, pa.large_string()))
                pending = []
        else:
            empty += 1
    chunks.append(pa.array(pending, pa.large_string()))
    return Passages(row, pa.concat_arrays(chunks), empty)


def ids_of(entries: Iterable[Entry]) -> pa.Array:
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


def json_object(text: str) -> dict[str, Any]:
    """One line of JSONL.

    Raises:
        Unusable: it is not a JSON object.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unusable(f"a JSON {type(value).__name__}, not an object")
    return value


def json_id(value: Mapping[str, Any], names: tuple[str, ...]) -> str:
    """The id under the first of the names that is there; whole numbers are taken as their digits.

    Raises:
        Unusable: there is none, or it is empty, of another type, or not valid unicode.
    """
    key = next((name for name in names if name in value), None)
    if key is None:
        raise Unusable(f"none of the fields {', '.join(names)}: it has {', '.join(map(str, value)) or 'none'}")
    found = value[key]
    if isinstance(found, int) and not isinstance(found, bool):
        return str(found)
    return checked_id(json_text(value, key))


def json_text(value: Mapping[str, Any], key: str) -> str:
    """The text under a key.

    Raises:
        Unusable: it is missing, not a string, or holds half a surrogate pair.
    """
    if key not in value:
        raise Unusable(f"no field {key!r}: it has {', '.join(map(str, value)) or 'none'}")
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
    """An id without the white space around it.

    Raises:
        Unusable: nothing is left.
    """
    stripped = text.strip()
    if not stripped:
        raise Unusable("the id is empty")
    return stripped


def is_jsonl(name: str, first: str) -> bool:
    """Whether a file is JSONL: by its name, or by its first line where the name does not say."""
    plain = name.lower().removesuffix(".gz")
    if plain.endswith((".jsonl", ".json", ".ndjson")):
        return True
    return not plain.endswith((".tsv", ".txt")) and first.lstrip().startswith("{")


def _is_header(first: str, name: str) -> bool:
    columns = [column.strip().strip('"').lower() for column in first.split("\t")]
    if columns[0] not in _ID_HEADERS or len(columns) < 2 or columns[1] not in _TEXT_HEADERS | {"title", "url"}:
        return False
    if len(columns) > 2 or columns[1] not in _TEXT_HEADERS:
        raise InputError(
            f"{name}, line 1: the header names {', '.join(columns)}, but TSV is read as id<TAB>text; "
            'write it as JSONL with "_id", "title" and "text"'
        )
    return True


def _tsv_entry(text: str) -> tuple[str, str]:
    key, tab, rest = text.partition("\t")
    if not tab:
        raise Unusable("no tab between id and text")
    return checked_id(key), rest


def _json_entry(text: str) -> tuple[str, str]:
    value = json_object(text)
    key = json_id(value, ID_NAMES)
    body = json_text(value, "text")
    if value.get("title") is None:
        return key, body
    return key, f"{json_text(value, 'title')} {body}".strip()
