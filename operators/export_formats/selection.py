"""Which documents of a labelled query are positives and which negatives, and which of these are taken."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xxhash

Positives = Literal["auto", "labels", "best"]
Tuples = Literal["margins", "scores"]

NO_POSITIVE = "query without a positive"
NO_NEGATIVE = "query without a negative"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What the user asks for.

    Attributes:
        positives: `labels`: documents with a label above 0; `best`: the one with the teacher's best score; `auto`:
            labels for a query that has any, else best. All other documents of the query are negatives.
        negatives: how many, drawn without replacement; None takes all.
        min_margin: the least by which the teacher puts a positive above a negative: a guard against false negatives.
        seed: of the draw, which depends on it and the ids alone.
        tuples: of margin-mse: the labels of (query, positive, negative_1..n) rows; None writes triplets.
        integer_ids: of ms-marco: ids as numbers.
    """

    positives: Positives = "auto"
    negatives: int | None = None
    min_margin: float | None = None
    seed: int = 0
    tuples: Tuples | None = None
    integer_ids: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A labelled document; `label` and `source` are None where nothing is known."""

    doc_id: str
    text: str
    score: float
    label: float | None
    source: str | None


@dataclass(frozen=True, slots=True)
class LabelledQuery:
    """A query and its documents, the teacher's best first; never empty."""

    query_id: str
    query: str
    documents: tuple[Document, ...]


def split(group: LabelledQuery, choice: ExportOptions) -> tuple[list[Document], list[Document]]:
    """The positives and the negatives, each in the teacher's order."""
    known = any(document.label is not None for document in group.documents)
    if choice.positives == "best" or (choice.positives == "auto" and not known):
        return list(group.documents[:1]), list(group.documents[1:])
    positives = [document for document in group.documents if (document.label or 0) > 0]
    return positives, [document for document in group.documents if not (document.label or 0) > 0]


def by_positive(
    group: LabelledQuery, choice: ExportOptions, left_out: Counter[str], whole: bool = False
) -> Iterator[tuple[Document, list[Document]]]:
    """Each positive with its own draw of negatives.

    Args:
        whole: leave out a positive that has fewer negatives than were asked for.
    """
    positives, negatives = split(group, choice)
    if not positives or not negatives:
        left_out[NO_NEGATIVE if positives else NO_POSITIVE] += 1
        return
    for positive in positives:
        drawn = _draw(group, positive.doc_id, _far_enough(negatives, positive.score, choice), choice)
        if not drawn:
            left_out[f"positive without a negative {choice.min_margin:g} below it"] += 1
        elif whole and choice.negatives is not None and len(drawn) < choice.negatives:
            left_out[f"positive with fewer than {choice.negatives} negatives"] += 1
        else:
            yield positive, drawn


def together(
    group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]
) -> tuple[list[Document], list[Document]] | None:
    """All positives with one draw of negatives, any two of which are far enough apart; None where one side is empty."""
    positives, negatives = split(group, choice)
    if positives and negatives:
        drawn = _draw(group, "", _far_enough(negatives, positives[-1].score, choice), choice)
        if drawn:
            return positives, drawn
        left_out[f"query without a negative {choice.min_margin:g} below its lowest positive"] += 1
    else:
        left_out[NO_NEGATIVE if positives else NO_POSITIVE] += 1
    return None


def taken(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> list[Document]:
    """For forms that need no positive: all documents, or what `together` takes where negatives are chosen."""
    if choice.negatives is None and choice.min_margin is None:
        return list(group.documents)
    chosen = together(group, choice, left_out)
    return sorted([*chosen[0], *chosen[1]], key=lambda document: -document.score) if chosen else []


def _far_enough(negatives: list[Document], score: float, choice: ExportOptions) -> list[Document]:
    if choice.min_margin is None:
        return negatives
    return [document for document in negatives if score - document.score >= choice.min_margin]


def _draw(group: LabelledQuery, positive: str, negatives: list[Document], choice: ExportOptions) -> list[Document]:
    if choice.negatives is None or len(negatives) <= choice.negatives:
        return negatives
    seed = xxhash.xxh3_64_intdigest(f"{choice.seed}\0{group.query_id}\0{positive}".encode())
    by_id = np.argsort([document.doc_id for document in negatives], kind="stable")
    drawn = np.random.default_rng(seed).choice(by_id, choice.negatives, replace=False)
    return [negatives[index] for index in sorted(drawn.tolist())]
