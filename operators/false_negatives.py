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

    model_config = ConfigDict(frozen=True, extra="forbid")

    scorer: ScorerConfig
    view: Literal["sigmoid", "logit"] = Field(
        "sigmoid", description="what the bounds are on; shares of a score need one that is never negative"
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
        if self.view == "logit" and (self.relative_margin is not None or self.at_most is not None):
            raise ValueError("shares of a raw logit mean nothing, it may be negative: use `view: sigmoid`")
        return self

    @property
    def needs_positives(self) -> bool:
        """Whether a bound is relative to a positive's score."""
        return any(bound is not None for bound in (self.absolute_margin, self.relative_margin, self.at_most))


def allowed(guard: Guard, negatives: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """bool of n: which negatives keep every bound.

    Args:
        negatives: float of n, raw logits; NaN (not scored) is never allowed.
        positives: float of m, raw logits of the query's positives; with none that is finite, a bound relative
            to a positive allows nothing.
    """
    view = _sigmoid if guard.view == "sigmoid" else np.asarray
    scores, found = view(negatives.astype(np.float64)), positives[np.isfinite(positives)].astype(np.float64)
    kept = np.isfinite(scores)
    if guard.max_score is not None:
        kept &= scores <= guard.max_score
    if guard.needs_positives:
        lowest = view(found.min()) if len(found) else -np.inf
        if guard.absolute_margin is not None:
            kept &= scores <= lowest - guard.absolute_margin
        shares = [guard.at_most, None if guard.relative_margin is None else 1 - guard.relative_margin]
        for share in shares:
            if share is not None:
                kept &= scores <= lowest * share if len(found) else False
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
