"""The cross-encoder: query and passage read together by one encoder, one raw logit a pair."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, field_validator

from operators.batches import TokenBudget, score_in_batches
from operators.checkpoint import Checkpoint, find_checkpoint
from operators.device import Precision, is_out_of_memory, pick_device, pick_precision
from operators.errors import ModelError
from operators.pair_layout import encode_pairs, layout_of
from operators.tokens import distinct, tokenise
from operators.work import Work

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""


class CrossEncoderConfig(BaseModel):
    """A BERT-like sequence classifier with one output (MiniLM, BERT, ELECTRA, TinyBERT, ...)."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())

    kind: Literal["cross-encoder"] = "cross-encoder"
    model: str = Field(description="a directory with safetensors, or a hub id")
    revision: str | None = Field(None, description="the hub revision")
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens of query and passage together, the longer cut first; default 512 or the model's",
    )
    precision: Precision = Field("auto", description="fp32 is the reference; auto takes what the device is fast at")
    batch_tokens: int | None = Field(None, ge=1, description="tokens a batch, padding included")

    @field_validator("model")
    @classmethod
    def _directories_are_absolute(cls, model: str) -> str:
        """A worker may run in another directory than the driver."""
        folder = Path(model).expanduser()
        return str(folder.absolute()) if folder.is_dir() else model

    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, or is not a cross-encoder with one output.
        """
        return {
            "kind": self.kind,
            "weights": self.checkpoint().content,
            "max_length": self.resolved_max_length(),
            "truncation": "longest_first",
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
        if self.max_length and self.max_length > found.positions:
            raise ModelError(f"{self.model}: max_length {self.max_length} is more than its {found.positions} positions")
        return found

    def resolved_max_length(self) -> int:
        """Tokens a pair may have: as asked for, else 512 or what the model has places for."""
        return self.max_length or min(512, self.checkpoint().positions)

    def load(self, threads: int | None = None) -> "CrossEncoder":
        """Load the model onto this process's device."""
        return CrossEncoder(self, threads)


class CrossEncoder:
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
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        if threads:
            torch.set_num_threads(threads)
        self.config = config
        self._device = pick_device()
        self._dtype = pick_precision(config.precision, self._device)
        folder = str(config.checkpoint().folder)
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(folder, use_fast=True, trust_remote_code=False)
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                output_loading_info=True,
                dtype=self._dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
            )
        except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
            if is_out_of_memory(error):
                raise
            raise ModelError(f"{config.model}: cannot be loaded: {error}") from error
        if loading["missing_keys"]:
            missing = ", ".join(sorted(loading["missing_keys"])[:3])
            raise ModelError(f"{config.model}: its weights lack {missing}; it would score at random")
        self._model = model.to(self._device).eval()
        self._takes_segments = "token_type_ids" in self._tokenizer.model_input_names
        self._layout = layout_of(self._tokenizer)
        self._max_length = config.resolved_max_length()
        self._budget = TokenBudget(config.batch_tokens or (4096 if self._device.type == "cpu" else 131_072))

    @property
    def precision(self) -> str:
        """The number format that `auto` came to: fp32, bf16 or fp16."""
        return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(self._dtype).removeprefix("torch.")]

    def score(self, pairs: Sequence[tuple[str, str]], work: Work | None = None) -> np.ndarray:
        """Score (query, passage) pairs.

        Each distinct text is tokenised once and each distinct pair scored once. In fp32 a pair's score is
        the same to 1e-5 whatever its batch mates; in bf16 and fp16 it moves with them in the last digits.

        Args:
            pairs: n pairs of text.
            work: if given, what this call cost is added to it.

        Returns:
            float32 of n: raw logits, in the order of `pairs`.
        """
        started = time.perf_counter()
        work = Work() if work is None else work
        queries, query_of = distinct([query for query, _ in pairs])
        documents, document_of = distinct([document for _, document in pairs])
        keys, inverse = np.unique(query_of * max(len(documents), 1) + document_of, return_inverse=True)
        encoded = encode_pairs(
            self._layout,
            tokenise(self._tokenizer, queries, self._max_length),
            tokenise(self._tokenizer, documents, self._max_length),
            keys // max(len(documents), 1),
            keys % max(len(documents), 1),
            self._max_length,
        )
        scores = score_in_batches(encoded.lengths, lambda rows: self._start(*encoded.rows(rows)), self._budget, work)
        work.pairs += len(pairs)
        work.evaluations += len(keys)
        work.truncated += encoded.truncated
        work.seconds += time.perf_counter() - started
        return scores[inverse]

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        import torch

        arrays = {"input_ids": ids, "attention_mask": mask}
        if self._takes_segments:
            arrays["token_type_ids"] = segments
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(array) for name, array in arrays.items()}
            if self._device.type == "cuda":
                inputs = {name: t.pin_memory().to(self._device, non_blocking=True) for name, t in inputs.items()}
            logits: torch.Tensor = self._model(**inputs).logits[:, 0].float()
        return lambda: np.asarray(logits.cpu().numpy())
