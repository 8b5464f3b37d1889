"""A guard against false negatives: a teacher's score says which negatives may be relevant after all."""

from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from operators.negative_sources import Source
from operators.negatives import Negative
from operators.scorers import ScorerConfig


class Guard(BaseModel):
    """Bounds on a negative's teacher score; one that passes any bound is left out and the next drawn takes its place.

    `absolute_margin`, `relative_margin` and `max_score` are those of sentence-transformers' `mine_hard_negatives`;
    `at_most` is TopK-PercPos of NV-Retriever (Moreira et al. 2024, arXiv 2407.15831), that is 1 - `relative_margin`.
    The positive's score is that of the query's lowest positive.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    scorer: ScorerConfig
    view: Literal["sigmoid", "probability", "score"] | None = Field(
        None,
        description="what the bounds are on; default: sigmoid of a logit, probability of a log-probability (monoT5), "
        "the score of all others",
    )
    absolute_margin: float | None = Field(None, ge=0, description="a negative lies so far below the positive")
    relative_margin: float | None = Field(None, ge=0, le=1, description="and at most (1 - this) x the positive's score")
    at_most: float | None = Field(
        None, ge=0, le=1, description="the same as a share: 0.95 is a relative margin of 0.05"
    )
    max_score: float | None = Field(None, description="no negative scores more")
    pool: int = Field(4, ge=1, description="so many times each count are drawn for the guard to choose from")

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
        if shares and self.view == "score" and _meaning(self.scorer) != "score":
            raise ValueError("shares of a raw logit mean nothing, it may be negative: leave `view` out")
        return self

    def seen(self, scores: np.ndarray) -> np.ndarray:
        """Raw scores of the teacher, float64 of n, as the bounds are on them."""
        view = self.view or _meaning(self.scorer)
        return scores if view == "score" else np.exp(scores) if view == "probability" else _sigmoid(scores)

    @property
    def needs_positives(self) -> bool:
        """Whether a bound is relative to a positive's score."""
        return any(bound is not None for bound in (self.absolute_margin, self.relative_margin, self.at_most))


def _meaning(scorer: ScorerConfig) -> Literal["sigmoid", "probability", "score"]:
    """What turns a family's score into a share of one: a logit, a log-probability, or something else."""
    reduction = getattr(scorer, "reduction", None) if scorer.kind in {"monot5", "rankt5"} else None
    if scorer.kind == "cross-encoder" or reduction in {"logit", "difference"}:
        return "sigmoid"
    return "probability" if reduction == "log_softmax" else "score"


def allowed(guard: Guard, negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """bool of n: which negatives keep every bound.

    Args:
        negatives: float of n, the teacher's raw scores; NaN (not scored) is never allowed.
        positives: float of m, those of the query's positives; with none that is finite, a bound relative to a
            positive allows nothing, and neither does a share of one that is not above zero.
    """
    scores, found = guard.seen(negatives.astype(np.float64)), positives[np.isfinite(positives)].astype(np.float64)
    kept = np.isfinite(scores)
    if guard.max_score is not None:
        kept &= scores <= guard.max_score
    if guard.needs_positives:
        lowest = float(guard.seen(found).min()) if len(found) else -np.inf
        if guard.absolute_margin is not None:
            kept &= scores <= lowest - guard.absolute_margin
        shares = [guard.at_most, None if guard.relative_margin is None else 1 - guard.relative_margin]
        for share in shares:
            if share is not None:
                kept &= scores <= lowest * share if lowest > 0 else False
    return np.asarray(kept)


def first_allowed(
    guard: Guard, sources: Sequence[Source], drawn: Sequence[Negative], scores: np.ndarray, positives: np.ndarray
) -> tuple[list[Negative], int]:
    """Of one query's draws the first of each source that are allowed, up to its count.

    Args:
        drawn: of n, each source's in its order.
        scores: float of n, their raw logits.
        positives: float of m, raw logits of the query's positives.

    Returns:
        Those that are kept, and how many were refused on the way to them.
    """
    left = [source.count for source in sources]
    kept, refused = [], 0
    for negative, fine in zip(drawn, allowed(guard, scores, positives).tolist(), strict=True):
        if left[negative.source] and fine:
            left[negative.source] -= 1
            kept.append(negative)
        elif left[negative.source]:
            refused += 1
    return kept, refused


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))
