"""Agreement of scores with labels: loss, correlation, order within the query."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.training.agreement import agreement, loss_value, share_ordered

finite = st.floats(-50, 50, width=32)


@given(st.lists(st.tuples(st.floats(0, 1, width=32), finite), min_size=1, max_size=30))
def test_losses_are_torchs(pairs: list[tuple[float, float]]) -> None:
    labels, scores = (np.array(side, dtype=np.float64) for side in zip(*pairs, strict=True))
    as_torch = torch.tensor(scores), torch.tensor(labels)
    assert loss_value(labels, scores, "mse") == pytest.approx(torch.nn.functional.mse_loss(*as_torch).item())
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(*as_torch).item()
    assert loss_value(labels, scores, "bce") == pytest.approx(entropy, abs=1e-9)


def test_order_counts_within_a_query_only_and_a_tie_is_half() -> None:
    labels = np.array([2.0, 1.0, 5.0, 4.0, 4.0])
    queries = np.array([0, 0, 1, 1, 1])
    assert share_ordered(labels, np.array([1.0, 0.0, -7.0, -8.0, -9.0]), queries) == 1.0
    assert share_ordered(labels, np.array([0.0, 1.0, -7.0, -8.0, -9.0]), queries) == pytest.approx(2 / 3)
    assert share_ordered(labels, np.array([0.0, 0.0, -7.0, -8.0, -9.0]), queries) == pytest.approx(2.5 / 3)


def test_rows_of_a_query_need_not_be_together() -> None:
    labels, scores = np.array([1.0, 9.0, 2.0]), np.array([1.0, 0.0, 2.0])
    assert share_ordered(labels, scores, np.array([4, 2, 4])) == 1.0


def test_what_cannot_be_compared_is_nan_and_not_a_number_made_up() -> None:
    one = agreement(np.array([1.0]), np.array([0.5]), np.array([0]), "mse")
    assert one.loss == 0.25
    assert math.isnan(one.correlation)
    assert math.isnan(one.ordered)
