"""How a query and a passage become one input row, as the model's own tokenizer would have made it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from operators.errors import ModelError
from operators.tokens import TokenTable

_PROBE = ("what is a shard", "a part of a data set that one worker reads")


@dataclass(frozen=True, slots=True)
class PairLayout:
    """The special tokens around and between the two sequences, with their segment ids.

    Each part is (token ids, segment ids); the two sequences have one segment id each.
    """

    prefix: tuple[tuple[int, ...], tuple[int, ...]]
    middle: tuple[tuple[int, ...], tuple[int, ...]]
    suffix: tuple[tuple[int, ...], tuple[int, ...]]
    segments: tuple[int, int]
    pad: int

    @property
    def special(self) -> int:
        """How many special tokens a row has."""
        return len(self.prefix[0]) + len(self.middle[0]) + len(self.suffix[0])


def layout_of(tokenizer: Any) -> PairLayout:
    """Read a tokenizer's pair layout off one encoded pair.

    Raises:
        ModelError: the tokenizer is not a fast one, or cannot be taken apart this way.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise ModelError(f"{tokenizer.name_or_path}: has no tokenizer.json; save it with a fast tokenizer")
    encoded = tokenizer(*_PROBE)
    ids = encoded["input_ids"]
    types = encoded.get("token_type_ids", [0] * len(ids))
    owner = encoded.sequence_ids()
    first = [i for i, sequence in enumerate(owner) if sequence == 0]
    second = [i for i, sequence in enumerate(owner) if sequence == 1]
    if not first or not second or first[-1] > second[0]:
        raise ModelError(f"{tokenizer.name_or_path}: its tokenizer does not put a query before a passage")

    def part(start: int, stop: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return tuple(ids[start:stop]), tuple(types[start:stop])

    layout = PairLayout(
        prefix=part(0, first[0]),
        middle=part(first[-1] + 1, second[0]),
        suffix=part(second[-1] + 1, len(ids)),
        segments=(types[first[0]], types[second[0]]),
        pad=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
    )
    alone = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in _PROBE]
    rebuilt = [*layout.prefix[0], *alone[0], *layout.middle[0], *alone[1], *layout.suffix[0]]
    if rebuilt != ids:
        raise ModelError(
            f"{tokenizer.name_or_path}: a text is tokenised differently alone and in a pair; not supported"
        )
    return layout


def longest_first(query: np.ndarray, document: np.ndarray, room: int) -> tuple[np.ndarray, np.ndarray]:
    """Lengths that remain when tokens are taken from the longer side until both fit.

    The rule of Hugging Face's `tokenizers` (`truncate_encodings`, LongestFirst), on whole arrays.

    Args:
        query, document: int64 of n, token counts.
        room: tokens that the two may have together.

    Returns:
        The two int64 arrays of kept counts.
    """
    shorter = np.minimum(query, document)
    longer_kept = np.where(shorter > room, shorter, np.maximum(shorter, room - shorter))
    halves = shorter + longer_kept > room
    shorter_kept = np.where(halves, room // 2, shorter)
    longer_kept = np.where(halves, room // 2 + room % 2, longer_kept)
    fits = query + document <= room
    swapped = query > document
    kept_query = np.where(swapped, longer_kept, shorter_kept)
    kept_document = np.where(swapped, shorter_kept, longer_kept)
    return (
        np.where(fits, query, np.minimum(query, kept_query)),
        np.where(fits, document, np.minimum(document, kept_document)),
    )


@dataclass(frozen=True, slots=True)
class EncodedPairs:
    """Pairs by reference: which text, and how many of its tokens, so that no row is built before its batch."""

    layout: PairLayout
    queries: TokenTable
    documents: TokenTable
    query_index: np.ndarray
    document_index: np.ndarray
    query_kept: np.ndarray
    document_kept: np.ndarray

    @property
    def lengths(self) -> np.ndarray:
        """int64 of n: tokens of each row, special tokens included."""
        return np.asarray(self.query_kept + self.document_kept + self.layout.special)

    @property
    def truncated(self) -> int:
        """How many pairs lost tokens."""
        full_query = self.queries.full_lengths[self.query_index]
        full_document = self.documents.full_lengths[self.document_index]
        return int(((full_query > self.query_kept) | (full_document > self.document_kept)).sum())

    def rows(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Build the padded rows of a batch.

        Returns:
            ids, segment ids and attention mask, each int64 of (len(batch), longest row).
        """
        width = int(self.lengths[batch].max(initial=0))
        ids = np.full((len(batch), width), self.layout.pad, dtype=np.int64)
        segments = np.zeros((len(batch), width), dtype=np.int64)
        mask = np.zeros((len(batch), width), dtype=np.int64)
        layout = self.layout
        for row, pair in enumerate(batch):
            query = self.queries[self.query_index[pair]][: self.query_kept[pair]]
            document = self.documents[self.document_index[pair]][: self.document_kept[pair]]
            parts = (
                layout.prefix,
                (query, layout.segments[0]),
                layout.middle,
                (document, layout.segments[1]),
                layout.suffix,
            )
            at = 0
            for tokens, segment in parts:
                stop = at + len(tokens)
                ids[row, at:stop] = tokens
                segments[row, at:stop] = segment
                at = stop
            mask[row, :at] = 1
        return ids, segments, mask


def encode_pairs(
    layout: PairLayout,
    queries: TokenTable,
    documents: TokenTable,
    query_index: np.ndarray,
    document_index: np.ndarray,
    max_length: int,
) -> EncodedPairs:
    """Decide how many tokens of each side every pair keeps within `max_length`."""
    kept = longest_first(
        queries.full_lengths[query_index], documents.full_lengths[document_index], max_length - layout.special
    )
    return EncodedPairs(layout, queries, documents, query_index, document_index, *kept)
