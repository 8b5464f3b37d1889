"""What the trainer calls on its way: batches by length, evaluation, progress, an end at divergence."""

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ray_rerank.operators.training.batches import full_batches, length_grouped_batches
from ray_rerank.operators.training.best_weights import (
    BestWeights,
    evaluations,
)

PROGRESS = "progress.txt"


def length_grouped_trainer(lengths: NDArray[np.int64], workers: int) -> Any:
    """A trainer class that deals rows of these lengths into batches of like length, for so many processes."""
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoderTrainer

    class LengthGrouped(DefaultBatchSampler):  # type: ignore[misc]
        """Batches of like length, in an order that a resumed epoch repeats; accelerate deals them to processes.

        The epoch is that of the trainer's step: what accelerate tells of it, a resumed one in several processes never
        hears.
        """

        trainer: Any

        def __iter__(self) -> Iterator[list[int]]:
            epoch = self.trainer.state.global_step // (len(self) // workers)
            batches = length_grouped_batches(lengths, self.batch_size, self.seed, epoch)
            for rows in full_batches(batches, self.batch_size, workers):
                yield rows.tolist()

        def __len__(self) -> int:
            size = int(self.batch_size)
            return math.ceil(len(lengths) / size) if workers == 1 else len(lengths) // size // workers * workers

    class LengthGroupedTrainer(CrossEncoderTrainer):  # type: ignore[misc]
        """Overrides the sampler here and not in the arguments: those are pickled into every checkpoint."""

        def get_batch_sampler(
            self,
            dataset: Any,
            batch_size: int,
            drop_last: bool,
            valid_label_columns: list[str] | None = None,
            generator: Any = None,
            seed: int = 0,
        ) -> Any:
            sampler = LengthGrouped(dataset, batch_size, drop_last, valid_label_columns, generator, seed)
            sampler.trainer = self
            return sampler

    return LengthGroupedTrainer


def evaluator(watch: BestWeights) -> Any:
    from sentence_transformers.base.evaluation import BaseEvaluator

    class Evaluator(BaseEvaluator):  # type: ignore[misc]
        """Hands sentence-transformers' call on; it lets the other processes wait for the first."""

        def __call__(self, model: Any, output_path: Any = None, epoch: Any = -1, steps: int = -1) -> dict[str, float]:
            return {name: value for name, value in watch(model, steps).items() if value is not None}

    return Evaluator()


def is_first() -> bool:
    import torch

    return not distributed() or torch.distributed.get_rank() == 0


def signs_of_life(alive: Callable[[], None]) -> Any:
    from transformers import TrainerCallback

    class SignsOfLife(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            alive()

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            alive()

    return SignsOfLife()


def beginning(told: list[bool]) -> Any:
    from transformers import TrainerCallback

    class Beginning(TrainerCallback):  # type: ignore[misc]
        """Tells that the trainer has read all of its checkpoint."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told.append(True)

    return Beginning()


def progress(pairs_a_step: float, checkpoints: Path) -> Any:
    from transformers import TrainerCallback

    def tell(line: str) -> None:
        """On the terminal, or, in a worker that has none, where its driver reads it."""
        if not distributed():
            print(line, file=sys.stderr, flush=True)
            return
        with (checkpoints / PROGRESS).open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    class Progress(TrainerCallback):  # type: ignore[misc]
        """One line every logging step: steps, loss, pairs a second, what is left; one every evaluation."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step
            if state.global_step:
                tell(f"going on from step {state.global_step} of {state.max_steps}")

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            figures = evaluations(checkpoints).get(state.global_step, {})
            shown = "  ".join(f"{name} {value:.4f}" for name, value in figures.items() if value is not None)
            tell(f"step {state.global_step}/{state.max_steps}  held out: {shown}")

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            done = state.global_step - self.first
            if not logs or "loss" not in logs or done < 1:
                return
            each = (time.monotonic() - self.began) / done
            left = (state.max_steps - state.global_step) * each / 60
            tell(
                f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
                f"{pairs_a_step / each:.1f} pairs/s  {left:.1f} min left"
            )

    return Progress()


def stopping_at_divergence() -> Any:
    from transformers import TrainerCallback

    class Diverged(TrainerCallback):  # type: ignore[misc]
        """Ends a training whose loss is no number, in every process: it is the mean over all of them."""

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if logs and not math.isfinite(float(logs.get("loss", 0))):
                control.should_training_stop = True

    return Diverged()


def diverged_at(points: Sequence[dict[str, float | None]]) -> int | None:
    """The first step of a `curve` that was logged without a finite loss."""
    lost = (point["step"] for point in points if point.get("training_loss", 0.0) is None)
    return next((int(step) for step in lost if step is not None), None)


def distributed() -> bool:
    import torch

    return bool(torch.distributed.is_initialized())
