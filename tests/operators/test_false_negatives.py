"""The guard's bounds, on logits and on their sigmoids."""

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from operators.false_negatives import Guard, allowed, first_allowed
from operators.negative_sources import BM25Source, RandomSource
from operators.negatives import Negative

SCORER = {"kind": "cross-encoder", "model": "m"}
NEGATIVES = np.array([-3.0, 0.0, 1.0, 2.9, np.nan])  # sigmoids .047 .5 .731 .948


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


def test_a_share_of_what_is_not_above_zero_allows_nothing() -> None:
    guard = Guard.model_validate({"scorer": {"kind": "bi-encoder", "model": "m"}, "at_most": 0.5})
    assert not allowed(guard, np.array([-0.9, -0.1]), np.array([-0.2])).any()


def test_without_a_scored_positive_a_margin_allows_nothing() -> None:
    guard = Guard.model_validate({"scorer": SCORER, "at_most": 0.95})
    assert not allowed(guard, NEGATIVES, np.array([np.nan])).any()


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
    kept, refused = first_allowed(guard, sources, drawn, scores, np.zeros(0))
    assert [negative.row for negative in kept] == [0, 2]
    assert refused == 3
