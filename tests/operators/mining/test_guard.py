"""The guard's bounds, on logits and on their sigmoids."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ray_rerank.operators.mining.guard import (
    NO_POSITIVE,
    NO_SCORE,
    Guard,
    ScoredDraw,
    apply_guard,
    refusals,
    wanted_bound,
)
from ray_rerank.operators.mining.negatives import Negative
from ray_rerank.operators.mining.sources import BM25Source, RandomSource

SCORER = {"kind": "cross-encoder", "model": "m"}
NEGATIVES = np.array([-3.0, 0.0, 1.0, 2.9, np.nan])  # sigmoids .047 .5 .731 .948


def allowed(guard: Guard, negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    return np.array([reason is None for reason in refusals(guard, negatives, positives)])


@pytest.mark.parametrize(
    ("bounds", "kept"),
    [
        ({"max_score": 0.6}, [True, True, False, False, False]),
        ({"max_score": 0.0, "view": "score"}, [True, True, False, False, False]),
        ({"absolute_margin": 0.2}, [True, True, True, False, False]),  # sigmoid(3) = .953
        ({"absolute_margin": 2.5, "view": "score"}, [True, True, False, False, False]),
        ({"relative_margin": 0.4}, [True, True, False, False, False]),  # .572
        ({"at_most": 0.95}, [True, True, True, False, False]),  # .905
    ],
)
def test_each_bound_is_held_against_the_lowest_positive(bounds: dict[str, Any], kept: list[bool]) -> None:
    guard = Guard.model_validate({"scorer": SCORER} | bounds)
    assert allowed(guard, NEGATIVES, np.array([8.0, 3.0, np.nan])).tolist() == kept


@pytest.mark.parametrize(
    ("scorer", "bounds", "positive", "kept"),
    [
        ({"kind": "monot5"}, {"at_most": 0.5}, np.log(0.9), np.log([0.01, 0.4, 0.5])),
        ({"kind": "monot5"}, {"max_score": 0.45}, np.log(0.9), np.log([0.01, 0.4, 0.5])),
        ({"kind": "rankt5"}, {"max_score": 0.6}, 5.0, [-3.0, 0.0, 1.0]),
        ({"kind": "rankt5", "form": "digits"}, {"at_most": 0.5}, 8.0, [0.0, 4.0, 4.1]),
        ({"kind": "bi-encoder"}, {"at_most": 0.5}, 0.8, [-0.2, 0.39, 0.41]),
        ({"kind": "bi-encoder"}, {"absolute_margin": 0.1}, 0.8, [-0.2, 0.7, 0.75]),
    ],
)
def test_a_bound_is_on_what_the_teachers_score_means(
    scorer: dict[str, Any], bounds: dict[str, Any], positive: float, kept: Any
) -> None:
    guard = Guard.model_validate({"scorer": scorer | {"model": "m"}} | bounds)
    assert allowed(guard, np.asarray(kept), np.array([positive])).tolist() == [True, True, False]


BI_ENCODER = {"kind": "bi-encoder", "model": "m"}
shares, similarities = st.floats(0, 1), st.floats(-1, 1)


@given(similarities, st.lists(similarities, min_size=1), shares)
def test_a_margin_lies_below_the_positive_whatever_its_sign(positive: float, scores: list[float], share: float) -> None:
    found = np.array(scores)
    margin = Guard.model_validate({"scorer": BI_ENCODER, "relative_margin": share})
    kept = allowed(margin, found, np.array([positive]))
    assert kept.tolist() == [score <= positive - abs(positive) * share for score in scores]
    same = Guard.model_validate({"scorer": BI_ENCODER, "at_most": 1 - share})
    near = np.abs(found - (positive - abs(positive) * share)) < 1e-9
    assert (allowed(same, found, np.array([positive])) == kept)[~near].all()


BOUNDS = st.sampled_from(["max_score", "absolute_margin", "relative_margin", "at_most"])


@given(BOUNDS, st.lists(similarities, min_size=1), st.lists(similarities, min_size=1))
def test_the_wanted_bound_is_the_strictest_that_allows_a_negative(
    name: Any, negatives: list[float], positives: list[float]
) -> None:
    guard = Guard.model_validate({"scorer": BI_ENCODER, name: 0.5})
    scores, own = np.array(negatives), np.array(positives)
    value = wanted_bound(guard, name, scores, own)
    if value is None:
        assert not allowed(guard.model_copy(update={name: 1.0 if name == "at_most" else 0.0}), scores, own).any() or (
            min(positives) == 0
        )
        return
    looser = 1e-6 if name in {"max_score", "at_most"} else -1e-6
    assert allowed(guard.model_copy(update={name: value + looser}), scores - 1e-9, own).any()
    if value not in (0.0, 1.0):
        assert not allowed(guard.model_copy(update={name: value - looser}), scores + 1e-9, own).any()


def test_without_a_scored_positive_a_margin_allows_nothing() -> None:
    guard = Guard.model_validate({"scorer": SCORER, "at_most": 0.95})
    assert refusals(guard, NEGATIVES, np.array([np.nan])) == [NO_POSITIVE] * 5
    assert refusals(guard, NEGATIVES, np.array([8.0]))[-1] == NO_SCORE


def test_a_guard_without_a_bound_and_a_share_of_a_logit_are_refused() -> None:
    with pytest.raises(ValidationError, match="needs a bound"):
        Guard.model_validate({"scorer": SCORER})
    with pytest.raises(ValidationError, match="raw logit"):
        Guard.model_validate({"scorer": SCORER, "at_most": 0.9, "view": "score"})


def test_the_next_draw_of_the_same_source_takes_the_place_of_a_refused_one() -> None:
    guard = Guard.model_validate({"scorer": SCORER, "max_score": 0.0, "view": "score"})
    sources = [BM25Source(kind="bm25", count=2), RandomSource(kind="random", count=1)]
    drawn = [Negative(row, 0.0, source) for row, source in enumerate([0, 0, 0, 0, 1, 1])]
    scores = np.array([-1.0, 2.0, -2.0, -3.0, np.nan, 5.0])
    chosen = apply_guard(guard, sources, ScoredDraw(drawn, scores, np.zeros(0)))
    assert [negative.row for negative in chosen.kept] == [0, 2]
    assert chosen.refused == {(0, "max_score"): 1, (1, "max_score"): 1, (1, NO_SCORE): 1}


@pytest.mark.parametrize("fallback", ["keep-lowest", "skip"])
@pytest.mark.parametrize(
    ("scores", "lowest"), [([3.0, 1.0, 2.0], 1), ([np.nan, 2.0, 2.0], 1), ([np.nan] * 3, None), ([], None)]
)
def test_the_fallback_decides_on_a_query_of_which_all_is_refused(
    fallback: str, scores: list[float], lowest: int | None
) -> None:
    guard = Guard.model_validate({"scorer": SCORER, "max_score": 0.0, "view": "score", "fallback": fallback})
    sources = [BM25Source(kind="bm25", count=2)]
    drawn = [Negative(row, 0.0, 0) for row in range(len(scores))]
    chosen = apply_guard(guard, sources, ScoredDraw(drawn, np.array(scores), np.zeros(0)))
    expected = [lowest] if fallback == "keep-lowest" and lowest is not None else []
    assert [negative.row for negative in chosen.kept] == expected and chosen.fell_back == bool(expected)
    more = ScoredDraw([*drawn, Negative(9, 0.0, 0)], np.array([*scores, -1.0]), np.zeros(0))
    some = apply_guard(guard, sources, more)
    assert [negative.row for negative in some.kept] == [9] and not some.fell_back
