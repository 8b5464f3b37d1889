"""The model that is trained: made, loaded, saved."""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from ray_rerank.operators.errors import MissingExtraError, ModelError
from ray_rerank.operators.models.checkpoint import Checkpoint, find_checkpoint
from ray_rerank.operators.models.load import checked_loading, explained, load_tokenizer, quiet_loading
from ray_rerank.operators.scorers.cross_encoder import check_encoder
from ray_rerank.operators.training.best_weights import (
    load_weights,
)
from ray_rerank.operators.training.plan import Training, TrainingPlan
from ray_rerank.operators.training.student import keep_layers
from ray_rerank.operators.training.vocabulary import trim_vocabulary

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

IDENTITY = "torch.nn.modules.linear.Identity"
_SAMPLE = 1000  # texts whose tokens are counted with the old and the new vocabulary


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
        raise MissingExtraError(
            f"training needs {error.name}, which is not installed: pip install 'ray-rerank[train]'"
        ) from None
