"""duoT5 (Pradeep, Nogueira and Lin 2021, arXiv 2101.05667): which of two documents is more relevant, over a list."""

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field, model_validator

from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.inference.tokens import distinct
from ray_rerank.operators.scorers.base import Evaluate
from ray_rerank.operators.scorers.config import ScoreMeaning
from ray_rerank.operators.scorers.pairwise import AggregatorName, aggregate, choose_comparisons, comparison_count
from ray_rerank.operators.scorers.t5 import Seq2Seq, Seq2SeqConfig
from ray_rerank.operators.scorers.t5_readout import Reduction

FORMS: dict[str, dict[str, Any]] = {
    "true-false": {
        "template": "Query: {query} Document0: {document0} Document1: {document1} Relevant:",
        "targets": ("▁false", "▁true"),
    },
    "document-names": {
        "template": "Query: {query} Document1: {document0} Document2: {document1} More relevant:",
        "targets": ("Document2", "Document1"),
    },
}


class DuoT5Config(Seq2SeqConfig):
    """pygaggle's form (`true-false`), or the one that answers with the better document's name (`document-names`)."""

    texts: ClassVar[dict[str, int]] = {"query": 0, "document0": 1, "document1": 2}

    pairwise: ClassVar[bool] = True
    title: ClassVar[str] = "duoT5"
    colour: ClassVar[str] = "#56B4E9"
    marker: ClassVar[str] = "P"

    kind: Literal["duot5"] = "duot5"
    form: Literal["true-false", "document-names"] = Field("true-false", description="the preset of template, targets")
    targets: tuple[str, ...] = Field(min_length=2, max_length=2, description="second document wins, first wins")
    reduction: Reduction = Field("difference", description="the logit of p_ij; no other is a comparison")
    aggregation: AggregatorName = Field("sym-sum", description="how comparisons become a document's score")
    fraction: float | None = Field(None, gt=0, le=1, description="the part of all ordered pairs to compare")
    comparisons: int | None = Field(None, ge=1, description="how many ordered pairs of a query to compare")
    seed: int = Field(0, ge=0, description="of the pairs that are drawn")

    @property
    def score_meaning(self) -> ScoreMeaning:
        """A sum over comparisons."""
        return "other"

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return FORMS.get(values.get("form", "true-false"), {}) | values if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _compares(self) -> "DuoT5Config":
        if self.reduction != "difference":
            raise ValueError("reduction: duoT5 reads the difference of its two targets")
        if self.fraction is not None and self.comparisons is not None:
            raise ValueError("give `fraction` or `comparisons`, not both")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides a score: of each comparison, and of the list that it is part of.

        Raises:
            ModelError: the model cannot be found, or is no T5.
        """
        lists = self.model_dump(include={"aggregation", "fraction", "comparisons", "seed"})
        return super().identity() | lists

    def evaluation_identity(self) -> dict[str, Any]:
        """All that decides a comparison: not which are drawn, nor what becomes of them."""
        return super().identity()

    def load(self, threads: int | None = None) -> "DuoT5":
        """Load the model onto this process's device."""
        return DuoT5(self, threads)


class DuoT5:
    """A loaded duoT5: a document's score depends on the list it is in."""

    evaluate: Evaluate
    precision: str

    def __init__(self, config: DuoT5Config, threads: int | None = None) -> None:
        """Load the model.

        Raises:
            ModelError: see `Seq2Seq`.
        """
        self.config = config
        self._model = Seq2Seq(config, threads)
        self.evaluate, self.precision = self._model.evaluate, self._model.precision

    def score(
        self, pairs: Sequence[tuple[str, str]], work: ScoringStats | None = None, lists: np.ndarray | None = None
    ) -> np.ndarray:
        """Compare the documents of each list with each other, all lists' comparisons in the same batches.

        Args:
            pairs: n (query, document) pairs.
            work: if given, what this call cost is added to it; `evaluations` are comparisons.
            lists: int64 of n, which list each pair is in; without it, pairs of one query text are a list.

        Returns:
            float32 of n, in the order of `pairs`: the aggregated comparisons; 0 for a document that is alone.
        """
        work = ScoringStats() if work is None else work
        work.pairs += len(pairs)
        if lists is None:
            lists = distinct([query for query, _ in pairs])[1]
        members = [np.flatnonzero(lists == one) for one in np.unique(lists)]
        chosen = [self._comparisons(pairs[own[0]][0], len(own)) for own in members]
        rows = [
            (pairs[own[0]][0], pairs[own[i]][1], pairs[own[j]][1])
            for own, (first, second) in zip(members, chosen, strict=True)
            for i, j in zip(first, second, strict=True)
        ]
        p = np.exp(-np.logaddexp(0, -self.evaluate(rows, work).astype(np.float64)))
        scores = np.empty(len(pairs), dtype=np.float32)
        at = 0
        for own, (first, second) in zip(members, chosen, strict=True):
            stop = at + len(first)
            scores[own] = aggregate(self.config.aggregation, first, second, p[at:stop], len(own))
            at = stop
        return scores

    def _comparisons(self, query: str, documents: int) -> tuple[np.ndarray, np.ndarray]:
        count = comparison_count(documents, self.config.fraction, self.config.comparisons)
        return choose_comparisons(documents, count, self.config.seed, query)
