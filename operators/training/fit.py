"""Training one cross-encoder: sentence-transformers' trainer, set up, measured on the way, resumed and saved."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

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
    evaluator,
    is_first,
    length_grouped_trainer,
    progress,
    signs_of_life,
    stopping_at_divergence,
)
from ray_rerank.operators.training.groups import group_table
from ray_rerank.operators.training.losses import LOSSES
from ray_rerank.operators.training.plan import Training, TrainingPlan
from ray_rerank.operators.training.resume import agree, newest_whole
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
    from transformers import set_seed
    from transformers.utils import logging

    plan, checkpoints = training.plan, training.checkpoints
    for name in (EVALUATIONS, BEST, LAST, _LOSSES, PROGRESS):
        if (checkpoints / name).is_dir():
            raise ModelError(f"{checkpoints / name}: a folder is where a file belongs; move it away")
    logging.set_verbosity_error()  # a resumed trainer finds its own arguments spelled otherwise in the checkpoint
    torch.set_num_threads(training.threads or min(torch.get_num_threads(), usable_cpus()))
    set_seed(plan.seed)
    trainee = load_trainee(str(training.start), plan.max_length)
    _prepare(trainee.model, plan)
    watch = None if training.held_out is None else BestWeights(training.held_out, checkpoints, plan.batch_size)
    resumed = agree(newest_whole(checkpoints) if is_first() else None)
    if watch is not None and is_first() and 0 not in evaluations(checkpoints):
        watch(trainee, 0)

    trainer = _trainer(training, trainee, watch)
    trainer.add_callback(signs_of_life(alive))
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


def _prepare(encoder: Any, plan: TrainingPlan) -> None:
    """Set the dropout, and freeze the embeddings, where the plan says so."""
    import torch

    if plan.dropout is not None:
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = plan.dropout
    if plan.freeze_embeddings:
        embeddings = getattr(encoder.base_model, "embeddings", None) or encoder.get_input_embeddings()
        embeddings.requires_grad_(False)


def _trainer(training: Training, trainee: Any, watch: BestWeights | None) -> Any:
    """The trainer with its data, its loss and the callbacks that every training has."""
    from datasets import Dataset
    from transformers import PrinterCallback, ProgressCallback

    plan, groups, loss = training.plan, training.groups, LOSSES[training.plan.loss]
    lengths = pair_lengths(trainee, training.pairs, plan.max_length)
    longest = np.maximum.reduceat(lengths[groups.rows], groups.starts[:-1])
    trainer = length_grouped_trainer(longest, plan.workers)(
        model=trainee,
        args=_arguments(training),
        train_dataset=Dataset(group_table(training.pairs, groups, loss)),
        loss=loss.make(trainee),
        evaluator=None if watch is None else evaluator(watch),
    )
    for chatter in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatter)
    if is_first():
        pairs_per_step = len(groups.rows) / len(groups) * plan.groups_a_step * plan.workers
        trainer.add_callback(progress(pairs_per_step, training.checkpoints))
    trainer.add_callback(stopping_at_divergence())
    return trainer


def _arguments(training: Training) -> Any:
    """The trainer's own arguments."""
    import torch
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments

    plan = training.plan
    steps = plan.epochs * len(training.groups) / (plan.groups_a_step * plan.workers)
    return CrossEncoderTrainingArguments(
        output_dir=str(training.checkpoints),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.groups_a_step,
        learning_rate=plan.learning_rate,
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        seed=plan.seed,
        eval_strategy="no" if training.held_out is None else "steps",
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
