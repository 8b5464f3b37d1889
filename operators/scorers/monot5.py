"""monoT5 (Nogueira et al. 2020, arXiv 2003.06713): the log-probability of `true` against `false`."""

from typing import ClassVar, Literal

from ray_rerank.operators.scorers.t5 import PointwiseT5, Seq2SeqConfig
from ray_rerank.operators.scorers.t5_readout import Reduction


class MonoT5Config(Seq2SeqConfig):
    """As published in pygaggle. Other languages: `targets: ["▁no", "▁yes"]` for mT5, `["▁não", "▁sim"]` for ptt5."""

    title: ClassVar[str] = "monoT5"
    colour: ClassVar[str] = "#CC79A7"
    marker: ClassVar[str] = "^"

    kind: Literal["monot5"] = "monot5"
    template: str = "Query: {query} Document: {document} Relevant:"
    targets: tuple[str, ...] = ("▁false", "▁true")
    reduction: Reduction = "log_softmax"

    def load(self, threads: int | None = None) -> PointwiseT5:
        """Load the model onto this process's device."""
        return PointwiseT5(self, threads)
