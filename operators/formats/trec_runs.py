"""Rankings by query: read from run files, kept in the order that a ranking has."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import IO

import numpy as np
import pyarrow as pa

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.cells import identifier, iteration, number, whole
from ray_rerank.operators.formats.column_files import DOC_ID, QUERY_ID, Form, read_columns
from ray_rerank.operators.formats.file_kinds import TREC_RUN
from ray_rerank.operators.formats.line_ids import fits_columns, unfit
from ray_rerank.operators.formats.lines import read_lines
from ray_rerank.operators.rejects import Reason, Reject, RejectSink

_TREC = ("query_id", "", "doc_id", "rank", "score", "")
_SURELY = 3  # a list of two may stand upside down by chance


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


@dataclass(frozen=True, slots=True)
class ReadRun:
    """What a file of a run holds.

    Attributes:
        contradictory: the query_ids whose ranks contradict their scores.
        layout: what was read from each column; empty where it was passed over.
    """

    run: Run
    contradictory: tuple[str, ...]
    layout: tuple[str, ...]

    def notes(self, name: str) -> list[str]:
        """What is to be told: of columns that are not TREC's six, of ranks that are not followed."""
        notes = []
        if self.layout != _TREC:
            notes.append(f"{name}: its columns are read as {' '.join(column or '-' for column in self.layout)}")
        if self.contradictory:
            notes.append(
                f"{name}: the ranks of {len(self.contradictory)} queries contradict their scores "
                f"(first {self.contradictory[0]!r}); the order is that of the scores"
            )
        return notes


@dataclass(slots=True)
class _Gathered:
    doc_ids: list[str]
    ranks: "array[int]"  # subscriptable from Python 3.12 on
    scores: "array[float]"
    lines: "array[int]"


@dataclass(slots=True)
class _Doubts:
    """Whether ranks and scores are what their columns should be.

    Attributes:
        opposite: in every query the best scores have the worst ranks.
        exchanged: in every query the scores count as ranks do, and the ranks do not.
        longest: how many documents the longest list has.
    """

    opposite: bool = True
    exchanged: bool = True
    longest: int = 0

    def hear(self, scores: np.ndarray, ranks: np.ndarray) -> None:
        """Take one query into account: its scores, best first, and the ranks that stand beside them."""
        self.opposite = self.opposite and bool(np.all(ranks[1:] < ranks[:-1]))
        self.exchanged = self.exchanged and _count(scores) and scores.min() in (0, 1) and not _count(ranks)
        self.longest = max(self.longest, len(ranks))

    def check(self, name: str) -> None:
        """Raise InputError where they are not."""
        if self.longest < _SURELY or not (self.opposite or self.exchanged):
            return
        seen = (
            "the best scores have the worst ranks" if self.opposite else "the scores are 1, 2, 3, … and the ranks not"
        )
        raise InputError(
            f"{name}: in every query {seen}; say what orders it by a first line that names the columns, one of them "
            "the rank or the score (query_id Q0 doc_id rank x tag)"
        )


def read_run(stream: IO[bytes], name: str, rejects: RejectSink) -> ReadRun:
    """Read a run: TREC's six columns; five, without Q0, tag or rank; four (query_id doc_id rank score); three, with a
    rank or a score; any columns in any order under a line of names. Queries need not be contiguous.

    Documents stand by falling score, ties by the run's own rank, then by doc_id; where there is no score, by rank. A
    document that a query names twice keeps its better place.

    Raises:
        InputError: the file is no run, or holds no line; there are only ranks, and they are no order; or all ranks
            contradict their scores.
    """
    gathered: dict[str, _Gathered] = {}
    same: dict[str, str] = {}  # one string a document, however many queries name it
    layout, rows = read_columns(read_lines(stream, name, rejects), name, _FORM, rejects)
    scored, placed = "score" in layout, "rank" in layout
    for line, row in rows:
        found = gathered.get(row["query_id"])
        if found is None:
            found = gathered[row["query_id"]] = _Gathered([], array("q"), array("d"), array("q"))
        found.doc_ids.append(same.setdefault(row["doc_id"], row["doc_id"]))
        found.ranks.append(row["rank"] if placed else 0)
        found.scores.append(row["score"] if scored else math.nan)
        found.lines.append(line)
    if not gathered:
        raise InputError(f"{name} holds no line; it should be {_FORM.words}")
    if not scored:
        _check_ranks(gathered, name)
    run: Run = {}
    contradictory: list[str] = []
    doubts = _Doubts()
    for query_id in list(gathered):
        run[query_id], ranks = _ordered(query_id, gathered.pop(query_id), name, rejects)
        if placed and scored:
            doubts.hear(run[query_id].scores, ranks)
            if np.any(ranks[1:] < ranks[:-1]):
                contradictory.append(query_id)
    doubts.check(name)
    return ReadRun(run, tuple(contradictory), layout)


def cut(ranked: RankedList, depth: int | None) -> RankedList:
    """The first `depth` documents; all where None."""
    return RankedList(ranked.doc_ids[:depth], ranked.scores[:depth], ranked.lines[:depth])


def _ordered(query_id: str, found: _Gathered, name: str, rejects: RejectSink) -> tuple[RankedList, np.ndarray]:
    """The list in its order, and its ranks as the file has them."""

    def place(row: int) -> tuple[float, int, str]:
        score = found.scores[row]
        return -score if score == score else 0.0, found.ranks[row], found.doc_ids[row]

    order = sorted(range(len(found.doc_ids)), key=place)
    seen: set[str] = set()
    kept: list[int] = []
    for i in order:
        doc_id = found.doc_ids[i]
        if doc_id in seen:
            rejects.add(Reject(name, found.lines[i], Reason.DUPLICATE_DOC, "", query_id, doc_id))
        else:
            seen.add(doc_id)
            kept.append(i)
    ranks = np.asarray([found.ranks[i] for i in kept], dtype=np.int64)
    ranked = RankedList(
        [found.doc_ids[i] for i in kept],
        np.asarray([found.scores[i] for i in kept], dtype=np.float64),
        np.asarray([found.lines[i] for i in kept], dtype=np.int64),
    )
    return ranked, ranks


def _count(values: np.ndarray) -> bool:
    """Whether they are whole numbers one after the other, in any order."""
    found = np.sort(values)
    return bool(np.array_equal(found, found[0] + np.arange(len(found))) and found[0] == np.floor(found[0]))


def _check_ranks(gathered: Mapping[str, _Gathered], name: str) -> None:
    """Where nothing but ranks gives the order they must be ranks: scores and grades look like them.

    Raises:
        InputError: two documents of a query have the same, none begins at 0 or 1, or all fall from line to line.
    """
    many = "name the columns in a first line (query_id doc_id score) where it is a score"
    falling, longest, lowest = True, 0, math.inf
    for query_id, found in gathered.items():
        ranks = found.ranks
        if len({*ranks}) < len({*zip(ranks, found.doc_ids, strict=True)}):
            raise InputError(
                f"{name} holds ranks and no scores, and query {query_id!r} has two documents of the same rank: "
                f"is it a file of judgements? {many}"
            )
        falling = falling and all(after < before for before, after in pairwise(ranks))
        longest, lowest = max(longest, len(ranks)), min(lowest, min(ranks))
    if lowest not in (0, 1):
        raise InputError(f"{name}: its last column should be ranks, and the lowest is {lowest}, not 0 or 1; {many}")
    if falling and longest >= _SURELY:
        raise InputError(f"{name}: its last column should be ranks, and falls from line to line; {many}")


_FORM = Form(
    words=TREC_RUN,
    layouts=(
        _TREC,
        ("query_id", "iteration", "doc_id", "rank", "score"),
        ("query_id", "doc_id", "rank", "score", "tag"),
        ("query_id", "iteration", "doc_id", "score", "tag"),
        ("query_id", "doc_id", "rank", "score"),
        ("query_id", "doc_id", "rank"),
        ("query_id", "doc_id", "score"),
    ),
    names={
        "query_id": QUERY_ID,
        "doc_id": DOC_ID,
        "rank": frozenset({"rank", "position"}),
        "score": frozenset({"score"}),
    },
    values={
        "query_id": identifier,
        "doc_id": identifier,
        "rank": whole,
        "score": number,
        "iteration": iteration,
        "tag": identifier,
    },
    enough=("score", "rank"),
    mistaken=(
        ("query_id", "", "doc_id", "score", "rank", ""),
        ("query_id", "iteration", "doc_id", "score", "rank"),
        ("query_id", "doc_id", "score", "rank", "tag"),
        ("query_id", "doc_id", "score", "rank"),
    ),
)


def run_lines(ranking: pa.Table, name: str, rejects: RejectSink, tag: str = "ray-rerank") -> str:
    """Lines of `query_id Q0 doc_id rank score tag`.

    trec_eval orders by score and ignores rank, and scores of different stages do not compare; so the score
    column counts down from the length of the list to 1. The raw logits stay in the Parquet files.

    Args:
        ranking: rows of `query_id, ranking`, as `ray_rerank.operators.ranking.rerank.to_ranking` writes them.
        name: what messages call the run.
        rejects: is told of a document whose line would be read as another or as none; the others keep their ranks.
        tag: the run's name.
    """
    lines = []
    for row in ranking.select(["query_id", "ranking"]).to_pylist():
        query_id, depth = row["query_id"], len(row["ranking"])
        for candidate in row["ranking"]:
            doc_id, rank = candidate["doc_id"], candidate["rank"]
            if fits_columns(query_id, doc_id):
                lines.append(f"{query_id} Q0 {doc_id} {rank} {depth - rank + 1} {tag}\n")
            else:
                rejects.add(unfit(name, query_id, doc_id))
    return "".join(lines)
