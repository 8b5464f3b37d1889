"""Length-grouped batches: every row once, the same again from the same seed, hardly any padding."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.training.batches import length_grouped_batches


@given(st.lists(st.integers(0, 512), max_size=400), st.integers(1, 40), st.integers(0, 9), st.integers(0, 3))
def test_each_row_is_in_exactly_one_batch(lengths: list[int], size: int, seed: int, epoch: int) -> None:
    batches = length_grouped_batches(np.array(lengths, dtype=np.int64), size, seed, epoch)
    assert sorted(row for batch in batches for row in batch.tolist()) == list(range(len(lengths)))
    assert all(1 <= len(batch) <= size for batch in batches)
    assert len(batches) == -(-len(lengths) // size)


def test_seed_and_epoch_alone_decide_the_order() -> None:
    lengths = np.arange(1000) % 97
    again, first, second, other = (
        [batch.tolist() for batch in length_grouped_batches(lengths, 8, seed, epoch)]
        for seed, epoch in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    assert again == first
    assert first != second
    assert first != other


def test_padding_is_a_small_share_of_what_random_batches_have() -> None:
    lengths = np.random.default_rng(0).integers(10, 200, 5000)

    def padding(batches: list[np.ndarray]) -> int:
        return sum(int((lengths[rows].max() - lengths[rows]).sum()) for rows in batches)

    random = [np.arange(start, start + 32) for start in range(0, 4992, 32)]
    assert padding(length_grouped_batches(lengths, 32, 0, 0)) < 0.1 * padding(random)
