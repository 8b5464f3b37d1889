"""Token ids of many texts in two flat arrays: each distinct text is tokenised once a unit."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ray_rerank.operators.arrow import bounds

_CHUNK = 1024  # texts a tokenizer call: its Python-side encodings are dropped between calls
_CHARACTERS = 4 << 20  # of these texts, but for a single one; an encoding takes some 100 bytes a token


@dataclass(frozen=True, slots=True)
class TokenTable:
    """Ragged token ids, without special tokens.

    Attributes:
        ids: int32, all texts end to end, each cut to the cap.
        offsets: int64 of n + 1; text i is `ids[offsets[i]:offsets[i + 1]]`.
        full_lengths: int64 of n, tokens before the cut: truncation rules ask which side was longer.
        side: where texts are cut: at their end (right), or at their beginning.
    """

    ids: np.ndarray
    offsets: np.ndarray
    full_lengths: np.ndarray
    side: Literal["left", "right"] = "right"

    def __getitem__(self, index: int) -> np.ndarray:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def cut(self, index: int, kept: int) -> np.ndarray:
        """The `kept` tokens of a text that remain when it is cut."""
        ids = self[index]
        return ids[:kept] if self.side == "right" else ids[len(ids) - min(kept, len(ids)) :]


def tokenise(tokenizer: Any, texts: Sequence[str], cap: int) -> TokenTable:
    """Tokenise texts without special tokens, keeping `cap` tokens of each: the first, or, where the tokenizer truncates
    on the left, the last."""
    left = tokenizer.truncation_side == "left"
    pieces: list[np.ndarray] = []
    full_lengths = np.zeros(len(texts), dtype=np.int64)
    for start, stop in _chunks(texts):
        encoded = tokenizer(
            list(texts[start:stop]),
            add_special_tokens=False,
            verbose=False,
            return_attention_mask=False,
            return_token_type_ids=False,
        )["input_ids"]
        for position, ids in enumerate(encoded, start=start):
            full_lengths[position] = len(ids)
            pieces.append(np.asarray(ids[max(len(ids) - cap, 0) :] if left else ids[:cap], dtype=np.int32))
    ids = np.concatenate(pieces) if pieces else np.zeros(0, dtype=np.int32)
    offsets = bounds(np.minimum(full_lengths, cap))
    return TokenTable(ids, offsets, full_lengths, "left" if left else "right")


def _chunks(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    start = characters = 0
    for stop, text in enumerate(texts):
        characters += len(text)
        if stop > start and (stop - start == _CHUNK or characters > _CHARACTERS):
            yield start, stop
            start, characters = stop, len(text)
    if start < len(texts):
        yield start, len(texts)


def distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """The distinct texts in order of first appearance, and for each text its index among them (int64)."""
    seen: dict[str, int] = {}
    index = np.fromiter((seen.setdefault(text, len(seen)) for text in texts), dtype=np.int64, count=len(texts))
    return list(seen), index
