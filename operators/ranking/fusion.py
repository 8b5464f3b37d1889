"""A stage's scores combined with those of the stage before, query by query."""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field


class WeightedFusion(BaseModel):
    """weight x normalised score + (1 - weight) x normalised score of the stage before."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["weighted"]
    weight: float = Field(0.5, ge=0, le=1, description="of this stage")
    normalise: Literal["min-max", "z-score"] = Field("min-max", description="over each query's candidates")


class ReciprocalRankFusion(BaseModel):
    """1 / (k + rank) + 1 / (k + rank in the stage before), ranks from 1 (Cormack, Clarke and Buettcher, SIGIR 2009)."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: Literal["reciprocal-rank"]
    k: int = Field(60, ge=0)


Fusion = Annotated[WeightedFusion | ReciprocalRankFusion, Field(discriminator="kind")]


@dataclass(frozen=True, slots=True)
class Order:
    """One order of candidates, each within its query.

    Attributes:
        score: float32 of n; NaN where a first stage gave none.
        rank: int64 of n, from 0.
    """

    score: np.ndarray
    rank: np.ndarray


def fuse(fusion: Fusion, query: np.ndarray, now: Order, before: Order) -> np.ndarray:
    """Combine this stage's order of candidates with the order of the stage before.

    Args:
        query: int64 of n, which query each candidate is of; the candidates of one query stand together.

    Returns:
        float64 of n, higher for better; NaN for all of a query whose earlier scores a weighted fusion lacks.
    """
    if isinstance(fusion, ReciprocalRankFusion):
        return np.asarray(1 / (fusion.k + now.rank + 1) + 1 / (fusion.k + before.rank + 1))
    first = np.flatnonzero(np.diff(query, prepend=query[:1] - 1))
    size = np.diff(first, append=len(query))

    def normalised(values: np.ndarray) -> np.ndarray:
        values = values.astype(np.float64)
        if fusion.normalise == "min-max":
            middle = np.minimum.reduceat(values, first)
            width = np.maximum.reduceat(values, first) - middle
        else:
            middle = np.add.reduceat(values, first) / size
            width = np.sqrt(np.add.reduceat((values - np.repeat(middle, size)) ** 2, first) / size)
        width = np.where(width == 0, 1.0, width)  # all scores alike: all become 0
        return np.asarray((values - np.repeat(middle, size)) / np.repeat(width, size))

    if not len(query):
        return np.zeros(0)
    return np.asarray(fusion.weight * normalised(now.score) + (1 - fusion.weight) * normalised(before.score))
