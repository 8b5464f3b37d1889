"""A model whose scores depend on their company is scored in batches of one length, or refused."""

import threading
import uuid
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.checkpoint import Checkpoint
from ray_rerank.operators.scorers import proof
from ray_rerank.operators.scorers.config import ModelConfig
from ray_rerank.operators.scorers.proof import TOLERANCE, LoadedModel, prove, try_out

CONFIG = ModelConfig(model="model")


def checkpoint(kind: str, content: str | None = None) -> Checkpoint:
    return Checkpoint(Path(), {"model_type": kind}, content or uuid.uuid4().hex)


class Model:
    """Scores by text lengths, `away` off where a row is padded (or, `always`, where it is in company)."""

    def __init__(self, budget: TokenBudget, away: float, always: bool = False) -> None:
        self.budget, self.away, self.always = budget, away, always

    def __call__(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        lengths = np.array([len("".join(row)) for row in rows])
        disturbed = lengths < lengths.max()
        if self.budget.equal_lengths:
            disturbed[:] = False
        if self.always and len(rows) > 1:
            disturbed[:] = True
        return (lengths / 100 + np.where(disturbed, self.away, 0)).astype(np.float32)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("texts", [2, 3])
def test_padding_that_changes_scores_means_batches_of_one_length(precision: str, texts: int) -> None:
    for away, equal in [(0.5, False), (2.0, True)]:
        budget = TokenBudget(100)
        prove(
            LoadedModel(CONFIG, checkpoint("bert"), precision, texts),
            Model(budget, away * TOLERANCE[precision]),
            budget,
        )
        assert budget.equal_lengths == equal


@pytest.mark.parametrize("away", [0.3, np.nan, np.inf])
def test_company_that_changes_scores_without_padding_is_refused(away: float) -> None:
    budget = TokenBudget(100)
    with pytest.raises(ModelError, match="its scores cannot be trusted"):
        prove(LoadedModel(CONFIG, checkpoint("bert"), "fp32"), Model(budget, away, always=True), budget)


def test_a_model_that_raises_is_refused_with_its_reason() -> None:
    def broken(rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        raise IndexError("index out of range in self")

    with pytest.raises(ModelError, match=r"cannot score a plain pair .*: index out of range in self"):
        prove(LoadedModel(CONFIG, checkpoint("bert"), "fp32"), broken, TokenBudget(100))


def test_an_architecture_known_for_it_is_not_asked() -> None:
    budget = TokenBudget(100)
    prove(LoadedModel(CONFIG, checkpoint("mobilebert"), "fp32"), Model(budget, 0), budget)
    assert budget.equal_lengths


def test_a_process_proves_a_model_once_and_another_anew() -> None:
    first, again, other = TokenBudget(100), TokenBudget(100), TokenBudget(100)
    prove(LoadedModel(CONFIG, checkpoint("bert", "one"), "fp32"), Model(first, 0.5), first)

    def never(rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        raise AssertionError

    prove(LoadedModel(CONFIG, checkpoint("bert", "one"), "fp32"), never, again)
    prove(LoadedModel(CONFIG, checkpoint("bert", "two"), "fp32"), Model(other, 0), other)
    assert (first.equal_lengths, again.equal_lengths, other.equal_lengths) == (True, True, False)


def test_a_model_that_does_not_come_back_is_refused_where_a_job_is_planned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof, "_PATIENCE_S", 0.1)
    returned = threading.Event()
    with pytest.raises(ModelError, match=r"did not score a plain pair within 0.1 s"):
        try_out(CONFIG, checkpoint("bert"), lambda: returned.wait(60))
    returned.set()
