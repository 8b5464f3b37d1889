"""The cross-encoder: query and passage read together by one encoder, one raw logit a pair."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.pair_layout import pair_layout
from ray_rerank.operators.inference.row_layout import RowLayout, Truncation
from ray_rerank.operators.inference.row_scoring import RowScoring
from ray_rerank.operators.models.checkpoint import Checkpoint, check_attention, check_length
from ray_rerank.operators.models.device import default_batch_tokens, pick_placement, precision_name, to_device
from ray_rerank.operators.models.load import load_tokenizer, load_weights, verify_weights
from ray_rerank.operators.models.sentence_files import PASSED_ON, SentenceFiles, find_sentence_files
from ray_rerank.operators.models.settings import shown
from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig, ScoreMeaning, whatever_is_raised_names_the_model
from ray_rerank.operators.scorers.proof import LoadedModel, prove, try_out

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""

DEFAULT_MAX_LENGTH = 512  # what cross-encoders were trained with, even where a model has more positions


class CrossEncoderConfig(ModelConfig):
    """A BERT-like sequence classifier with one output (MiniLM, BERT, ELECTRA, TinyBERT, ...)."""

    title: ClassVar[str] = "cross-encoder"
    colour: ClassVar[str] = "#0072B2"
    marker: ClassVar[str] = "o"

    kind: Literal["cross-encoder"] = "cross-encoder"
    max_length: int | None = Field(
        None,
        ge=8,
        description="tokens of query and passage together; default 512 or the model's",
    )
    truncation: Truncation = Field("longest_first", description="what gives way: the longer text, or the document")
    query_prompt: str | None = Field(None, description="put before queries; default: the checkpoint's")

    @property
    def score_meaning(self) -> ScoreMeaning:
        """A raw logit."""
        return "logit"

    @whatever_is_raised_names_the_model
    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, or is not a cross-encoder with one output.
        """
        from transformers import AutoModelForSequenceClassification

        reader = self.reader()
        verify_weights(AutoModelForSequenceClassification, self.model, reader.checkpoint)
        try_out(self, reader.checkpoint, lambda: CrossEncoder(self, device="cpu"))
        return reader.deviations() | {
            "kind": self.kind,
            "weights": reader.checkpoint.content,
            "max_length": reader.max_length,
            "truncation": self.truncation,
            "score": "raw logit",
            "precision": self.precision,
            "code": CODE_VERSION,
        }

    def checkpoint(self) -> Checkpoint:
        """The model's files, checked without loading them."""
        return self._files().checkpoint

    def reader(self) -> "PairReader":
        """How a pair becomes a row of tokens, by the checkpoint's settings and this config's.

        Raises:
            ModelError: the model cannot be found, or has a setting that is not honoured here.
        """
        files = self._files()
        tokenizer = load_tokenizer(self.model, files.checkpoint)
        _check_tokenizer(self.model, files, tokenizer)
        layout = pair_layout(tokenizer)
        if not layout.fixed:
            raise ModelError(
                f"{self.model}: its tokenizer puts nothing between query and passage, so the model cannot tell them "
                "apart; no cross-encoder was trained this way"
            )
        saved_length = files.reading.get("max_seq_length") or tokenizer.model_max_length
        max_length = self.max_length or min(DEFAULT_MAX_LENGTH, files.checkpoint.positions, saved_length)
        if max_length - layout.fixed < len(layout.slots):
            raise ModelError(f"{self.model}: max_length {max_length} leaves no room for texts")
        _check_segments(self.model, files.checkpoint, tokenizer)
        check_attention(self.model, files.checkpoint, max_length)
        default = files.settings.get("default_prompt_name")
        saved = (files.settings.get("prompts") or {}).get(default) or "" if default else ""
        return PairReader(
            files.checkpoint, tokenizer, layout, max_length, saved if self.query_prompt is None else self.query_prompt
        )

    def load(self, threads: int | None = None) -> "CrossEncoder":
        """Load the model onto this process's device."""
        return CrossEncoder(self, threads)

    def _files(self) -> SentenceFiles:
        files = find_sentence_files(self.model, self.revision, self.kind)
        config = files.checkpoint.config
        labels = files.checkpoint.described().num_labels
        names = config.get("architectures") or []
        if not any(name.endswith("ForSequenceClassification") for name in names) or labels != 1:
            raise ModelError(
                f"{self.model}: a cross-encoder is a ...ForSequenceClassification with one label; "
                f"by its config.json this is {', '.join(names)[:200] or 'of unknown architecture'} with {labels}. "
                "`train` makes one from an encoder"
            )
        check_encoder(self.model, config)
        _check_settings(self.model, files, self.precision)
        check_length(self.model, files.checkpoint, "max_length", self.max_length)
        return files


@dataclass(frozen=True, slots=True)
class PairReader:
    """How a pair becomes a row of tokens.

    Attributes:
        max_length: tokens a row may have.
        query_prompt: put before every query.
    """

    checkpoint: Checkpoint
    tokenizer: Any
    layout: RowLayout
    max_length: int
    query_prompt: str

    def deviations(self) -> dict[str, str]:
        """What decides a score and is not as in most checkpoints."""
        said = {
            "query_prompt": self.query_prompt,
            "truncation_side": self.tokenizer.truncation_side,
            "padding_side": self.tokenizer.padding_side,
        }
        return {name: value for name, value in said.items() if value not in ("", "right")}


class CrossEncoder(Pointwise):
    """A loaded cross-encoder. One per process: it sets the process's thread count."""

    def __init__(self, config: CrossEncoderConfig, threads: int | None = None, device: str | None = None) -> None:
        """Load weights and tokenizer from safetensors, never running code from the model's directory.

        Args:
            config: the model and how to read it.
            threads: CPU threads for torch; None leaves torch's own choice.
            device: where to run it, in fp32; None is this process's device and the config's precision.

        Raises:
            ModelError: the model cannot be loaded, or does not score a pair the same in any company.
        """
        import torch
        from transformers import AutoModelForSequenceClassification

        if threads:
            torch.set_num_threads(threads)
        self.config = config
        self._device, dtype = pick_placement(config.precision, device)
        self.precision = precision_name(dtype)
        reader = config.reader()
        self._end = _read_at(config.model, reader)
        self._takes_segments = "token_type_ids" in reader.tokenizer.model_input_names
        self._model = load_weights(AutoModelForSequenceClassification, config.model, reader.checkpoint, dtype)
        self._model.to(self._device)
        budget = TokenBudget(config.batch_tokens or default_batch_tokens(self._device))
        self.evaluate = RowScoring(
            reader.tokenizer,
            reader.layout,
            reader.max_length,
            budget,
            self._start,
            config.truncation,
            reader.query_prompt,
        )
        prove(LoadedModel(config, reader.checkpoint, self.precision), self.evaluate, budget)

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        """A model that reads its last `</s>` takes rows of equally many only, and a text may hold some."""
        import torch

        ends = (ids == self._end).sum(axis=1) if self._end is not None else np.zeros(len(ids))
        if len(kinds := np.unique(ends)) > 1:
            groups = [np.flatnonzero(ends == kind) for kind in kinds]
            started = [self._start(ids[own], segments[own], mask[own]) for own in groups]
            order = np.argsort(np.concatenate(groups))
            return lambda: np.concatenate([wait() for wait in started])[order]
        arrays = {"input_ids": ids, "attention_mask": mask}
        if self._takes_segments:
            arrays["token_type_ids"] = segments
        with torch.inference_mode():
            logits: torch.Tensor = self._model(**to_device(arrays, self._device)).logits[:, 0].float()
        return lambda: np.asarray(logits.cpu().numpy())


def check_encoder(model: str, config: dict[str, Any]) -> None:
    """A decoder reads a template, which a tokenizer's pair of texts is not."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    )

    kind = config.get("model_type")
    reads_both_ways = {*MODEL_FOR_MASKED_LM_MAPPING_NAMES, *MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, "xlnet"}
    if kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in reads_both_ways:
        raise ModelError(
            f"{model}: is a decoder ({kind}); which template it reads query and passage in is not known, so it is not "
            "scored as a cross-encoder"
        )


def _read_at(model: str, reader: PairReader) -> int | None:
    """The token whose last place in a row BART's and T5's relatives read; None is of other models."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES

    if reader.checkpoint.kind not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES:
        return None
    end = reader.checkpoint.described().eos_token_id
    if not isinstance(end, int) or end not in reader.tokenizer("a", "b")["input_ids"]:
        raise ModelError(
            f"{model}: reads a pair at its eos_token_id, which is {end} in its config.json, and its tokenizer puts no "
            "such token behind a pair; correct the one that is wrong"
        )
    return end


def _check_segments(model: str, found: Checkpoint, tokenizer: Any) -> None:
    known = getattr(found.described(), "type_vocab_size", None)
    used = max(tokenizer("a", "b").get("token_type_ids") or [0])
    if isinstance(known, int) and 0 < known <= used:
        raise ModelError(
            f"{model}: its tokenizer gives tokens of a pair the type {used}, and the model has {known} types by its "
            "config.json (type_vocab_size); use the tokenizer that belongs to it, or leave token_type_ids out of "
            "model_input_names in its tokenizer_config.json"
        )


def _check_settings(model: str, files: SentenceFiles, precision: str) -> None:
    """Refuse what a save of sentence-transformers asks for and is not done here."""
    settings, reading = files.settings, files.reading
    if not files.modules and settings.get("default_prompt_name"):
        raise ModelError(f"{model}: has a default_prompt_name in config_sentence_transformers.json and no modules.json")
    if files.modules and settings.get("model_type") is None:
        raise ModelError(f"{model}: has modules.json, and its config_sentence_transformers.json names no model_type")
    if files.modules not in ((), ("Transformer",)):
        raise ModelError(f"{model}: its modules are {', '.join(files.modules)}; a cross-encoder is one Transformer")
    if (kept := settings.get("keep_in_fp32_modules")) and precision != "fp32":
        raise ModelError(f"{model}: asks for {shown(kept)} in fp32; set `precision: fp32`")
    where = f"{model}: its sentence_bert_config.json"
    of_others = ("processing_kwargs", "query_length", "document_length", "query_expansion", *PASSED_ON)
    if odd := [name for name in of_others if reading.get(name)]:
        raise ModelError(f"{where} sets {odd[0]}, which is not supported in a cross-encoder")
    if odd := sorted(set(reading.get("modality_config") or {}) - {"text"}):
        raise ModelError(f"{where} asks for {odd[0]}; a cross-encoder reads pairs of texts")


def _check_tokenizer(model: str, files: SentenceFiles, tokenizer: Any) -> None:
    if tokenizer.chat_template and not files.modules:
        raise ModelError(
            f"{model}: its tokenizer_config.json has a chat_template to put query and passage in, which is not "
            "supported in a cross-encoder"
        )
    if files.reading.get("do_lower_case") and tokenizer.tokenize("Aa BB") != tokenizer.tokenize("aa bb"):
        raise ModelError(
            f"{model}: its sentence_bert_config.json asks for do_lower_case, and its tokenizer tells cases apart; set "
            "the lower-casing in its tokenizer.json"
        )
