"""The losses a cross-encoder can be trained with: what each reads, and where its formula is from."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

LossName = Literal["bce", "mse", "margin-mse", "listnet", "lambda"]
Reads = Literal["pair", "triplet", "list"]


@dataclass(frozen=True, slots=True)
class TrainingLoss:
    """One loss over raw logits.

    Attributes:
        reads: a row of its training data: one (query, document) pair, a (positive, negative) triplet, or a
            query's list.
        gains: whether labels are gains of nDCG, which cannot be below zero.
        source: where the formula is from.
        make: sentence-transformers' module for it.
    """

    name: LossName
    reads: Reads
    gains: bool
    source: str
    make: Callable[["CrossEncoder"], Any]


def _bce(model: "CrossEncoder") -> Any:
    import torch
    from sentence_transformers.cross_encoder import losses

    return losses.BinaryCrossEntropyLoss(model, activation_fn=torch.nn.Identity())


def _mse(model: "CrossEncoder") -> Any:
    import torch
    from sentence_transformers.cross_encoder import losses

    return losses.MSELoss(model, activation_fn=torch.nn.Identity())


def _margin_mse(model: "CrossEncoder") -> Any:
    from sentence_transformers.cross_encoder import losses

    return losses.MarginMSELoss(model)


def _listnet(model: "CrossEncoder") -> Any:
    from sentence_transformers.cross_encoder import losses

    return losses.ListNetLoss(model, mini_batch_size=-1)  # all pairs of a step in one forward pass


def _lambda(model: "CrossEncoder") -> Any:
    from sentence_transformers.cross_encoder import losses

    return losses.LambdaLoss(model, mini_batch_size=-1)


LOSSES: dict[LossName, TrainingLoss] = {
    loss.name: loss
    for loss in (
        TrainingLoss("bce", "pair", False, "binary cross-entropy of the logit's sigmoid", _bce),
        TrainingLoss("mse", "pair", False, "squared error of the logit", _mse),
        TrainingLoss("margin-mse", "triplet", False, "Hofstätter et al. 2020, arXiv:2010.02666, eq. 2", _margin_mse),
        # Cross-entropy of two softmaxes: the KL divergence and a constant, so the same gradient.
        TrainingLoss("listnet", "list", False, "Cao et al. 2007, ListNet with top-one probabilities", _listnet),
        TrainingLoss("lambda", "list", True, "Wang et al. 2018, LambdaLoss, NDCG-Loss2++", _lambda),
    )
}
