"""Rankings by query: read from TREC run files, kept in the order that a ranking has."""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from operators.errors import InputError
from operators.faults import Fault, FaultSink, Reason
from operators.lines import Unusable, parse_lines, read_lines

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RankedList:
    """The documents of one query, best first.

    Attributes:
        doc_ids: distinct.
        scores: float64 of n; NaN where there is none.
        lines: int64 of n, where each stands in its file; 0 where it comes from none.
    """

    doc_ids: Sequence[str]
    scores: np.ndarray
    lines: np.ndarray


Run = dict[str, RankedList]
"""Ranked lists by query_id, in the order in which the queries first appear."""


@dataclass(slots=True)
class _Gathered:
    doc_ids: list[str]
    ranks: "array[int]"  # subscriptable from Python 3.12 on
    scores: "array[float]"
    lines: "array[int]"


def read_run(stream: IO[bytes], name: str, faults: FaultSink) -> tuple[Run, list[str]]:
    """Read a TREC run, `query_id Q0 doc_id rank score tag`, plain or gzip; queries need not be contiguous.

    Documents stand by falling score, ties by the run's own rank, then by doc_id. A document that a query
    names twice keeps its better place.

    Returns:
        The run, and the query_ids whose ranks contradict their scores.

    Raises:
        InputError: the file is not a TREC run, or holds no line.
    """
    gathered: dict[str, _Gathered] = {}
    same: dict[str, str] = {}  # one string a document, however many queries name it
    lines = read_lines(stream, name, faults)
    form = "a TREC run (query_id Q0 doc_id rank score tag)"
    for number, (query_id, doc_id, rank, score) in parse_lines(lines, _run_line, name, form, faults):
        found = gathered.get(query_id)
        if found is None:
            found = gathered[query_id] = _Gathered([], array("q"), array("d"), array("q"))
        found.doc_ids.append(same.setdefault(doc_id, doc_id))
        found.ranks.append(rank)
        found.scores.append(score)
        found.lines.append(number)
    if not gathered:
        raise InputError(f"{name} holds no line of {form}")
    run: Run = {}
    contradictory: list[str] = []
    for query_id in list(gathered):
        run[query_id], agrees = _ordered(query_id, gathered.pop(query_id), name, faults)
        if not agrees:
            contradictory.append(query_id)
    return run, contradictory


def cut(ranked: RankedList, depth: int | None) -> RankedList:
    """The first `depth` documents; all where None."""
    return RankedList(ranked.doc_ids[:depth], ranked.scores[:depth], ranked.lines[:depth])


def _ordered(query_id: str, found: _Gathered, name: str, faults: FaultSink) -> tuple[RankedList, bool]:
    order = sorted(range(len(found.doc_ids)), key=lambda i: (-found.scores[i], found.ranks[i], found.doc_ids[i]))
    seen: set[str] = set()
    kept: list[int] = []
    for i in order:
        doc_id = found.doc_ids[i]
        if doc_id in seen:
            faults.add(Fault(name, found.lines[i], Reason.DUPLICATE_DOC, "", query_id, doc_id))
        else:
            seen.add(doc_id)
            kept.append(i)
    ranks = np.asarray([found.ranks[i] for i in kept], dtype=np.int64)
    ranked = RankedList(
        [found.doc_ids[i] for i in kept],
        np.asarray([found.scores[i] for i in kept], dtype=np.float64),
        np.asarray([found.lines[i] for i in kept], dtype=np.int64),
    )
    return ranked, bool(np.all(ranks[1:] >= ranks[:-1]))


def _run_line(text: str) -> tuple[str, str, int, float]:
    columns = text.split()
    if len(columns) != 6:
        raise Unusable(f"{len(columns)} columns, not 6")
    query_id, _, doc_id, rank, score, _ = columns
    try:
        place = int(rank)
    except ValueError:
        raise Unusable(f"column 4, the rank, is {rank[:40]!r}") from None
    if abs(place) > _INT64_MAX:
        raise Unusable("column 4, the rank, has more than 64 bits")
    return query_id, doc_id, place, number(score, "column 5, the score,")


def number(text: str, what: str) -> float:
    """A finite score that 32 bits can hold.

    Raises:
        Unusable: it is not a number, or not finite as float32.
    """
    try:
        score = float(text)
    except ValueError:
        raise Unusable(f"{what} is {text[:40]!r}") from None
    if not math.isfinite(score) or abs(score) > _FLOAT32_MAX:
        raise Unusable(f"{what} is {text[:40]!r}, not a finite 32-bit number")
    return score
