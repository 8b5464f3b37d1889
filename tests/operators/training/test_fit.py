"""What several processes read of an epoch: other rows each, as many batches, and another part of the rows next time."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("sentence_transformers")
from accelerate.data_loader import prepare_data_loader, skip_first_batches
from torch.utils.data import DataLoader

from ray_rerank.operators.training.callbacks import length_grouped_trainer


def epoch_of(rows: int, size: int, workers: int, rank: int, epoch: int, done: int = 0) -> list[list[int]]:
    """The batches of one process that are left of an epoch after some, as accelerate deals them in the trainer."""
    trainer = SimpleNamespace(state=SimpleNamespace(global_step=0))
    sampler = length_grouped_trainer(np.arange(rows) % 7, workers).get_batch_sampler(trainer, range(rows), size, False)
    trainer.state.global_step = epoch * (len(sampler) // workers) + done
    loader: Any = DataLoader(range(rows), batch_sampler=sampler, collate_fn=list)  # type: ignore[arg-type]
    prepared = prepare_data_loader(loader, num_processes=workers, process_index=rank, even_batches=False)
    prepared = skip_first_batches(prepared, done) if done else prepared
    batches = list(prepared)
    assert len(batches) == len(prepared)
    return batches


@settings(max_examples=60)
@given(st.integers(8, 90), st.integers(1, 4), st.integers(2, 3), st.integers(0, 3))
def test_processes_get_different_rows_and_as_many_batches(rows: int, size: int, workers: int, epoch: int) -> None:
    if rows < size * workers:
        return
    shards = [epoch_of(rows, size, workers, rank, epoch) for rank in range(workers)]
    assert {len(shard) for shard in shards} == {rows // size // workers}
    seen = [row for shard in shards for batch in shard for row in batch]
    assert len(seen) == len(set(seen)) == rows // size // workers * workers * size


@pytest.mark.parametrize("workers", [1, 2])
def test_every_epoch_is_dealt_anew(workers: int) -> None:
    first, second, again = (epoch_of(64, 4, workers, 0, epoch) for epoch in (0, 1, 0))
    assert first == again
    assert first != second


@pytest.mark.parametrize("workers", [1, 2])
def test_a_resumed_epoch_goes_on_with_the_rows_that_are_left(workers: int) -> None:
    whole = epoch_of(64, 4, workers, 0, epoch=1)
    assert epoch_of(64, 4, workers, 0, epoch=1, done=3) == whole[3:]
