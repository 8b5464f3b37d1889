"""Rows of texts through a model: each distinct text tokenised once, each distinct row run once, lengths sorted."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ray_rerank.operators.inference.batches import TokenBudget, run_in_batches
from ray_rerank.operators.inference.row_layout import RowLayout, Truncation, encode_rows
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.inference.tokens import distinct, tokenise

Start = Callable[[np.ndarray, np.ndarray, np.ndarray], Callable[[], np.ndarray]]
"""Starts a batch of ids, segment ids and mask, each int64 of (rows, longest), and returns a call that waits
for its float32 scores."""


@dataclass(frozen=True, slots=True)
class RowScoring:
    """All that scoring rows of (query, document) or (query, document, document) takes.

    Attributes:
        tokenizer: a fast one.
        layout: where each text of a row goes.
        max_length: tokens a row may have.
        budget: tokens a batch may have; shrinks when memory runs out.
        start: the model.
        truncation: which text gives way where a row is too long.
        query_prompt: text put before every query.
    """

    tokenizer: Any
    layout: RowLayout
    max_length: int
    budget: TokenBudget
    start: Start
    truncation: Truncation = "longest_first"
    query_prompt: str = ""

    def __call__(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        """Score rows.

        Returns:
            float32 of len(rows), in their order.
        """
        started = time.perf_counter()
        queries, query_of = distinct([self.query_prompt + row[0] for row in rows])
        width = 1 + max(slot.text for slot in self.layout.slots)
        documents, document_of = distinct([row[text] for text in range(1, width) for row in rows])
        columns = [query_of, *document_of.reshape(width - 1, len(rows))]
        key = columns[0].astype(np.int64)
        for column in columns[1:]:
            key = key * max(len(documents), 1) + column
        _, first, inverse = np.unique(key, return_index=True, return_inverse=True)
        tables = [tokenise(self.tokenizer, texts, self.max_length) for texts in (queries, documents)]
        slots = self.layout.slots
        encoded = encode_rows(
            self.layout,
            [tables[min(slot.text, 1)] for slot in slots],
            np.stack([columns[slot.text][first] for slot in slots], axis=1),
            self.max_length,
            self.truncation,
        )
        lengths = encoded.lengths
        scores = np.empty(len(first), dtype=np.float32)
        for batch, result in run_in_batches(lengths, lambda batch: self.start(*encoded.rows(batch)), self.budget, work):
            scores[batch] = result
        work.evaluations += len(first)
        work.truncated += encoded.truncated
        work.seconds += time.perf_counter() - started
        return scores[inverse]
