"""T5 rankers: a template filled with texts, one decoder step, one number read off the targets' logits."""

from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, field_validator, model_validator

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.prompt_template import template_layout, template_slots
from ray_rerank.operators.inference.row_layout import RowLayout, Truncation
from ray_rerank.operators.inference.row_scoring import RowScoring
from ray_rerank.operators.models.checkpoint import Checkpoint, find_checkpoint
from ray_rerank.operators.models.device import default_batch_tokens, pick_placement, precision_name, to_device
from ray_rerank.operators.models.load import load_tokenizer, load_weights, verify_weights
from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig, ScoreMeaning, whatever_is_raised_names_the_model
from ray_rerank.operators.scorers.proof import LoadedModel, prove, try_out
from ray_rerank.operators.scorers.t5_readout import Readout, Reduction, reduce_logits, resolve_readout

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""

DEFAULT_MAX_LENGTH = 512  # what monoT5, RankT5 and duoT5 were trained with; T5's positions are relative


class Seq2SeqConfig(ModelConfig):
    """Template and readout of a T5 ranker. A family is a preset of these fields; each can be set in the config."""

    texts: ClassVar[dict[str, int]] = {"query": 0, "document": 1}
    """Slot names, and which text of a row each takes."""

    template: str = Field(description="literals and slots in braces; literals are never truncated")
    targets: tuple[str, ...] = Field(min_length=1, description="tokens or words to read; the last means relevant")
    decoder_prefix: str | None = Field(
        None, description="what the decoder is given before the targets; default: what they share at their start"
    )
    reduction: Reduction = Field(description="what becomes of the targets' logits")
    end_token: bool = Field(True, description="whether `</s>` ends the input")
    truncation: Truncation = Field("longest_first", description="what gives way: the longest text, or the documents")
    caps: dict[str, int] = Field({}, description="the most tokens a slot may have, by its name")

    @field_validator("targets", "decoder_prefix", mode="before")
    @classmethod
    def _words_are_not_truths(cls, value: Any) -> Any:
        if any(isinstance(one, bool) for one in (value if isinstance(value, list | tuple) else [value])):
            raise ValueError("YAML reads yes, no, true and false as truth values: put them in quotes")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> "Seq2SeqConfig":
        slots = template_slots(self.template)
        if sorted(slots) != sorted(self.texts):
            raise ValueError(f"template {self.template!r} must hold each of {', '.join(self.texts)} once, in braces")
        odd = [name for name, cap in self.caps.items() if name not in self.texts or cap < 1]
        if odd:
            raise ValueError(f"caps: {', '.join(odd)}: the slots are {', '.join(self.texts)}, the caps 1 or more")
        if len(self.targets) < 2 and self.reduction != "logit":
            raise ValueError(f"reduction {self.reduction!r} needs two targets or more")
        return self

    @property
    def score_meaning(self) -> ScoreMeaning:
        """By what becomes of the targets' logits."""
        if self.reduction in {"logit", "difference"}:
            return "logit"
        return "log-probability" if self.reduction == "log_softmax" else "other"

    @whatever_is_raised_names_the_model
    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, is no T5, or cannot be read with this template and these targets.
        """
        from transformers import AutoModelForSeq2SeqLM

        found = self.checkpoint()
        _, _, readout = self.reader()
        verify_weights(AutoModelForSeq2SeqLM, self.model, found)
        try_out(self, found, lambda: Seq2Seq(self, device="cpu"))
        said = self.model_dump(include={"kind", "template", "decoder_prefix", "reduction", "end_token", "precision"})
        return said | {
            "weights": found.content,
            "targets": list(self.targets),
            "target_ids": [*readout.prefix, *readout.targets],
            "caps": dict(sorted(self.caps.items())),
            "max_length": self.resolved_max_length(),
            "truncation": self.truncation,
            "code": CODE_VERSION,
        }

    def checkpoint(self) -> Checkpoint:
        """The model's files, checked without loading them."""
        found = find_checkpoint(self.model, self.revision)
        names = found.config.get("architectures") or []
        if not any("T5ForConditionalGeneration" in name for name in names):
            raise ModelError(
                f"{self.model}: this scorer is a T5 with a language-model head (T5ForConditionalGeneration); "
                f"by its config.json this is {', '.join(names) or 'of unknown architecture'}"
            )
        start = found.config.get("decoder_start_token_id")
        if not isinstance(start, int) or found.config.get("is_encoder_decoder", True) is not True:
            raise ModelError(
                f"{self.model}: a T5's config.json has is_encoder_decoder true and a decoder_start_token_id; here they "
                f"are {found.config.get('is_encoder_decoder', True)} and {start}"
            )
        return found

    def reader(self) -> tuple[Any, RowLayout, Readout]:
        """The tokenizer, and what template and targets are to it.

        Raises:
            ModelError: a target is not one distinct token, or the template leaves no room for texts.
        """
        tokenizer = load_tokenizer(self.model, self.checkpoint())
        readout = resolve_readout(tokenizer, self.targets, self.decoder_prefix)
        layout = template_layout(tokenizer, self.template, self.texts, self.caps, self.end_token)
        if self.resolved_max_length() - layout.fixed < len(layout.slots):
            raise ModelError(
                f"{self.model}: max_length {self.resolved_max_length()} leaves no room for texts: "
                f"the template alone has {layout.fixed} tokens"
            )
        return tokenizer, layout, readout

    def resolved_max_length(self) -> int:
        """Tokens a row may have, template included."""
        return self.max_length or DEFAULT_MAX_LENGTH


class Seq2Seq:
    """A loaded T5 that scores rows of texts. One per process: it sets the process's thread count."""

    def __init__(self, config: Seq2SeqConfig, threads: int | None = None, device: str | None = None) -> None:
        """Load the model and check that its tokenizer knows the template and the targets.

        Raises:
            ModelError: the model cannot be loaded, or does not score a row the same in any company; a target is not one
                distinct token; the template leaves no room.
        """
        import torch
        from transformers import AutoModelForSeq2SeqLM

        if threads:
            torch.set_num_threads(threads)
        found = config.checkpoint()
        tokenizer, layout, readout = config.reader()
        self._device, dtype = pick_placement(config.precision, device, fits_fp16=False)
        self.precision = precision_name(dtype)
        self._model = load_weights(AutoModelForSeq2SeqLM, config.model, found, dtype).to(self._device)
        self._model.lm_head = _only_rows(self._model.lm_head, readout.targets)
        start = self._model.config.decoder_start_token_id
        self._decoder_ids = torch.tensor([[start, *readout.prefix]], device=self._device)
        self._reduction = config.reduction
        budget = TokenBudget(config.batch_tokens or default_batch_tokens(self._device))
        self.evaluate = RowScoring(
            tokenizer, layout, config.resolved_max_length(), budget, self._start, config.truncation
        )
        prove(LoadedModel(config, found, self.precision, len(config.texts)), self.evaluate, budget)

    def _start(self, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> Callable[[], np.ndarray]:
        import torch

        with torch.inference_mode():
            logits = self._model(
                **to_device({"input_ids": ids, "attention_mask": mask}, self._device),
                decoder_input_ids=self._decoder_ids.expand(len(ids), -1),
                use_cache=False,
            ).logits[:, -1]
            scores = reduce_logits(logits.float(), self._reduction)
        return lambda: np.asarray(scores.cpu().numpy())


def _only_rows(head: Any, targets: tuple[int, ...]) -> Any:
    """An output head of the target rows alone: the model's own forward still scales what it multiplies."""
    import torch

    small = torch.nn.Linear(head.in_features, len(targets), bias=head.bias is not None, dtype=head.weight.dtype)
    rows = torch.tensor(targets, device=head.weight.device)
    small.to(head.weight.device)
    with torch.no_grad():
        small.weight.copy_(head.weight[rows])
        if head.bias is not None:
            small.bias.copy_(head.bias[rows])
    return small.eval()


class PointwiseT5(Pointwise):
    """A loaded monoT5 or RankT5; what a score means is the config's `reduction`."""

    def __init__(self, config: Seq2SeqConfig, threads: int | None = None) -> None:
        """Load the model.

        Raises:
            ModelError: see `Seq2Seq`.
        """
        self.config = config
        self._model = Seq2Seq(config, threads)
        self.evaluate, self.precision = self._model.evaluate, self._model.precision
