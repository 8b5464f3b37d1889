"""What is mined in and for: the corpus, and each query with its positives."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ray_rerank.jobs.inputs.collections import judged_queries, load_passages
from ray_rerank.operators.candidates.same_text import text_keys
from ray_rerank.operators.candidates.self_pairs import DropSelf, named_texts, own_documents
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.qrels import Qrels
from ray_rerank.operators.formats.texts import Passages, Queries
from ray_rerank.operators.rejects import Reason, Reject, Report


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is mined in; `passages` carry its name.

    Attributes:
        doc_ids: by row.
        keys: uint64 of n, `text_keys` of the texts.
        own: by query, the rows of the passages that are the query itself.
    """

    passages: Passages
    doc_ids: list[str]
    keys: np.ndarray
    own: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One query: the rows of its positives, best grade first, and of what is judged relevant or is the query itself."""

    query_id: str
    query: str
    positives: tuple[int, ...]
    relevant: tuple[int, ...]


def load_corpus(path: str, queries: Queries, rule: DropSelf, report: Report) -> Corpus:
    """Read the passages; a note says how many have no text.

    Args:
        rule: by which a passage is a query itself.

    Raises:
        InputError: there is none.
    """
    passages = load_passages(path, report.rejects)
    if not passages.row:
        raise InputError(f"{path}: holds no passage")
    if passages.empty:
        report.notes.append(f"{passages.empty:,} passages of {path} have no text")
    keys = np.concatenate([text_keys(chunk) for chunk in _chunks(passages.texts)])
    return Corpus(passages, list(passages.row), keys, _find_own_rows(queries, rule, passages))


def find_positives(
    queries: Queries, qrels: Qrels, corpus: Corpus, positive_grade: int, report: Report
) -> list[JudgedQuery]:
    """The queries that have a positive with a text, not the query itself; others are rejects, or not judged and a note.

    Args:
        positive_grade: the lowest grade of a positive.

    Raises:
        InputError: there is none.
    """
    asked = []
    row = corpus.passages.row
    kept = judged_queries(queries, qrels, report).texts
    for query_id, query in kept.items():
        grades = sorted(qrels.grades[query_id].items(), key=lambda item: -item[1])
        itself = corpus.own.get(query_id, ())
        relevant = (*(row[doc_id] for doc_id, grade in grades if grade >= 1 and doc_id in row), *itself)
        found = [doc_id for doc_id, grade in grades if grade >= positive_grade]
        for doc_id in found:
            if doc_id not in row:
                report.rejects.add(
                    Reject(qrels.name, 0, Reason.UNKNOWN_DOC, f"the positive {doc_id!r} has no text", query_id, doc_id)
                )
        rows = [row[doc_id] for doc_id in found if doc_id in row and row[doc_id] not in itself]
        positives = _of_distinct_text(rows, corpus.keys)
        if not positives:
            report.rejects.add(Reject(queries.name, 0, Reason.NO_POSITIVE, f"query_id {query_id!r}", query_id))
            continue
        asked.append(JudgedQuery(query_id, query, positives, relevant))
    if not asked:
        documents = {doc_id for query_id in kept for doc_id in qrels.grades[query_id]}
        raise InputError(
            f"none of the queries of {queries.name} has a positive in {qrels.name} that has a text: of the "
            f"{len(documents)} documents judged for them {sum(doc_id in row for doc_id in documents)} are in the corpus"
        )
    return asked


def _find_own_rows(queries: Queries, rule: DropSelf, passages: Passages) -> dict[str, tuple[int, ...]]:
    row = passages.row
    own = own_documents(queries.texts, rule, named_texts(list(row), passages.texts))
    return {query_id: tuple(sorted(row[doc_id] for doc_id in found & row.keys())) for query_id, found in own.items()}


def _chunks(texts: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(texts), 4096):
        yield texts[start : start + 4096].to_pylist()


def _of_distinct_text(rows: list[int], keys: np.ndarray) -> tuple[int, ...]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(keys[row]), row)
    return tuple(first.values())
