"""How well scores agree with labels: the loss, the correlation, and the order within each query."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ray_rerank.operators.training.losses import LossName


@dataclass(frozen=True, slots=True)
class Agreement:
    """`loss` as in training (nan for the losses over a query's rows); `correlation` is Pearson's r over all pairs
    (nan where either side is constant); `ordered` is the share of same-query pairs with different labels that
    the scores put in the labels' order, a tie counting half (nan where there is no such pair)."""

    loss: float
    correlation: float
    ordered: float


def agreement(
    labels: NDArray[np.float64], scores: NDArray[np.float64], queries: NDArray[np.int64], loss: LossName
) -> Agreement:
    """Compare raw logits with labels, all of shape `(pairs,)`; `queries` numbers each pair's query."""
    varied = len(labels) > 1 and labels.std() > 0 and scores.std() > 0
    return Agreement(
        loss=loss_value(labels, scores, loss),
        correlation=float(np.corrcoef(labels, scores)[0, 1]) if varied else float("nan"),
        ordered=share_ordered(labels, scores, queries),
    )


def loss_value(labels: NDArray[np.float64], scores: NDArray[np.float64], loss: LossName) -> float:
    """Mean squared error of the logits, or binary cross-entropy of their sigmoid (in its stable form); else nan."""
    if loss == "mse":
        return float(np.mean((scores - labels) ** 2))
    if loss != "bce":
        return float("nan")
    return float(np.mean(np.maximum(scores, 0) - scores * labels + np.log1p(np.exp(-np.abs(scores)))))


def share_ordered(labels: NDArray[np.float64], scores: NDArray[np.float64], queries: NDArray[np.int64]) -> float:
    """The share of same-query pairs with different labels that scores put in the same order, ties half."""
    agreeing, comparable = 0.0, 0
    order = np.argsort(queries, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(queries[order])) + 1):
        first, second = np.triu_indices(len(rows), k=1)
        wanted = np.sign(labels[rows][first] - labels[rows][second])
        given = np.sign(scores[rows][first] - scores[rows][second])
        told = wanted != 0
        comparable += int(told.sum())
        agreeing += float(((wanted * given)[told] + 1).sum() / 2)
    return agreeing / comparable if comparable else float("nan")
