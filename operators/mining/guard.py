"""A guard against false negatives: a teacher's score says which negatives may be relevant after all."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator
from scipy.special import expit

from ray_rerank.operators.mining.negatives import Negative
from ray_rerank.operators.mining.sources import Source
from ray_rerank.operators.scorers.config import ScoreMeaning
from ray_rerank.operators.scorers.registry import ScorerConfig

View = Literal["sigmoid", "probability", "score"]
Bound = Literal["max_score", "absolute_margin", "relative_margin", "at_most"]

NO_SCORE, NO_POSITIVE = "no score", "no positive with a score"
"""Why a passage is refused where no bound does it."""

_VIEWS: dict[ScoreMeaning, View] = {"logit": "sigmoid", "log-probability": "probability", "other": "score"}
_LIMITS: dict[Bound, Callable[[float, float], float]] = {
    "max_score": lambda _, bound: bound,
    "absolute_margin": lambda positive, margin: positive - margin,
    "relative_margin": lambda positive, margin: positive - abs(positive) * margin,
    "at_most": lambda positive, share: positive - abs(positive) * (1 - share),
}
"""By bound, the highest score that it allows beside a positive's; a margin lies below a negative one too."""


class Guard(BaseModel):
    """Bounds on a negative's teacher score; one that passes any bound is left out and the next drawn takes its place.

    `absolute_margin`, `relative_margin` and `max_score` are those of sentence-transformers' `mine_hard_negatives`;
    `at_most` is TopK-PercPos of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831), that is 1 - `relative_margin`.
    The positive's score is that of the query's lowest positive. All sources are guarded, random passages too.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scorer: ScorerConfig
    view: View | None = Field(
        None,
        description="what the bounds are on; default: sigmoid of a logit, probability of a log-probability (monoT5), "
        "the score of all others",
    )
    absolute_margin: float | None = Field(None, ge=0, description="a negative lies so far below the positive")
    relative_margin: float | None = Field(None, ge=0, le=1, description="and so large a share of its size")
    at_most: float | None = Field(
        None, ge=0, le=1, description="the same as a share: 0.95 is a relative margin of 0.05"
    )
    max_score: float | None = Field(None, description="no negative scores more")
    pool: int = Field(4, ge=1, description="so many times each count are drawn for the guard to choose from")
    fallback: Literal["keep-lowest", "skip"] = Field(
        "skip",
        description="a query of which all is refused keeps the drawn passage with the lowest score, or has no negative",
    )

    @model_validator(mode="before")
    @classmethod
    def _has_a_teacher(cls, values: Any) -> Any:
        if isinstance(values, dict) and not values.get("scorer"):
            raise ValueError("a guard needs the teacher that scores: `scorer: {model: …}`, --guard.scorer.model")
        return values

    @model_validator(mode="after")
    def _bounds_go_together(self) -> Self:
        if not self.needs_positives and self.max_score is None:
            raise ValueError("a guard needs a bound: absolute_margin, relative_margin, at_most or max_score")
        shares = [share for share in (self.relative_margin, self.at_most) if share is not None]
        if shares and self.view == "score" and _VIEWS[self.scorer.score_meaning] != "score":
            raise ValueError("a share of a raw logit means nothing, since its zero is anywhere: leave `view` out")
        return self

    def seen(self, scores: np.ndarray) -> np.ndarray:
        """Raw scores of the teacher, float64 of n, as the bounds are on them."""
        view = self.view or _VIEWS[self.scorer.score_meaning]
        return scores if view == "score" else np.exp(scores) if view == "probability" else expit(scores)

    @property
    def needs_positives(self) -> bool:
        """Whether a bound is relative to a positive's score."""
        return any(name != "max_score" for name in self.bounds)

    @property
    def bounds(self) -> dict[Bound, float]:
        """Those that are set."""
        return {name: bound for name in _LIMITS if (bound := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class ScoredDraw:
    """One query's draws, and what the teacher says of them.

    Attributes:
        negatives: n, each source's in its order.
        scores: float of n, the teacher's raw scores; NaN where it gave none.
        positives: float of m, those of the query's positives.
    """

    negatives: Sequence[Negative]
    scores: np.ndarray
    positives: np.ndarray


@dataclass(frozen=True, slots=True)
class GuardOutcome:
    """What the guard made of one query's draws.

    Attributes:
        kept: of each source the first that are allowed, up to its count; or what the fallback kept.
        refused: those on the way to them, by source and by what refused them.
        fell_back: whether all were refused, and the lowest was kept.
    """

    kept: list[Negative]
    refused: Counter[tuple[int, str]]
    fell_back: bool = False


def refusals(guard: Guard, negatives: np.ndarray, positives: np.ndarray) -> list[str | None]:
    """By negative, the first that refuses it: NO_SCORE, NO_POSITIVE or a bound; None where it is allowed.

    Args:
        negatives: float of n, the teacher's raw scores; NaN where it gave none.
        positives: float of m, those of the query's positives.
    """
    found = positives[np.isfinite(positives)].astype(np.float64)
    if guard.needs_positives and not len(found):
        return [NO_POSITIVE] * len(negatives)
    positive = float(guard.seen(found).min()) if len(found) else 0.0
    limits = {name: _LIMITS[name](positive, bound) for name, bound in guard.bounds.items()}
    return [
        next((name for name, limit in limits.items() if score > limit), None) if np.isfinite(score) else NO_SCORE
        for score in guard.seen(negatives.astype(np.float64)).tolist()
    ]


def apply_guard(guard: Guard, sources: Sequence[Source], draw: ScoredDraw) -> GuardOutcome:
    """Choose among one query's draws."""
    left = [source.count for source in sources]
    kept, refused = list[Negative](), Counter[tuple[int, str]]()
    for negative, reason in zip(draw.negatives, refusals(guard, draw.scores, draw.positives), strict=True):
        if left[negative.source] and reason is None:
            left[negative.source] -= 1
            kept.append(negative)
        elif left[negative.source]:
            refused[negative.source, str(reason)] += 1
    if guard.fallback == "keep-lowest" and not kept and np.isfinite(draw.scores).any():
        return GuardOutcome([draw.negatives[int(np.nanargmin(draw.scores))]], refused, fell_back=True)
    return GuardOutcome(kept, refused)


def wanted_bound(guard: Guard, name: Bound, negatives: np.ndarray, positives: np.ndarray) -> float | None:
    """The strictest value of one bound that allows a query's lowest negative; None where there is none."""
    scored = [own[np.isfinite(own)].astype(np.float64) for own in (negatives, positives)]
    if not len(scored[0]) or (name != "max_score" and not len(scored[1])):
        return None
    lowest = float(guard.seen(scored[0]).min())
    if name == "max_score":
        return lowest
    positive = float(guard.seen(scored[1]).min())
    below = positive - lowest
    if below < 0 or (name != "absolute_margin" and positive == 0):
        return None
    share = below if name == "absolute_margin" else min(below / abs(positive), 1.0)
    return 1 - share if name == "at_most" else share
