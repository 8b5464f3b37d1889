"""Training one cross-encoder: sentence-transformers' trainer, set up, measured on the way, resumed and saved."""

import importlib
import json
import math
import shutil
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from ray_rerank.operators.errors import InputError, ModelError, reason_of
from ray_rerank.operators.models.checkpoint import Checkpoint, find_checkpoint
from ray_rerank.operators.models.cpus import usable_cpus
from ray_rerank.operators.models.load import checked_loading, explained, load_tokenizer, quiet_loading
from ray_rerank.operators.scorers.cross_encoder import check_encoder
from ray_rerank.operators.training.batches import full_batches, length_grouped_batches
from ray_rerank.operators.training.best_weights import (
    BEST,
    EVALUATIONS,
    LAST,
    BestWeights,
    evaluations,
    load_weights,
    save_weights,
)
from ray_rerank.operators.training.groups import Groups, group_table
from ray_rerank.operators.training.held_out import HeldOut
from ray_rerank.operators.training.losses import LOSSES, LossName
from ray_rerank.operators.training.student import Student, keep_layers
from ray_rerank.operators.training.vocabulary import trim_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

IDENTITY = "torch.nn.modules.linear.Identity"
PROGRESS = "progress.txt"
EVALUATIONS_A_TRAINING = 5
LOGGED_EVERY = 25  # steps; more often in a training so short that its curve would be empty
LOGGED_AT_LEAST = 5
_SAMPLE = 1000  # texts whose tokens are counted with the old and the new vocabulary
_LOSSES = "losses.json"


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


def write_start(model: str, plan: TrainingPlan, pairs: pa.Table, folder: Path) -> float | None:
    """Write what the training starts from: the checkpoint as a cross-encoder with one logit, in fp32, cut to the
    plan's student.

    A checkpoint whose scoring head is missing or has several outputs gets a new one, drawn from the plan's seed. The
    vocabulary keeps what is
    frequent in the texts of `pairs`.

    Returns:
        How many times as many tokens these texts take with the trimmed vocabulary; None where it was not trimmed.

    Raises:
        InputError: the extra `train` is not installed.
        ModelError: the checkpoint cannot be loaded from safetensors, or cannot be cut.
    """
    from transformers import set_seed

    set_seed(plan.seed)
    found = find_checkpoint(model)
    check_encoder(model, found.config)
    with explained(model, found.folder, "cannot be made a cross-encoder by its config.json and tokenizer"):
        trainee = load_trainee(model, plan.max_length)
        tokenizer = load_tokenizer(model, found)
    encoder = trainee.model
    if plan.student.layers is not None:
        keep_layers(encoder, plan.student.layers)
    growth = None
    if plan.student.vocabulary is not None:
        texts = [text for name in ("query", "document") for text in pc.unique(pairs[name]).to_pylist()]
        trimmed = trim_vocabulary(encoder, tokenizer, texts, plan.student.vocabulary)
        sample = texts[:: max(len(texts) // _SAMPLE, 1)]
        growth = _tokens(trimmed, sample) / max(_tokens(tokenizer, sample), 1)
        tokenizer = trimmed
    save_cross_encoder(trainee, tokenizer, folder, "fp32")
    return growth


def outputs_of(checkpoint: Checkpoint) -> int:
    """How many outputs the head of a checkpoint has; 0 where it has no head for whole texts."""
    names = checkpoint.config.get("architectures") or []
    if not any(str(name).endswith("ForSequenceClassification") for name in names):
        return 0
    return int(checkpoint.config.get("num_labels") or len(checkpoint.config.get("id2label") or "01"))


def _tokens(tokenizer: Any, texts: list[str]) -> int:
    return sum(map(len, tokenizer(texts, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]))


def load_trainee(model: str, max_length: int) -> "CrossEncoder":
    """Load an encoder as a cross-encoder with one raw logit, in fp32.

    Raises:
        InputError: the extra `train` is not installed.
        ModelError: the checkpoint cannot be loaded from safetensors, or what was loaded is not the checkpoint's: see
            `checked_loading`.
    """
    require_training_libraries()
    import torch
    from sentence_transformers import CrossEncoder

    found = find_checkpoint(model)
    with (
        found.sealed() as folder,
        quiet_loading(),
        explained(model, folder, "cannot be loaded as a cross-encoder"),
        checked_loading(model, found, new_head=True),
    ):
        trainee = CrossEncoder(
            str(folder),
            num_labels=1,
            max_length=max_length,
            activation_fn=torch.nn.Identity(),
            local_files_only=True,
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
    encoder = trainee.model
    if encoder is None or not hasattr(encoder, "base_model"):
        raise ModelError(f"{model}: is no transformer encoder with a classification head")
    return trainee


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
    resumed = _agreed(_newest_whole(checkpoints) if _is_first() else None)
    if watch is not None and _is_first() and 0 not in evaluations(checkpoints):
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
        evaluator=None if watch is None else _evaluator(watch),
    )
    for chatter in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatter)
    trainer.add_callback(_signs_of_life(alive))
    if _is_first():
        trainer.add_callback(_progress(len(groups.rows) / len(groups) * plan.groups_a_step * plan.workers, checkpoints))
    trainer.add_callback(_stopping_at_divergence())
    begun: list[bool] = []
    trainer.add_callback(_beginning(begun))
    try:
        trainer.train(resume_from_checkpoint=resumed)
    except Exception as error:
        if resumed is None or begun:
            raise
        raise ModelError(
            f"{resumed}: cannot be gone on from: {reason_of(error)}; remove it, and the training goes on from the "
            "checkpoint before"
        ) from None
    if _is_first():
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


def save_trained(training: Training, weights: Path, folder: Path, precision: Literal["fp16", "fp32"]) -> int:
    """Save the start with weights that `fit` left, as `save_cross_encoder` does; returns the step they are of.

    Raises:
        ModelError: a weight is no finite number; nothing is written.
    """
    trainee = load_trainee(str(training.start), training.plan.max_length)
    step = load_weights(trainee, weights)
    if not all(bool(weight.isfinite().all()) for weight in trainee.model.parameters()):
        raise ModelError(
            f"the training diverged: at step {step} its weights are no finite numbers; delete {training.checkpoints} "
            "and train with a lower learning rate"
        )
    start = str(training.start)
    tokenizer = load_tokenizer(start, find_checkpoint(start))
    save_cross_encoder(trainee, tokenizer, folder, precision)
    return step


def save_cross_encoder(
    trainee: "CrossEncoder", tokenizer: Any, folder: Path, precision: Literal["fp16", "fp32"]
) -> None:
    """Write a plain transformers folder whose `CrossEncoder(folder).predict` gives raw logits.

    `model.safetensors` in the given precision, `config.json`, `tokenizer.json`, `tokenizer_config.json`. The
    tokenizer is handed over, for the trainee's own has the training's `max_length`, which is not the model's.
    """
    import torch
    from sentence_transformers import __version__

    encoder = trainee.model
    encoder.config.num_labels = 1
    encoder.config.sentence_transformers = {"activation_fn": IDENTITY, "version": __version__}
    folder.mkdir(parents=True, exist_ok=True)
    encoder.to(torch.float16 if precision == "fp16" else torch.float32).save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written for their owner's eyes alone: take the config's mode
        weights.chmod((folder / "config.json").stat().st_mode & 0o777)
    if tokenizer.is_fast:
        tokenizer.backend_tokenizer.no_truncation()
        tokenizer.backend_tokenizer.no_padding()
    tokenizer.save_pretrained(folder)


def pair_lengths(trainee: "CrossEncoder", pairs: pa.Table, max_length: int) -> NDArray[np.int64]:
    """Tokens of each pair without special ones, cut at `max_length`: `(pairs,)`; each text tokenised once."""
    total = np.zeros(pairs.num_rows, dtype=np.int64)
    for name in ("query", "document"):
        texts, rows = np.unique(pairs[name].to_numpy(), return_inverse=True)
        ids = trainee.tokenizer(texts.tolist(), add_special_tokens=False, truncation=True, max_length=max_length)
        total += np.array([len(tokens) for tokens in ids["input_ids"]], dtype=np.int64)[rows]
    return np.minimum(total, max_length)


def require_training_libraries() -> None:
    """Fail with the fix in the message where the extra `train` is missing."""
    try:
        for name in ("accelerate", "datasets", "sentence_transformers"):
            importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"training needs {error.name}, which is not installed: pip install 'ray-rerank[train]'"
        ) from None


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


def _evaluator(watch: BestWeights) -> Any:
    from sentence_transformers.base.evaluation import BaseEvaluator

    class Evaluator(BaseEvaluator):  # type: ignore[misc]
        """Hands sentence-transformers' call on; it lets the other processes wait for the first."""

        def __call__(self, model: Any, output_path: Any = None, epoch: Any = -1, steps: int = -1) -> dict[str, float]:
            return {name: value for name, value in watch(model, steps).items() if value is not None}

    return Evaluator()


def _is_first() -> bool:
    import torch

    return not _distributed() or torch.distributed.get_rank() == 0


def _agreed(checkpoint: str | None) -> str | None:
    """What the first process found: a shared disk may show the others an older state."""
    if not _distributed():
        return checkpoint
    import torch

    told = [checkpoint]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]


def _signs_of_life(alive: Callable[[], None]) -> Any:
    from transformers import TrainerCallback

    class SignsOfLife(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            alive()

        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            alive()

    return SignsOfLife()


def _beginning(told: list[bool]) -> Any:
    from transformers import TrainerCallback

    class Beginning(TrainerCallback):  # type: ignore[misc]
        """Tells that the trainer has read all of its checkpoint."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            told.append(True)

    return Beginning()


def _progress(pairs_a_step: float, checkpoints: Path) -> Any:
    from transformers import TrainerCallback

    def tell(line: str) -> None:
        """On the terminal, or, in a worker that has none, where its driver reads it."""
        if not _distributed():
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


def _stopping_at_divergence() -> Any:
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


def _distributed() -> bool:
    import torch

    return bool(torch.distributed.is_initialized())
