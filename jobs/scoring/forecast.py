"""How much of a job a cache holds already, by a look at a few of its units; nothing is written."""

from dataclasses import dataclass

import numpy as np

from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.storage import absolute
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.scoring.input import CandidateInput
from ray_rerank.jobs.scoring.pairs import text_pairs, unit_pairs
from ray_rerank.operators.candidates.schema import Columns
from ray_rerank.operators.scorers.cached import row_keys
from ray_rerank.operators.scorers.config import ModelConfig

_UNITS = 4  # looked at, evenly spread


@dataclass(frozen=True, slots=True)
class Forecast:
    """Pairs of the first stage that were looked up, and how many of them were there, by precision."""

    pairs: int
    found: dict[str, int]

    def __str__(self) -> str:
        if not self.pairs:
            return "no pair to look up"
        found = {name: count for name, count in self.found.items() if count} or {"": 0}
        shares = ", ".join(f"{count / self.pairs:.0%} {name}".strip() for name, count in found.items())
        return f"{shares} of {self.pairs} pairs of stage 1 that were looked up are there"


def forecast(scorer: ModelConfig, cache: str, given: CandidateInput, columns: Columns, units: list[Unit]) -> Forecast:
    """Look up the first stage's pairs of a few units.

    Precision `auto` is settled by the workers' hardware, so all are looked at.

    Raises:
        UnavailableError: the storage does not answer.
    """
    precisions = ("fp32", "bf16", "fp16") if scorer.precision == "auto" else (scorer.precision,)
    identity = scorer.evaluation_identity()
    caches = {p: ScoreCache.of(absolute(cache), identity | {"precision": p}) for p in precisions}
    chosen = sorted({len(units) * part // _UNITS for part in range(_UNITS)} if units else ())
    pairs, found = 0, dict.fromkeys(precisions, 0)
    for number in chosen:
        try:
            keys = row_keys(text_pairs(unit_pairs(units[number], given, columns)))
        except UnavailableError:
            raise
        except StorageError:  # its pages are damaged: the run fails this unit alone
            continue
        pairs += len(keys[0])
        for name, scores in caches.items():
            found[name] += int((~np.isnan(scores.lookup(*keys)[0])).sum())
    return Forecast(pairs, found)
