"""Training one cross-encoder: sentence-transformers' trainer, set up, measured on the way, resumed and saved."""

import json
import math
import shutil
import sys
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from ray_rerank.operators.errors import ModelError, reason_of
from ray_rerank.operators.models.cpus import usable_cpus
from ray_rerank.operators.training.best_weights import (
    BEST,
    EVALUATIONS,
    LAST,
    BestWeights,
    evaluations,
    save_weights,
)
from ray_rerank.operators.training.callbacks import (
    PROGRESS,
    beginning,
    distributed,
    evaluator,
    is_first,
    length_grouped_trainer,
    progress,
    signs_of_life,
    stopping_at_divergence,
)
from ray_rerank.operators.training.groups import group_table
from ray_rerank.operators.training.losses import LOSSES
from ray_rerank.operators.training.plan import Training
from ray_rerank.operators.training.trainee import load_trainee, pair_lengths

EVALUATIONS_A_TRAINING = 5
LOGGED_EVERY = 25  # steps; more often in a training so short that its curve would be empty
LOGGED_AT_LEAST = 5
_LOSSES = "losses.json"


def fit(training: Training, alive: Callable[[], None] = lambda: None) -> None:
    """Train from the newest whole checkpoint, or from the start; each process of a training calls it alike.

    The first process leaves in `checkpoints`: the last weights, the best on the held-out (best_weights), the
    held-out figures and the losses by step (`curve`).

    Args:
        alive: called after each step and each evaluation, for whoever waits.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments
    from transformers import PrinterCallback, ProgressCallback, set_seed
    from transformers.utils import logging

    plan, checkpoints = training.plan, training.checkpoints
    for name in (EVALUATIONS, BEST, LAST, _LOSSES, PROGRESS):
        if (checkpoints / name).is_dir():
            raise ModelError(f"{checkpoints / name}: a folder is where a file belongs; move it away")
    logging.set_verbosity_error()  # a resumed trainer finds its own arguments spelled otherwise in the checkpoint
    torch.set_num_threads(training.threads or min(torch.get_num_threads(), usable_cpus()))
    set_seed(plan.seed)
    trainee = load_trainee(str(training.start), plan.max_length)
    encoder = trainee.model
    if plan.dropout is not None:
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = plan.dropout
    if plan.freeze_embeddings:
        embeddings = getattr(encoder.base_model, "embeddings", None) or encoder.get_input_embeddings()
        embeddings.requires_grad_(False)
    watch = None if training.held_out is None else BestWeights(training.held_out, checkpoints, plan.batch_size)
    resumed = _agreed(_newest_whole(checkpoints) if is_first() else None)
    if watch is not None and is_first() and 0 not in evaluations(checkpoints):
        watch(trainee, 0)

    steps = plan.epochs * len(training.groups) / (plan.groups_a_step * plan.workers)
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.groups_a_step,
        learning_rate=plan.learning_rate,
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        seed=plan.seed,
        eval_strategy="no" if watch is None else "steps",
        eval_steps=training.evaluate_every or 1 / EVALUATIONS_A_TRAINING,
        save_strategy="steps",
        save_steps=training.checkpoint_every,
        save_total_limit=2,
        logging_steps=max(1, min(training.checkpoint_every, LOGGED_EVERY, int(steps) // LOGGED_AT_LEAST)),
        logging_nan_inf_filter=False,  # else a training that diverges is shown with a loss of 0
        report_to="none",
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        dataloader_pin_memory=torch.cuda.is_available(),
        ddp_find_unused_parameters=False,
        ddp_broadcast_buffers=False,  # it would overwrite position ids between a triplet's two forward passes
    )
    loss = LOSSES[plan.loss]
    groups = training.groups
    lengths = pair_lengths(trainee, training.pairs, plan.max_length)
    longest = np.maximum.reduceat(lengths[groups.rows], groups.starts[:-1])
    trainer = length_grouped_trainer(longest, plan.workers)(
        model=trainee,
        args=arguments,
        train_dataset=Dataset(group_table(training.pairs, groups, loss)),
        loss=loss.make(trainee),
        evaluator=None if watch is None else evaluator(watch),
    )
    for chatter in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatter)
    trainer.add_callback(signs_of_life(alive))
    if is_first():
        trainer.add_callback(progress(len(groups.rows) / len(groups) * plan.groups_a_step * plan.workers, checkpoints))
    trainer.add_callback(stopping_at_divergence())
    begun: list[bool] = []
    trainer.add_callback(beginning(begun))
    try:
        trainer.train(resume_from_checkpoint=resumed)
    except Exception as error:
        if resumed is None or begun:
            raise
        raise ModelError(
            f"{resumed}: cannot be gone on from: {reason_of(error)}; remove it, and the training goes on from the "
            "checkpoint before"
        ) from None
    if is_first():
        step = trainer.state.global_step
        if watch is not None and step not in evaluations(checkpoints):
            watch(trainee, step)
        losses = {log["step"]: log["loss"] for log in trainer.state.log_history if "loss" in log}
        (checkpoints / _LOSSES).write_text(json.dumps(losses), encoding="utf-8")
        save_weights(trainee, checkpoints / LAST, {"step": step})


def curve(checkpoints: Path) -> list[dict[str, float | None]]:
    """What a training left: by rising step its loss (the mean since the step before) and the held-out figures."""
    losses = json.loads((checkpoints / _LOSSES).read_text(encoding="utf-8"))
    points: dict[int, dict[str, float | None]] = {}
    for step, value in losses.items():
        points[int(step)] = {"step": int(step), "training_loss": round(value, 6) if math.isfinite(value) else None}
    for step, figures in evaluations(checkpoints).items():
        rounded = {name: None if value is None else round(value, 4) for name, value in figures.items()}
        points[step] = points.get(step, {"step": step}) | rounded
    return [points[step] for step in sorted(points)]


class _State(BaseModel):
    """What is looked at of a checkpoint's trainer_state.json, which the trainer writes last."""

    global_step: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    epoch: float = Field(ge=0, allow_inf_nan=False)
    log_history: list[dict[str, Any]]


def _newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end and is not damaged; damaged ones are removed."""
    folders: Sequence[Path] = sorted(
        (folder for folder in checkpoints.glob("checkpoint-*") if folder.name.rpartition("-")[2].isdecimal()),
        key=lambda folder: int(folder.name.rpartition("-")[2]),
        reverse=True,
    )
    for folder in folders:
        if not (folder / "trainer_state.json").exists():
            continue
        if (fault := _damage(folder)) is None:
            return str(folder)
        print(f"{folder}: is damaged ({fault}); it is removed, and its steps are done again", file=sys.stderr)
        shutil.rmtree(folder)
    return None


def _damage(checkpoint: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    found = {file.name: file for file in checkpoint.iterdir()}
    if lacking := [name for name in ("optimizer.pt", "scheduler.pt") if name not in found]:
        return f"{lacking[0]} is missing"
    for name, file in sorted(found.items()):
        try:
            if name == "trainer_state.json":
                _State.model_validate_json(file.read_bytes(), strict=True)
            elif file.suffix == ".safetensors":
                with safe_open(file, framework="np"):
                    pass
            elif file.suffix in {".pt", ".pth"}:
                with zipfile.ZipFile(file) as packed:  # as torch.save writes them
                    if packed.testzip():
                        return f"{name}: its bytes are not those that were written"
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
            return f"{name}: {reason_of(error)}"
    return None


def _agreed(checkpoint: str | None) -> str | None:
    """What the first process found: a shared disk may show the others an older state."""
    if not distributed():
        return checkpoint
    import torch

    told = [checkpoint]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]
