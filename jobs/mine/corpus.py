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
from ray_rerank.operators.formats.texts import Passages
from ray_rerank.operators.rejects import Reason, Reject, RejectLog


@dataclass(frozen=True, slots=True)
class Corpus:
    """What is mined in.

    Attributes:
        doc_ids: by row.
        keys: uint64 of n, `text_keys` of the texts.
    """

    passages: Passages
    doc_ids: list[str]
    keys: np.ndarray


@dataclass(frozen=True, slots=True)
class Asked:
    """One query: the rows of its positives, best grade first, and of what is judged relevant or is the query itself."""

    query_id: str
    query: str
    positives: tuple[int, ...]
    relevant: tuple[int, ...]


def load_corpus(path: str, rejects: RejectLog, notes: list[str]) -> Corpus:
    """Read the passages; `notes` is told how many have no text.

    Raises:
        InputError: there is none.
    """
    passages = load_passages(path, rejects)
    if not passages.row:
        raise InputError(f"{path}: holds no passage")
    if passages.empty:
        notes.append(f"{passages.empty:,} passages of {path} have no text")
    keys = np.concatenate([text_keys(chunk) for chunk in _chunks(passages.texts)])
    return Corpus(passages, list(passages.row), keys)


def judged(
    queries: dict[str, str],
    qrels: Qrels,
    corpus: Corpus,
    own: Mapping[str, tuple[int, ...]],
    queries_path: str,
    qrels_path: str,
    positive_grade: int,
    rejects: RejectLog,
    notes: list[str],
) -> list[Asked]:
    """The queries that have a positive with a text; the others are rejects, or not judged and a note.

    Args:
        own: by query, the rows of `own_rows`, which are no positives.

    Raises:
        InputError: there is none.
    """
    asked = []
    row = corpus.passages.row
    kept = judged_queries(queries, qrels, queries_path, qrels_path, notes)
    for query_id, query in kept.items():
        grades = sorted(qrels[query_id].items(), key=lambda item: -item[1])
        itself = own.get(query_id, ())
        relevant = (*(row[doc_id] for doc_id, grade in grades if grade >= 1 and doc_id in row), *itself)
        found = [doc_id for doc_id, grade in grades if grade >= positive_grade]
        for doc_id in found:
            if doc_id not in row:
                rejects.add(
                    Reject(qrels_path, 0, Reason.UNKNOWN_DOC, f"the positive {doc_id!r} has no text", query_id, doc_id)
                )
        rows = [row[doc_id] for doc_id in found if doc_id in row and row[doc_id] not in itself]
        positives = _of_distinct_text(rows, corpus.keys)
        if not positives:
            rejects.add(Reject(queries_path, 0, Reason.NO_POSITIVE, f"query_id {query_id!r}", query_id))
            continue
        asked.append(Asked(query_id, query, positives, relevant))
    if not asked:
        documents = {doc_id for query_id in kept for doc_id in qrels[query_id]}
        raise InputError(
            f"none of the queries of {queries_path} has a positive in {qrels_path} that has a text: of the "
            f"{len(documents)} documents judged for them {sum(doc_id in row for doc_id in documents)} are in the corpus"
        )
    return asked


def own_rows(queries: Mapping[str, str], rule: DropSelf, corpus: Corpus) -> dict[str, tuple[int, ...]]:
    """By query, the rows of the passages that are the query itself."""
    own = own_documents(queries, rule, named_texts(corpus.doc_ids, corpus.passages.texts))
    row = corpus.passages.row
    return {query_id: tuple(sorted(row[doc_id] for doc_id in found & row.keys())) for query_id, found in own.items()}


def _chunks(texts: pa.Array) -> Iterator[list[str]]:
    for start in range(0, len(texts), 4096):
        yield texts[start : start + 4096].to_pylist()


def _of_distinct_text(rows: list[int], keys: np.ndarray) -> tuple[int, ...]:
    first: dict[int, int] = {}
    for row in rows:
        first.setdefault(int(keys[row]), row)
    return tuple(first.values())
