"""Rows of data sets, as libraries and columnar files give them, into entries and judgements."""

from collections.abc import Iterable, Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.collections import ID_NAMES, Entry, json_id, json_object, json_text
from operators.errors import InputError
from operators.faults import Fault, FaultSink, Refuse
from operators.judgements import Qrels
from operators.lines import Unusable, parse_lines, read_lines

QUERY_NAMES = ("query-id", "query_id", "qid")
DOC_NAMES = ("corpus-id", "doc_id", "pid")
GRADE_NAMES = ("score", "label")
_BATCH = 4096

Row = tuple[int, Mapping[str, Any]]
"""The number of a row in its file, from 1, and its values by column."""


def parquet_rows(stream: IO[bytes], name: str) -> Iterator[Row]:
    """The rows of a Parquet file.

    Raises:
        InputError: it is none, or cannot be read.
    """
    read = 0
    try:
        for batch in pq.ParquetFile(stream).iter_batches(_BATCH):
            yield from enumerate(batch.to_pylist(), read + 1)
            read += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read as Parquet beyond row {read}: {error}") from None


def json_rows(stream: IO[bytes], name: str) -> Iterator[Row]:
    """The objects of a JSONL file.

    Raises:
        InputError: a line is none.
    """
    yield from parse_lines(read_lines(stream, name, Refuse()), json_object, name, "JSONL", Refuse())


def entries_of(rows: Iterable[Row], name: str, faults: FaultSink) -> Iterator[Entry]:
    """Queries or passages: an id, `text`, and a `title` that goes before it, as BEIR and MTEB have them."""
    for number, row in rows:
        try:
            key, text = json_id(row, ID_NAMES), json_text(row, "text")
            title = json_text(row, "title") if row.get("title") is not None else ""
        except Unusable as unusable:
            faults.add(Fault(name, number, unusable.reason, str(unusable)))
            continue
        yield Entry(number, key, f"{title} {text}".strip())


def judgements_of(rows: Iterable[Row], name: str) -> Iterator[tuple[str, str, float]]:
    """(query_id, doc_id, grade) of rows such as MTEB's `query-id, corpus-id, score`.

    Raises:
        InputError: a row lacks one of them.
    """
    for number, row in rows:
        try:
            query_id, doc_id = json_id(row, QUERY_NAMES), json_id(row, DOC_NAMES)
        except Unusable as unusable:
            raise InputError(f"{name}, row {number}: {unusable}") from None
        grade = next((row[column] for column in GRADE_NAMES if row.get(column) is not None), None)
        if not isinstance(grade, int | float):
            raise InputError(f"{name}, row {number}: there is no number under {' or '.join(GRADE_NAMES)}")
        yield query_id, doc_id, grade


def qrels_of(judgements: Iterable[tuple[str, str, float]], name: str) -> Qrels:
    """Judgements by query and document.

    Raises:
        InputError: a grade is no whole number, a document has two, or there is no judgement.
    """
    qrels: Qrels = {}
    for query_id, doc_id, grade in judgements:
        which = f"{name}: query {query_id!r}, document {doc_id!r}"
        if not float(grade).is_integer():
            raise InputError(f"{which}: the grade is {grade!r}, not a whole number")
        if qrels.setdefault(query_id, {}).setdefault(doc_id, int(grade)) != grade:
            raise InputError(f"{which}: is graded {grade!r}, and {qrels[query_id][doc_id]} before")
    if not qrels:
        raise InputError(f"{name}: holds no judgement")
    return qrels
