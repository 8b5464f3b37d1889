from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest

from ray_rerank.operators.candidates.read import read_candidates
from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA, Columns, Origin
from ray_rerank.operators.comparison.timing import LoadedStage, time_stages
from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.size import model_size
from ray_rerank.operators.scorers.base import Pointwise
from support.candidates import rows


class Counting(Pointwise):
    """Notes how many rows each call has."""

    precision = "fp32"

    def __init__(self, value: float = 0.0) -> None:
        self.calls: list[int] = []
        self._value = value

    def evaluate(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:  # type: ignore[override]
        self.calls.append(len(rows))
        return np.full(len(rows), self._value, np.float32)


def candidates(queries: int, depth: int) -> pa.Table:
    table = pa.Table.from_pylist(rows(queries, depth), schema=CANDIDATE_SCHEMA)
    return read_candidates(table, Columns(), Origin("made up"))[0]


def test_each_query_is_timed_alone_then_all_together_after_a_warm_up_that_does_not_count() -> None:
    scorer = Counting()
    took = time_stages([LoadedStage(scorer)], candidates(3, 5))
    assert scorer.calls == [5, 5, *[5, 5, 5], 15]
    assert took.alone.shape == (3,) and (took.alone > 0).all() and took.together > 0


def test_a_cascade_is_timed_as_it_ranks() -> None:
    first, second = Counting(), Counting()
    time_stages([LoadedStage(first, keep=2), LoadedStage(second)], candidates(3, 5))
    assert first.calls[-1] == 15 and second.calls[-1] == 6


def test_a_scorer_that_fails_has_no_time() -> None:
    with pytest.raises(ModelError, match="query 'q0': stage 1 gave a score that is not a finite number"):
        time_stages([LoadedStage(Counting(float("nan")))], candidates(1, 2))


def test_the_size_of_a_model_is_that_of_its_weights(cross_encoder: object) -> None:
    from transformers import AutoModelForSequenceClassification

    found = model_size(str(cross_encoder))
    model = AutoModelForSequenceClassification.from_pretrained(cross_encoder)
    assert found.parameters == sum(parameter.numel() for parameter in model.parameters())
    assert 4 * found.parameters < found.bytes < 4 * found.parameters + 20_000
