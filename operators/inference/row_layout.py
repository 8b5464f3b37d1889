"""How texts become one input row of a model: fixed tokens and slots, which are all that truncation may shorten."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ray_rerank.operators.inference.tokens import TokenTable


@dataclass(frozen=True, slots=True)
class Fixed:
    """Tokens that every row has: special tokens, or a template's literal. They are never truncated."""

    ids: tuple[int, ...]
    segments: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Slot:
    """Where a text goes.

    Attributes:
        text: which text of the row: 0 is the query, 1 and 2 are documents.
        segment: the segment id of its tokens.
        cap: the most tokens it may have, whatever room there is.
    """

    text: int
    segment: int = 0
    cap: int | None = None


@dataclass(frozen=True, slots=True)
class RowLayout:
    """The parts of a row in their order, and how a batch is filled up.

    Attributes:
        pad: the id that fills it up.
        pad_left: whether on the left.
    """

    parts: tuple[Fixed | Slot, ...]
    pad: int
    pad_left: bool = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        """The slots, left to right."""
        return tuple(part for part in self.parts if isinstance(part, Slot))

    @property
    def fixed(self) -> int:
        """How many fixed tokens a row has."""
        return sum(len(part.ids) for part in self.parts if isinstance(part, Fixed))


Truncation = Literal["longest_first", "documents_first"]


def longest_first(lengths: np.ndarray, room: int | np.ndarray) -> np.ndarray:
    """Lengths that remain when tokens are taken from the longest text until all fit.

    For two texts this is the rule of Hugging Face's `tokenizers` (`truncate_encodings`, LongestFirst).

    Args:
        lengths: int64 of (rows, texts), token counts.
        room: tokens that a row's texts may have together, for all rows or for each.

    Returns:
        int64 of (rows, texts), kept counts.
    """
    order = np.argsort(lengths, axis=1, kind="stable")
    kept = np.zeros_like(lengths)
    left = np.maximum(np.broadcast_to(room, len(lengths)), 0).astype(np.int64)
    rows = np.arange(len(lengths))
    for place in range(lengths.shape[1]):
        text = order[:, place]
        kept[rows, text] = np.minimum(lengths[rows, text], left // (lengths.shape[1] - place))
        left -= kept[rows, text]
    return kept


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """Rows by reference: which text in each slot, and how many of its tokens, so that none is built before its batch.

    Attributes:
        texts: one table a slot.
        index: int64 of (rows, slots), which text of the slot's table.
        kept: int64 of (rows, slots), how many of its tokens.
    """

    layout: RowLayout
    texts: tuple[TokenTable, ...]
    index: np.ndarray
    kept: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 of n: tokens of each row, fixed tokens included."""
        return np.asarray(self.kept.sum(axis=1) + self.layout.fixed)

    @property
    def truncated(self) -> int:
        """How many rows lost tokens."""
        return int((_full_lengths(self.texts, self.index) > self.kept).any(axis=1).sum())

    def rows(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build the padded rows of a batch.

        Returns:
            ids, segment ids and attention mask, each int64 of (len(batch), longest row).
        """
        width = int(self.lengths[batch].max(initial=0))
        ids = np.full((len(batch), width), self.layout.pad, dtype=np.int64)
        segments = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        lengths = self.lengths[batch]
        for row, source in enumerate(batch):
            start = at = width - int(lengths[row]) if self.layout.pad_left else 0
            slot = 0
            for part in self.layout.parts:
                tokens: Sequence[int] | np.ndarray
                if isinstance(part, Fixed):
                    tokens, segment = part.ids, part.segments
                else:
                    tokens = self.texts[slot].cut(self.index[source, slot], self.kept[source, slot])
                    segment = (part.segment,) * len(tokens)
                    slot += 1
                stop = at + len(tokens)
                ids[row, at:stop] = tokens
                segments[row, at:stop] = segment
                at = stop
            mask[row, start:at] = 1
        return ids, segments, mask


def encode_rows(
    layout: RowLayout,
    texts: Sequence[TokenTable],
    index: np.ndarray,
    max_length: int,
    truncation: Truncation = "longest_first",
) -> EncodedRows:
    """Decide how many tokens of each text every row keeps: each slot's cap first, then what `truncation` leaves.

    Args:
        layout: the row's parts.
        texts: one table a slot.
        index: int64 of (rows, slots).
        max_length: tokens a row may have, fixed tokens included.
        truncation: what gives way where a row is too long: the longest text, or the documents (the longer first) and
            the query only when they are gone.
    """
    room = max_length - layout.fixed
    lengths = _full_lengths(texts, index)
    for number, slot in enumerate(layout.slots):
        if slot.cap is not None:
            lengths[:, number] = np.minimum(lengths[:, number], slot.cap)
    if truncation == "longest_first":
        return EncodedRows(layout, tuple(texts), index, longest_first(lengths, room))
    kept = np.minimum(lengths, max(room, 0))
    documents = [number for number, slot in enumerate(layout.slots) if slot.text > 0]
    query = np.delete(kept, documents, axis=1).sum(axis=1)
    kept[:, documents] = longest_first(lengths[:, documents], room - query)
    return EncodedRows(layout, tuple(texts), index, kept)


def _full_lengths(texts: Sequence[TokenTable], index: np.ndarray) -> np.ndarray:
    return np.stack([table.full_lengths[index[:, slot]] for slot, table in enumerate(texts)], axis=1)
