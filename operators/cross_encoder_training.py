"""Training one cross-encoder on labelled pairs: sentence-transformers' trainer, set up, resumed and saved."""

import importlib
import json
import math
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from operators.agreement import Agreement, LossName, agreement
from operators.errors import InputError, ModelError
from operators.length_groups import length_grouped_batches
from operators.student import keep_layers

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

IDENTITY = "torch.nn.modules.linear.Identity"


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What decides a training: the hyper-parameters under sentence-transformers' names and meanings.

    `warmup` is a share of all steps; the learning rate then falls linearly to zero. `dropout` replaces the
    checkpoint's own where given.
    """

    loss: LossName
    epochs: float
    batch_size: int
    learning_rate: float
    warmup: float
    weight_decay: float
    max_length: int
    seed: int
    layers: tuple[int, ...] | None
    dropout: float | None
    freeze_embeddings: bool


def load_trainee(model: str, plan: TrainingPlan) -> "CrossEncoder":
    """Load an encoder as a cross-encoder with one raw logit, in fp32, cut to the plan's layers.

    A checkpoint without a scoring head gets a new one, drawn from the plan's seed.

    Raises:
        InputError: the extra `train` is not installed.
        ModelError: the checkpoint cannot be loaded from safetensors, has several outputs, or cannot be cut.
    """
    require_training_libraries()
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import set_seed
    from transformers.utils import logging

    logging.disable_progress_bar()
    set_seed(plan.seed)
    try:
        trainee = CrossEncoder(
            model,
            num_labels=1,
            max_length=plan.max_length,
            activation_fn=torch.nn.Identity(),
            local_files_only=Path(model).is_dir(),
            trust_remote_code=False,
            model_kwargs={"dtype": torch.float32, "use_safetensors": True},
        )
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{model}: cannot be loaded as a cross-encoder: {error}") from None
    encoder = trainee.model
    if encoder is None or not hasattr(encoder, "base_model"):
        raise ModelError(f"{model}: is no transformer encoder with a classification head")
    if plan.layers is not None:
        keep_layers(encoder, plan.layers)
    if plan.dropout is not None:
        for module in encoder.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = plan.dropout
    if plan.freeze_embeddings:
        embeddings = getattr(encoder.base_model, "embeddings", None) or encoder.get_input_embeddings()
        embeddings.requires_grad_(False)
    return trainee


def fit(trainee: "CrossEncoder", pairs: pa.Table, plan: TrainingPlan, checkpoints: Path, every: int) -> float:
    """Train in place on `query`, `document`, `label`; go on from the newest whole checkpoint if any.

    Returns:
        The seconds that this call trained for.
    """
    import torch
    from datasets import Dataset
    from sentence_transformers.cross_encoder import CrossEncoderTrainingArguments, losses
    from transformers import PrinterCallback, ProgressCallback

    arguments = CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=plan.epochs,
        per_device_train_batch_size=plan.batch_size,
        learning_rate=plan.learning_rate,
        warmup_steps=plan.warmup,
        weight_decay=plan.weight_decay,
        seed=plan.seed,
        save_strategy="steps",
        save_steps=every,
        save_total_limit=2,
        logging_steps=min(every, 25),
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    identity = torch.nn.Identity()
    loss = (
        losses.MSELoss(trainee, activation_fn=identity)
        if plan.loss == "mse"
        else losses.BinaryCrossEntropyLoss(trainee, activation_fn=identity)
    )
    dataset = Dataset(pairs.select(["query", "document", "label"]))
    trainer_class = _trainer_class(pair_lengths(trainee, pairs, plan.max_length))
    trainer = trainer_class(model=trainee, args=arguments, train_dataset=dataset, loss=loss)
    for chatter in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(chatter)
    trainer.add_callback(_progress(plan.batch_size))
    began = time.monotonic()
    trainer.train(resume_from_checkpoint=_newest_whole(checkpoints))
    return time.monotonic() - began


def held_out_agreement(trainee: "CrossEncoder", pairs: pa.Table, plan: TrainingPlan) -> Agreement:
    """Score held-out pairs and compare with their labels."""
    texts = list(zip(pairs["query"].to_pylist(), pairs["document"].to_pylist(), strict=True))
    scores = trainee.predict(texts, batch_size=plan.batch_size, show_progress_bar=False)
    _, queries = np.unique(pairs["query"].to_numpy(), return_inverse=True)
    return agreement(
        pairs["label"].to_numpy().astype(np.float64),
        np.asarray(scores, dtype=np.float64),
        queries.astype(np.int64),
        plan.loss,
    )


def save_cross_encoder(trainee: "CrossEncoder", model: str, folder: Path, precision: Literal["fp16", "fp32"]) -> None:
    """Write a plain transformers folder whose `CrossEncoder(folder).predict` gives raw logits.

    `model.safetensors` in the given precision, `config.json`, `tokenizer.json`, `tokenizer_config.json`. The
    tokenizer is that of `model`, the checkpoint trained from: the training's `max_length` is not the model's.
    """
    import torch
    from sentence_transformers import __version__
    from transformers import AutoTokenizer

    encoder = trainee.model
    encoder.config.num_labels = 1
    encoder.config.sentence_transformers = {"activation_fn": IDENTITY, "version": __version__}
    folder.mkdir(parents=True, exist_ok=True)
    encoder.to(torch.float16 if precision == "fp16" else torch.float32).save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):  # written for their owner's eyes alone: take the config's mode
        weights.chmod((folder / "config.json").stat().st_mode & 0o777)
    tokenizer = AutoTokenizer.from_pretrained(model, trust_remote_code=False)
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


def _trainer_class(lengths: NDArray[np.int64]) -> Any:
    from sentence_transformers.base.sampler import DefaultBatchSampler
    from sentence_transformers.cross_encoder import CrossEncoderTrainer

    class LengthGrouped(DefaultBatchSampler):  # type: ignore[misc]
        """Batches of like length, in an order that a resumed epoch repeats."""

        def __iter__(self) -> Iterator[list[int]]:
            for rows in length_grouped_batches(lengths, self.batch_size, self.seed, self.epoch):
                yield rows.tolist()

        def __len__(self) -> int:
            return math.ceil(len(lengths) / int(self.batch_size))

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
            return LengthGrouped(dataset, batch_size, drop_last, valid_label_columns, generator, seed)

    return LengthGroupedTrainer


def _newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end: the trainer writes its state file last."""
    folders: Sequence[Path] = sorted(
        checkpoints.glob("checkpoint-*"), key=lambda folder: int(folder.name.rpartition("-")[2]), reverse=True
    )
    for folder in folders:
        try:
            json.loads((folder / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(folder)
    return None


def _progress(batch_size: int) -> Any:
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        """One line every logging step: steps, loss, pairs a second, what is left."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.began, self.first = time.monotonic(), state.global_step
            if state.global_step:
                print(f"going on from step {state.global_step} of {state.max_steps}", file=sys.stderr)

        def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
            done = state.global_step - self.first
            if not logs or "loss" not in logs or done < 1:
                return
            each = (time.monotonic() - self.began) / done
            left = (state.max_steps - state.global_step) * each / 60
            print(
                f"step {state.global_step}/{state.max_steps}  loss {float(logs['loss']):.4f}  "
                f"{batch_size / each:.1f} pairs/s  {left:.1f} min left",
                file=sys.stderr,
                flush=True,
            )

    return Progress()
