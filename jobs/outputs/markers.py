"""What the jobs write into the markers of their units, and how it is read back."""

from typing import Annotated

from pydantic import AfterValidator, PlainSerializer

from ray_rerank.cluster.records import Count
from ray_rerank.cluster.run_folder import Manifest, Marker
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.ranking.labels import Moments
from ray_rerank.operators.scorers.bi_encoder import Similarity


def _counted(work: ScoringStats) -> ScoringStats:
    if not all(0 <= value < 1 << 63 for value in work.as_dict().values()):
        raise ValueError("a count is out of range")
    return work


Counts = Annotated[ScoringStats, AfterValidator(_counted), PlainSerializer(ScoringStats.as_dict)]


class Scored(Marker):
    """A unit of rerank or label.

    Attributes:
        pairs, ranked: candidates of the input, and those of them that were ranked.
        works: what each stage cost.
        queries: of the rankings, where rows are something else.
        provisional: its scores still have to be standardised: their `score` is null.
        moments: of its scores, by teacher.
        scales: that its scores were standardised by.
    """

    pairs: Count
    ranked: Count
    works: tuple[Counts, ...]
    queries: Count | None = None
    notes: tuple[str, ...] = ()
    provisional: bool = False
    moments: tuple[Moments, ...] = ()
    scales: tuple[Moments, ...] | None = None


class Embedded(Scored):
    """A unit of texts whose vectors are kept; nothing is ranked."""

    similarity: Similarity
    ranked: Count = 0
    works: tuple[Counts, ...] = ()


def kind_of(manifest: Manifest) -> type[Scored]:
    """What the markers of a run are."""
    return Embedded if "texts" in manifest.identity else Scored
