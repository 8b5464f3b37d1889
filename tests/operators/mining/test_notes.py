"""What is told of a mining that came out short: each cause by its number, and advice that helps against it."""

import re
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.mining.guard import Guard, GuardOutcome, ScoredDraw, apply_guard
from ray_rerank.operators.mining.negatives import Negative
from ray_rerank.operators.mining.notes import guard_notes, shortage_notes
from ray_rerank.operators.mining.sources import BM25Source, RandomSource

SOURCES = [BM25Source(kind="bm25", count=2), RandomSource(kind="random", count=1)]
SCORER = {"kind": "bi-encoder", "model": "m"}


def draws(bm25: int, random: int) -> list[Negative]:
    return [Negative(row, 0.0, int(row >= bm25)) for row in range(bm25 + random)]


@pytest.mark.parametrize(
    ("drawn", "kept", "told"),
    [
        (draws(8, 4), [0, 0, 1], None),
        (draws(1, 4), [0, 1], "their ranks hold no more"),
        (draws(8, 0), [0, 0], "the corpus holds no more"),
        (draws(8, 4), [0, 1], "a larger `guard.pool` than 4"),
        (draws(8, 4), [1], "a larger pool would not help"),
        (draws(3, 4), [0, 1], "their ranks hold no more"),
    ],
)
def test_advice_fits_the_cause(drawn: list[Negative], kept: list[int], told: str | None) -> None:
    guard = Guard.model_validate({"scorer": SCORER, "max_score": 0})
    chosen = GuardOutcome([Negative(0, 0.0, source) for source in kept], Counter())
    notes = shortage_notes(SOURCES, [drawn], [chosen], guard)
    assert bool(notes) == (told is not None)
    if told:
        assert told in notes[0] and notes[0].count("in 1: ") == 1


def test_what_the_fallback_kept_is_no_reason_for_a_larger_pool() -> None:
    guard = Guard.model_validate({"scorer": SCORER, "max_score": 0, "fallback": "keep-lowest"})
    (told,) = shortage_notes(
        SOURCES, [draws(8, 4)], [GuardOutcome([Negative(0, 0.0, 0)], Counter(), fell_back=True)], guard
    )
    assert "a larger pool would not help" in told and "guard.pool" not in told and "none" not in told


def note(bound: str, value: float, queries: Any, fallback: str = "skip") -> str:
    """The note on queries of (positive, scores) by a guard with one bound."""
    guard = Guard.model_validate({"scorer": SCORER, bound: value, "fallback": fallback})
    scored = [ScoredDraw(draws(len(own), 0), np.array(own), np.array([positive])) for positive, own in queries]
    outcomes = [apply_guard(guard, SOURCES, draw) for draw in scored]
    return "\n".join(guard_notes(guard, SOURCES, scored, outcomes))


numbers = st.floats(-1, 1).map(lambda value: round(value, 3))


@given(
    st.sampled_from([("max_score", 0.1), ("absolute_margin", 0.5), ("relative_margin", 0.3), ("at_most", 0.2)]),
    st.lists(st.tuples(numbers, st.lists(numbers, min_size=1, max_size=4)), min_size=1, max_size=6),
)
def test_the_value_that_is_proposed_helps_as_many_queries_as_it_says(bound: Any, queries: Any) -> None:
    told = note(*bound, queries)
    lost = re.search(r"all that was drawn for (\d+) of (\d+) queries", told)
    assert (lost is None) == ("fallback" not in told)
    if found := re.search(r"`guard\.(\w+): (\S+)` in place of (\S+) would allow a passage in (\d+)", told):
        assert lost and found[1] == bound[0] and float(found[3]) == bound[1]
        again = re.search(r"all that was drawn for (\d+) of", note(bound[0], float(found[2]), queries))
        left = int(again[1]) if again else 0
        assert int(lost[1]) - left == int(found[4]) >= 1
    elif lost:
        assert f"no value of `guard.{bound[0]}`" in told


def test_refusals_are_told_by_source_and_reason_and_what_was_kept_by_the_fallback() -> None:
    queries = [(0.5, [0.9, np.nan, 0.45]), (0.5, [0.1, 0.2])]
    told = note("at_most", 0.5, queries)
    assert "bm25: 3 refused (2 x at_most, 1 x no score), 2 kept" in told
    assert "`guard.fallback: keep-lowest` gives each" in told and "`guard.at_most: 0.9`" in told
    assert "1 keep the passage with the lowest score" in note("at_most", 0.5, queries, "keep-lowest")
    assert "which no bound changes" in note("at_most", 0.5, [(np.nan, [0.1])])
