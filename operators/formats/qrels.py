"""Relevance judgements (qrels): TREC, BEIR and MTEB files, where one wrong line would change every figure."""

from dataclasses import dataclass
from typing import IO

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.cells import identifier, iteration, number, whole
from ray_rerank.operators.formats.column_files import DOC_ID, QUERY_ID, Form, read_columns
from ray_rerank.operators.formats.file_kinds import TREC_QRELS
from ray_rerank.operators.formats.line_ids import fits_columns, unfit
from ray_rerank.operators.formats.lines import Unusable, read_lines
from ray_rerank.operators.rejects import RaiseOnReject, RejectSink

Grades = dict[str, dict[str, int]]
"""By query_id and doc_id; 0 is judged and not relevant."""

HIGHEST = 10_000  # an id in the place of the grade is beyond it; trec_eval overflows at 2^31
_MOST_SUBTOPICS = 100  # beyond it the second column is a document of a run of four columns
_AS_RANKS = 10  # grades that count up from 1 in each query, so far in one of them, are ranks


@dataclass(frozen=True, slots=True)
class Qrels:
    """Relevance judgements, and what messages call them."""

    name: str
    grades: Grades


def read_qrels(stream: IO[bytes], name: str) -> Qrels:
    """Read judgements: TREC's four columns; BEIR's and MTEB's three; five columns where a fraction
    or a word tells the grade from the other; any columns in any order under a line of names.

    A grade is a whole number, also as `1.0`: the measures know no others.

    Raises:
        InputError: a line is none of them, or judges a document again with another grade (with file and line), the
            grades are ranks, or there is no judgement.
    """
    grades: Grades = {}
    where: dict[tuple[str, str], int] = {}
    rejects = RaiseOnReject()
    _, rows = read_columns(read_lines(stream, name, rejects), name, _FORM, rejects)
    for line, row in rows:
        query_id, doc_id, grade = row["query_id"], row["doc_id"], row["grade"]
        first = where.setdefault((query_id, doc_id), line)
        if grades.setdefault(query_id, {}).setdefault(doc_id, grade) != grade:
            raise InputError(
                f"{name}, line {line}: query {query_id!r}, document {doc_id!r} is graded {grade}, but "
                f"{grades[query_id][doc_id]} on line {first}"
            )
    if not grades:
        raise InputError(f"{name} holds no judgement; it should be {_FORM.words}")
    if _are_ranks(grades):
        raise InputError(f"{name}: the grades of each query count 1, 2, 3, …: they are ranks; is it a run?")
    return Qrels(name, grades)


def highest_grade(grades: Grades) -> int:
    """The highest grade that any document has."""
    return max(grade for by_document in grades.values() for grade in by_document.values())


def _are_ranks(grades: Grades) -> bool:
    counting = (sorted(each.values()) == list(range(1, len(each) + 1)) for each in grades.values())
    return max(map(len, grades.values())) >= _AS_RANKS and all(counting)


def _grade(text: str, what: str) -> int:
    grade = whole(text, what)
    if abs(grade) > HIGHEST:
        raise Unusable(f"{what} is {text[:40]!r}: beyond {HIGHEST:,}; is it in the last column?")
    return grade


def _no_grade(text: str, what: str) -> None:
    """What stands beside a grade in five columns: a whole number could be the grade as well.

    Raises:
        Unusable: it is one.
    """
    try:
        grade = whole(text, what)
    except Unusable:
        return
    raise Unusable(f"{what} is {grade}, which could be the grade")


def _subtopic(text: str, what: str) -> None:
    """TREC's second column: mostly 0 or Q0, or the number of a round or of an aspect.

    Raises:
        Unusable: it is none of them.
    """
    if text != "Q0" and not 0 <= number(text, what) <= _MOST_SUBTOPICS:
        raise Unusable(f"{what} is {text[:40]!r}: beyond {_MOST_SUBTOPICS}")


def _share(text: str, what: str) -> None:
    """The probability with which a document was drawn to be judged.

    Raises:
        Unusable: it is none.
    """
    if not 0 <= number(text, what) <= 1:
        raise Unusable(f"{what} is {text}, not between 0 and 1")


_FORM = Form(
    words=f"{TREC_QRELS} or BEIR qrels (query-id<TAB>corpus-id<TAB>score)",
    layouts=(
        ("query_id", "subtopic", "doc_id", "grade"),
        ("query_id", "doc_id", "grade"),
        ("query_id", "iteration", "doc_id", "grade", "remark"),
        ("query_id", "iteration", "doc_id", "remark", "grade"),
        ("query_id", "doc_id", "grade", "method", "share"),
    ),
    names={
        "query_id": QUERY_ID,
        "doc_id": DOC_ID,
        "grade": frozenset({"grade", "score", "label", "relevance", "rel", "judgment", "judgement"}),
    },
    values={
        "query_id": identifier,
        "doc_id": identifier,
        "grade": _grade,
        "iteration": iteration,
        "subtopic": _subtopic,
        "remark": _no_grade,
        "share": _share,
    },
    enough=("grade",),
)


def qrels_lines(grades: Grades, name: str, rejects: RejectSink) -> str:
    """Lines of `query_id 0 doc_id grade`; `rejects` is told of those that would be read as others or as none."""
    lines = []
    for query_id, by_document in grades.items():
        for doc_id, grade in by_document.items():
            if fits_columns(query_id, doc_id):
                lines.append(f"{query_id} 0 {doc_id} {grade}\n")
            else:
                rejects.add(unfit(name, query_id, doc_id))
    return "".join(lines)
