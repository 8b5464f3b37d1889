"""What a training is to do, as values that travel to its workers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pyarrow as pa
from pydantic import BaseModel, Field

from ray_rerank.operators.training.groups import Groups
from ray_rerank.operators.training.held_out import HeldOut
from ray_rerank.operators.training.losses import LOSSES, LossName
from ray_rerank.operators.training.student import Student

Epochs = Annotated[float, Field(gt=0, description="passes over the pairs (num_train_epochs)")]
BatchSize = Annotated[int, Field(ge=1, description="pairs a step in each worker, also where they come in groups")]
LearningRate = Annotated[float, Field(gt=0, description="peak; falls linearly to zero")]
MaxLength = Annotated[int, Field(ge=8, description="tokens of a pair; what is over is cut, longest first")]


class HyperParameters(BaseModel, frozen=True, extra="forbid", allow_inf_nan=False):
    """What a user chooses of a training, under sentence-transformers' names and meanings.

    `batch_size` counts pairs per step in each process, however they are grouped. `warmup` is a share of all steps; the
    learning rate then falls linearly to zero. `dropout` replaces the checkpoint's own where given.
    """

    group_size: int = Field(8, ge=2, description="longest list of listnet and lambda")
    epochs: Epochs = 3
    batch_size: BatchSize = 32
    learning_rate: LearningRate = 5e-5
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up (warmup_ratio)")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    max_length: MaxLength = 512
    dropout: float | None = Field(None, ge=0, lt=1, description="in place of the checkpoint's own")
    freeze_embeddings: bool = Field(False, description="leave the embeddings as they are: faster, forgets less")
    seed: int = Field(0, ge=0, description="of the split, the order, the groups and any new weights")


class TrainingPlan(HyperParameters):
    """What decides a training.

    Attributes:
        loss: one of LOSSES.
        workers: processes that train together.
        student: what is kept of the checkpoint.
    """

    loss: LossName
    workers: int
    student: Student

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
