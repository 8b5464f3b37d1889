"""A smaller vocabulary: the WordPiece pieces that the training texts use, and the embeddings of just these."""

import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ray_rerank.operators.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_BATCH = 4096
_ID_FIELDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "unk_token_id")


def trim_vocabulary(
    model: "PreTrainedModel", tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], size: int
) -> "PreTrainedTokenizerBase":
    """Cut a model's vocabulary to `size` pieces, in place, and give the tokenizer that goes with it.

    Kept are the special and added tokens, every single character (alone and as a continuation), the pieces
    that those cannot spell, and then the pieces most frequent in `texts`, ties by id; all in their old order.
    So a word that was known stays known (spelled in more pieces where it must), and a text whose pieces are
    all kept has the same embeddings, and the same score, as before.

    Args:
        tokenizer: the model's own, a fast WordPiece one.
        texts: what is counted; each is tokenised once.
        size: pieces of the new vocabulary; nothing is cut where the old has no more.

    Raises:
        ModelError: the tokenizer is not WordPiece, or `size` is less than what has to stay.
    """
    state = _wordpiece(tokenizer)
    vocab: dict[str, int] = state["model"]["vocab"]
    rows = model.get_input_embeddings().weight.shape[0]
    if len(vocab) > rows or max(vocab.values()) >= rows:
        raise ModelError(f"the tokenizer has ids beyond the model's {rows} embeddings")
    needed = check_vocabulary(tokenizer, size)
    if size >= len(vocab):
        return tokenizer
    frequent = [int(piece) for piece in np.argsort(-_counts(tokenizer, texts, rows), kind="stable")]
    known = set(vocab.values())
    others = [piece for piece in frequent if piece in known and piece not in needed][: size - len(needed)]
    kept = sorted({*needed, *others})
    new_ids = {old: new for new, old in enumerate(kept)}
    _cut_embeddings(model, kept, new_ids)
    return _reloaded(tokenizer, _renumbered(state, new_ids))


def check_vocabulary(tokenizer: "PreTrainedTokenizerBase", size: int) -> set[int]:
    """The ids that a vocabulary of `size` pieces has to keep.

    Raises:
        ModelError: they are more, or the tokenizer is not WordPiece.
    """
    state = _wordpiece(tokenizer)
    needed = _needed(state, tokenizer.all_special_ids)
    if size < len(needed):
        raise ModelError(
            f"a vocabulary of {size} pieces is too small: {len(needed)} of this one's {len(state['model']['vocab'])} "
            "are special tokens and single characters, without which text would become unknown"
        )
    return needed


def _wordpiece(tokenizer: "PreTrainedTokenizerBase") -> dict[str, Any]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    state: dict[str, Any] = json.loads(backend.to_str()) if backend is not None else {}
    kind = state.get("model", {}).get("type", type(tokenizer).__name__)
    if kind != "WordPiece":
        raise ModelError(f"only a WordPiece vocabulary can be trimmed, and this tokenizer is {kind}; leave it out")
    return state


def _needed(state: dict[str, Any], special: Sequence[int]) -> set[int]:
    vocab: dict[str, int] = state["model"]["vocab"]
    prefix: str = state["model"]["continuing_subword_prefix"]
    needed = {*special, *(token["id"] for token in state["added_tokens"])}
    for piece, number in vocab.items():
        continues = piece.startswith(prefix) and len(piece) > len(prefix)
        characters = piece[len(prefix) :] if continues else piece
        spelled = [f"{prefix}{character}" for character in characters]
        if not continues:
            spelled[0] = characters[0]
        if len(characters) == 1 or not all(part in vocab for part in spelled):
            needed.add(number)
    return needed


def _counts(tokenizer: "PreTrainedTokenizerBase", texts: Iterable[str], size: int) -> NDArray[np.int64]:
    counts = np.zeros(size, np.int64)
    waiting = list(texts)
    for start in range(0, len(waiting), _BATCH):
        ids = tokenizer(waiting[start : start + _BATCH], add_special_tokens=False, truncation=False)["input_ids"]
        flat = np.fromiter((number for text in ids for number in text), dtype=np.int64)
        counts += np.bincount(flat, minlength=size)
    return counts


def _cut_embeddings(model: "PreTrainedModel", kept: Sequence[int], new_ids: dict[int, int]) -> None:
    import torch

    old = model.get_input_embeddings()
    padding = None if old.padding_idx is None else new_ids[old.padding_idx]
    new = torch.nn.Embedding(len(kept), old.weight.shape[1], padding_idx=padding, dtype=old.weight.dtype)
    with torch.no_grad():
        new.weight.copy_(old.weight[torch.tensor(kept)])
    new.weight.requires_grad_(old.weight.requires_grad)
    model.set_input_embeddings(new)
    model.config.vocab_size = len(kept)
    for name in _ID_FIELDS:
        number = getattr(model.config, name, None)
        if isinstance(number, int):
            setattr(model.config, name, new_ids.get(number))


def _renumbered(state: dict[str, Any], new_ids: dict[int, int]) -> dict[str, Any]:
    vocab = state["model"]["vocab"]
    state["model"]["vocab"] = {piece: new_ids[number] for piece, number in vocab.items() if number in new_ids}
    for token in state["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    processor = state.get("post_processor") or {}
    for token in (processor.get("special_tokens") or {}).values():
        token["ids"] = [new_ids[number] for number in token["ids"]]
    for name in ("sep", "cls"):  # BertProcessing's [token, id]
        if name in processor:
            processor[name][1] = new_ids[processor[name][1]]
    if state.get("padding"):
        state["padding"]["pad_id"] = new_ids[state["padding"]["pad_id"]]
    return state


def _reloaded(tokenizer: "PreTrainedTokenizerBase", state: dict[str, Any]) -> "PreTrainedTokenizerBase":
    """A tokenizer of the same class and settings out of another tokenizer.json."""
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        (Path(folder) / "vocab.txt").unlink(missing_ok=True)
        (Path(folder) / "tokenizer.json").write_text(json.dumps(state, ensure_ascii=False), encoding="utf-8")
        settings = Path(folder) / "tokenizer_config.json"
        content = json.loads(settings.read_text(encoding="utf-8"))
        content.pop("added_tokens_decoder", None)  # by old id; tokenizer.json has them by the new
        settings.write_text(json.dumps(content), encoding="utf-8")
        return type(tokenizer).from_pretrained(folder, local_files_only=True)
