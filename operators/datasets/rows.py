"""Rows of data sets, as libraries and columnar files give them, into judgements."""

from collections.abc import Iterable, Iterator
from typing import IO

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.json_rows import json_object, json_rows
from ray_rerank.operators.formats.lines import Unusable, parse_lines
from ray_rerank.operators.formats.parquet_rows import Row
from ray_rerank.operators.formats.qrels import HIGHEST, Grades, Qrels
from ray_rerank.operators.formats.texts import json_id
from ray_rerank.operators.rejects import RaiseOnReject

QUERY_NAMES = ("query-id", "query_id", "qid")
DOC_NAMES = ("corpus-id", "doc_id", "corpus_id", "pid")
GRADE_NAMES = ("score", "label", "relevance")


def json_lines(stream: IO[bytes], name: str) -> Iterator[Row]:
    """The objects of a JSON file.

    Raises:
        InputError: a line is none.
    """
    yield from parse_lines(json_rows(stream, name, RaiseOnReject()), json_object, name, "JSON", RaiseOnReject())


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
        grades = [row[column] for column in GRADE_NAMES if row.get(column) is not None]
        if len(grades) != 1 or isinstance(grades[0], bool) or not isinstance(grades[0], int | float):
            raise InputError(f"{name}, row {number}: there is no one number under {' or '.join(GRADE_NAMES)}")
        yield query_id, doc_id, grades[0]


def qrels_of(judgements: Iterable[tuple[str, str, float]], name: str) -> Qrels:
    """Judgements by query and document.

    Raises:
        InputError: a grade is no whole number, a document has two, or there is no judgement.
    """
    grades: Grades = {}
    for query_id, doc_id, grade in judgements:
        which = f"{name}: query {query_id!r}, document {doc_id!r}"
        if not float(grade).is_integer():
            raise InputError(f"{which}: the grade is {grade!r}, not a whole number")
        if abs(grade) > HIGHEST:
            raise InputError(f"{which}: the grade is {grade!r}: beyond {HIGHEST:,}")
        if grades.setdefault(query_id, {}).setdefault(doc_id, int(grade)) != grade:
            raise InputError(f"{which}: is graded {grade!r}, and {grades[query_id][doc_id]} before")
    if not grades:
        raise InputError(f"{name}: holds no judgement")
    return Qrels(name, grades)
