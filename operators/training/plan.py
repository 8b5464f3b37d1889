"""What a training is to do, as values that travel to its workers."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from ray_rerank.operators.training.groups import Groups
from ray_rerank.operators.training.held_out import HeldOut
from ray_rerank.operators.training.losses import LOSSES, LossName
from ray_rerank.operators.training.student import Student


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What decides a training: the hyper-parameters under sentence-transformers' names and meanings.

    `batch_size` counts pairs a step in each of `workers` processes, however they are grouped. `warmup` is a share
    of all steps; the learning rate then falls linearly to zero. `dropout` replaces the checkpoint's own where given.
    """

    loss: LossName
    group_size: int
    epochs: float
    batch_size: int
    workers: int
    learning_rate: float
    warmup: float
    weight_decay: float
    max_length: int
    seed: int
    student: Student
    dropout: float | None
    freeze_embeddings: bool

    @property
    def groups_a_step(self) -> int:
        """How many groups of the loss a process reads a step."""
        group = {"pair": 1, "triplet": 2, "list": self.group_size}[LOSSES[self.loss].reads]
        return max(1, self.batch_size // group)


@dataclass(frozen=True, slots=True)
class Training:
    """One training, as each of its processes is handed it.

    Attributes:
        start: a folder of `write_start`.
        pairs: `query, document, label` and what `groups` were made of.
        evaluate_every: steps; None is a few times a training.
        checkpoints: a folder that all processes see.
        threads: CPU threads a process; None is torch's own choice, but no more than the CPUs it may use.
    """

    plan: TrainingPlan
    start: Path
    pairs: pa.Table
    groups: Groups
    held_out: HeldOut | None
    evaluate_every: int | None
    checkpoints: Path
    checkpoint_every: int
    threads: int | None
