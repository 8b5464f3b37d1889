"""Scorers whose score of a pair depends on the pair alone."""

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from ray_rerank.operators.inference.stats import ScoringStats

Evaluate = Callable[[Sequence[tuple[str, ...]], ScoringStats], np.ndarray]
"""Runs a model on rows of text, (query, document) or (query, document, document), and gives float32 of len(rows),
in their order; what it cost is added to the work."""


class Pointwise:
    """A loaded model whose raw score of a pair is what its evaluation gives.

    Attributes:
        evaluate: the model; a cache may be put before it.
        precision: the number format that `auto` came to: fp32, bf16 or fp16.
    """

    evaluate: Evaluate
    precision: str

    def score(
        self, pairs: Sequence[tuple[str, str]], work: ScoringStats | None = None, lists: np.ndarray | None = None
    ) -> np.ndarray:
        """Score (query, document) pairs.

        Each distinct text is tokenised once and each distinct pair scored once. In fp32 a score is the same whatever
        its batch mates (to 1e-5 of its size); in bf16 and fp16 it moves with them in the last digits.

        Args:
            pairs: n pairs of text.
            work: if given, what this call cost is added to it.
            lists: not looked at: a pair's score does not depend on its list.

        Returns:
            float32 of n: raw scores, in the order of `pairs`.
        """
        work = ScoringStats() if work is None else work
        work.pairs += len(pairs)
        return self.evaluate(pairs, work)


class Scorer(Protocol):
    """A loaded model that gives each pair a raw score, higher for more relevant.

    `precision` is fp32, bf16 or fp16; `evaluate` is the model itself, before which a cache may be put.
    """

    precision: str
    evaluate: Evaluate

    def score(
        self, pairs: list[tuple[str, str]], work: ScoringStats | None = None, lists: np.ndarray | None = None
    ) -> np.ndarray:
        """float32 of len(pairs), in their order. `lists`, int64, says which list each pair is in: a pairwise scorer
        compares the documents of a list; without it, pairs of one query text are a list."""
