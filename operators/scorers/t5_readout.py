"""What is read off a decoder's first step: the logits of a few target tokens, and one number out of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from ray_rerank.operators.errors import ModelError

if TYPE_CHECKING:
    import torch

Reduction = Literal["logit", "log_softmax", "softmax", "difference", "expected_value"]

_WORD = "▁"


@dataclass(frozen=True, slots=True)
class Readout:
    """Targets that a tokenizer has confirmed.

    Attributes:
        prefix: token ids that the decoder is given before the targets.
        targets: one distinct token id each; the last stands for "relevant".
    """

    prefix: tuple[int, ...]
    targets: tuple[int, ...]


def resolve_readout(tokenizer: Any, targets: Sequence[str], decoder_prefix: str | None) -> Readout:
    """Find the one token that each target is, behind the decoder prefix.

    A target that is itself a token of the vocabulary and starts with `▁` or stands in angle brackets is taken as
    that token; any other is text, and is tokenised. Without a prefix, what all targets' tokens share at their start
    is the prefix (`Document1` and `Document2`: `▁Document`). Targets of one character of which some have no token
    of their own at the start of a word (T5: `0` is `▁`, `0`) are all read behind a bare `▁`.

    Raises:
        ModelError: a target is not one token in its context, or two are the same; the message names the pieces.
    """
    if decoder_prefix is None:
        answers = [_pieces(tokenizer, target) for target in targets]
        shared = 0
        while len(answers) > 1 and all(
            len(a) > shared + 1 and a[: shared + 1] == answers[0][: shared + 1] for a in answers
        ):
            shared += 1
        if any(len(answer) > 1 for answer in answers) and shared == 0 and all(len(target) == 1 for target in targets):
            return resolve_readout(tokenizer, targets, _WORD)
        prefix, rest = answers[0][:shared], [answer[shared:] for answer in answers]
    else:
        prefix = _pieces(tokenizer, decoder_prefix)
        rest = [_behind(tokenizer, decoder_prefix, prefix, target) for target in targets]
    unknown = tokenizer.unk_token
    for target, pieces in zip(targets, rest, strict=True):
        if len(pieces) != 1 or pieces[0] == unknown:
            where = f" behind {' '.join(prefix)!r}" if prefix else ""
            raise ModelError(
                f"{tokenizer.name_or_path}: target {target!r} is not one token{where} but "
                f"{len(pieces)}: {', '.join(map(repr, pieces))}; choose other `targets` or a `decoder_prefix`"
            )
    ids = tuple(tokenizer.convert_tokens_to_ids([pieces[0] for pieces in rest]))
    if len(set(ids)) < len(ids):
        named = ", ".join(f"{target!r} is {pieces[0]!r}" for target, pieces in zip(targets, rest, strict=True))
        raise ModelError(f"{tokenizer.name_or_path}: targets share a token: {named}")
    return Readout(tuple(tokenizer.convert_tokens_to_ids(prefix)), ids)


def reduce_logits(logits: "torch.Tensor", reduction: Reduction) -> "torch.Tensor":
    """One score a row.

    Args:
        logits: float32 of (rows, targets).
        reduction: `logit`, `log_softmax` or `softmax` over the targets: the last target's; `difference`: the last
            less the first, which for two targets is the logit of the last's probability; `expected_value`: the sum
            of k p_k, where p is the softmax and k counts the targets from 0.

    Returns:
        float32 of (rows,).
    """
    import torch

    if reduction == "logit":
        return logits[:, -1]
    if reduction == "log_softmax":
        return torch.log_softmax(logits, dim=-1)[:, -1]
    if reduction == "softmax":
        return torch.softmax(logits, dim=-1)[:, -1]
    if reduction == "difference":
        return logits[:, -1] - logits[:, 0]
    value = torch.arange(logits.shape[1], dtype=logits.dtype, device=logits.device)
    return torch.softmax(logits, dim=-1) @ value


def _pieces(tokenizer: Any, text: str) -> list[str]:
    if _is_token(tokenizer, text):
        return [text]
    return list(tokenizer.tokenize(text))


def _is_token(tokenizer: Any, text: str) -> bool:
    marked = text.startswith(_WORD) or (text.startswith("<") and text.endswith(">"))
    return marked and tokenizer.convert_tokens_to_ids(text) not in (None, tokenizer.unk_token_id)


def _behind(tokenizer: Any, decoder_prefix: str, prefix: list[str], target: str) -> list[str]:
    """The pieces of a target that follows the prefix without a space."""
    if _is_token(tokenizer, target):
        return [target]
    if prefix == [_WORD]:  # a bare word start: the target is the rest of the word
        return [target] if tokenizer.convert_tokens_to_ids(target) != tokenizer.unk_token_id else [tokenizer.unk_token]
    together = list(tokenizer.tokenize(decoder_prefix + target))
    return together[len(prefix) :] if together[: len(prefix)] == prefix else together
