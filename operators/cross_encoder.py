"""The cross-encoder: query and passage read together by one encoder, one raw logit a pair."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from pydantic import Field

from operators.batches import TokenBudget
from operators.checkpoint import Checkpoint, check_length, find_checkpoint
from operators.device import default_batch_tokens, pick_device, pick_precision, precision_name, to_device
from operators.errors import ModelError
from operators.model_config import ModelConfig
from operators.pair_layout import pair_layout
from operators.pointwise import Pointwise
from operators.pretrained import load_tokenizer, load_weights
from operators.row_layout import Truncation
from operators.row_scoring import RowScoring

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""


class CrossEncoderConfig(ModelConfig):
    """A BERT-like sequence classifier with one output (MiniLM, BERT, ELECTRA, TinyBERT, ...)."""

    kind: Literal["cross-encoder"] = "cross-encoder"
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens of query and passage together; default 512 or the model's",
    )
    truncation: Truncation = Field("longest_first", description="what gives way: the longer text, or the document")

    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, or is not a cross-encoder with one output.
        """
        return {
            "kind": self.kind,
            "weights": self.checkpoint().content,
            "max_length": self.resolved_max_length(),
            "truncation": self.truncation,
            "score": "raw logit",
            "precision": self.precision,
            "code": CODE_VERSION,
        }

    def checkpoint(self) -> Checkpoint:
        """The model's files, checked without loading them."""
        found = find_checkpoint(self.model, self.revision)
        labels = found.config.get("num_labels", len(found.config.get("id2label") or "01"))
        names = found.config.get("architectures") or []
        if not any(name.endswith("ForSequenceClassification") for name in names) or labels != 1:
            raise ModelError(
                f"{self.model}: a cross-encoder is a ...ForSequenceClassification with one label; "
                f"this is {', '.join(names) or 'of unknown architecture'} with {labels}. "
                "`ray-rerank train` makes one from an encoder"
            )
        check_length(self.model, found, "max_length", self.max_length)
        return found

    def resolved_max_length(self) -> int:
        """Tokens a pair may have: as asked for, else 512 or what the model has places for."""
        return self.max_length or min(512, self.checkpoint().positions)

    def load(self, threads: int | None = None) -> "CrossEncoder":
        """Load the model onto this process's device."""
        return CrossEncoder(self, threads)


class CrossEncoder(Pointwise):
    """A loaded cross-encoder. One per process: it sets the process's thread count."""

    def __init__(self, config: CrossEncoderConfig, threads: int | None = None) -> None:
        """Load weights and tokenizer from safetensors, never running code from the model's directory.

        Args:
            config: the model and how to read it.
            threads: CPU threads for torch; None leaves torch's own choice.

        Raises:
            ModelError: the model cannot be loaded.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        if threads:
            torch.set_num_threads(threads)
        self.config = config
        self._device = pick_device()
        dtype = pick_precision(config.precision, self._device)
        self.precision = precision_name(dtype)
        folder = config.checkpoint().folder
        tokenizer = load_tokenizer(config.model, folder)
        self._takes_segments = "token_type_ids" in tokenizer.model_input_names
        self._model = load_weights(AutoModelForSequenceClassification, config.model, folder, dtype)
        self._model.to(self._device)
        self.evaluate = RowScoring(
            tokenizer,
            pair_layout(tokenizer),
            config.resolved_max_length(),
            TokenBudget(config.batch_tokens or default_batch_tokens(self._device)),
            self._start,
            config.truncation,
        )

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        import torch

        arrays = {"input_ids": ids, "attention_mask": mask}
        if self._takes_segments:
            arrays["token_type_ids"] = segments
        with torch.inference_mode():
            logits: torch.Tensor = self._model(**to_device(arrays, self._device)).logits[:, 0].float()
        return lambda: np.asarray(logits.cpu().numpy())
