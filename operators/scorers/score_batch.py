"""A scorer as a function of batches, for somebody else's pipeline: `ds.map_batches(ScoreBatch, ...)`."""

from typing import Any

import numpy as np

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.registry import scorer_config


class ScoreBatch:
    """Holds a loaded scorer and adds a column of scores to each batch of pairs.

    Rows are (query, document) pairs; a pairwise scorer compares the documents of one query text within a batch, so
    give it whole queries (`ds.groupby`, or a batch a query).
    """

    def __init__(
        self,
        scorer: dict[str, Any],
        query: str = "query",
        text: str = "text",
        score: str = "score",
        threads: int | None = None,
    ) -> None:
        """Load the scorer.

        Args:
            scorer: what a job file has under `scorer:`.
            query, text: the columns that hold the texts.
            score: the column to add.
            threads: CPU threads for torch; None leaves torch's own choice.

        Raises:
            InputError: the scorer's config is refused.
            ModelError: the model cannot be loaded.
        """
        self._scorer = scorer_config(scorer).load(threads)
        self._query, self._text, self._score = query, text, score
        self.work = ScoringStats()

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Score a batch as Ray Data gives it with `batch_format="numpy"`, the default.

        Returns:
            The batch with the score column, float32.

        Raises:
            InputError: a column is missing, or holds something else than text.
        """
        columns = []
        for name in (self._query, self._text):
            if name not in batch:
                raise InputError(f"there is no column {name!r} in the batch; it has {', '.join(batch)}")
            column = [str(value) if isinstance(value, str) else value for value in batch[name]]
            odd = next((row for row, value in enumerate(column) if not isinstance(value, str)), None)
            if odd is not None:
                raise InputError(f"column {name!r}, row {odd} of the batch: not text but {type(column[odd]).__name__}")
            columns.append(column)
        pairs = list(zip(*columns, strict=True))
        return {**batch, self._score: self._scorer.score(pairs, self.work)}
