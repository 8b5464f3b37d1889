"""A T5 ranker that scores each (query, document) pair by itself."""

from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.t5 import Seq2Seq, Seq2SeqConfig


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
