"""Relevance judgements (qrels): TREC and BEIR files, where one wrong line would change every figure."""

import math
from collections.abc import Iterator
from typing import IO

from operators.errors import InputError
from operators.faults import Refuse
from operators.lines import Unusable, parse_lines, read_lines

Qrels = dict[str, dict[str, int]]
"""Grades by query_id and doc_id; 0 is judged and not relevant."""

_HEADERS = frozenset({"query-id", "query_id", "qid", "topic"})
_HIGHEST = 10_000  # an id in the place of the grade is beyond it; trec_eval overflows at 2^31
_FORM = "TREC qrels (query_id 0 doc_id grade) or BEIR qrels (query-id<TAB>corpus-id<TAB>score)"


def read_qrels(stream: IO[bytes], name: str) -> Qrels:
    """Read TREC qrels, four columns, or BEIR qrels, three tab-separated columns with or without a header.

    Raises:
        InputError: a line is neither, or judges a document again with another grade (with file and line), or
            there is no judgement.
    """
    qrels: Qrels = {}
    where: dict[tuple[str, str], int] = {}
    for number, judgement in _judgements(stream, name):
        if judgement is None:
            continue
        query_id, doc_id, grade = judgement
        first = where.setdefault((query_id, doc_id), number)
        if qrels.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
            raise InputError(
                f"{name}, line {number}: query {query_id!r}, document {doc_id!r} is graded {grade}, but "
                f"{qrels[query_id][doc_id]} on line {first}"
            )
    if not qrels:
        raise InputError(f"{name} holds no judgement; it should be {_FORM}")
    return qrels


def highest_grade(qrels: Qrels) -> int:
    """The highest grade that any document has."""
    return max(grade for grades in qrels.values() for grade in grades.values())


def _judgements(stream: IO[bytes], name: str) -> Iterator[tuple[int, tuple[str, str, int] | None]]:
    faults = Refuse()
    lines = read_lines(stream, name, faults)
    at_first = True

    def parse(text: str) -> tuple[str, str, int] | None:
        nonlocal at_first
        opening, at_first = at_first, False
        tabbed = [column.strip() for column in text.split("\t")]
        if opening and tabbed[0].lower() in _HEADERS:
            return None
        if len(tabbed) == 3:
            query_id, doc_id, grade = tabbed
        else:
            columns = tabbed if len(tabbed) == 4 else text.split()
            if len(columns) != 4:
                raise Unusable(f"{len(columns)} columns; it should be {_FORM}")
            query_id, _, doc_id, grade = columns
        if not query_id or not doc_id:
            raise Unusable("an id is empty")
        return query_id, doc_id, _grade(grade)

    return parse_lines(lines, parse, name, _FORM, faults)


def _grade(text: str) -> int:
    """A whole number, also where a tool wrote it as `1.0`."""
    try:
        grade = float(text)
    except ValueError:
        grade = math.nan
    if not grade.is_integer():
        raise Unusable(f"the grade is {text[:40]!r}, not a whole number")
    if abs(grade) > _HIGHEST:
        raise Unusable(f"the grade is {text[:40]!r}: beyond {_HIGHEST:,}; is it in the last column?")
    return int(grade)
