"""How much of a job a cache holds already, by a look at a few of its units; nothing is written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.score_cache.lookup import ScoreCache
from ray_rerank.cluster.storage.files import UnavailableError, absolute
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.scoring.pairs import text_pairs, unit_pairs
from ray_rerank.jobs.scoring.plan import Input
from ray_rerank.operators.scorers.cached import row_keys

if TYPE_CHECKING:
    from ray_rerank.jobs.rerank import Config

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


def forecast(config: Config, given: Input, units: list[Unit]) -> Forecast:
    """Look up the first stage's pairs of a few units.

    Precision `auto` is settled by the workers' hardware, so all are looked at.

    Raises:
        UnavailableError: the storage does not answer.
    """
    scorer = config.stages[0].scorer
    precisions = ("fp32", "bf16", "fp16") if scorer.precision == "auto" else (scorer.precision,)
    identity = scorer.evaluation_identity()
    caches = {p: ScoreCache.of(absolute(str(config.cache)), identity | {"precision": p}) for p in precisions}
    chosen = sorted({len(units) * part // _UNITS for part in range(_UNITS)} if units else ())
    pairs, found = 0, dict.fromkeys(precisions, 0)
    for number in chosen:
        try:
            keys = row_keys(text_pairs(unit_pairs(units[number], given, config.columns)))
        except UnavailableError:
            raise
        except StorageError:  # its pages are damaged: the run fails this unit alone
            continue
        pairs += len(keys[0])
        for name, cache in caches.items():
            found[name] += int((~np.isnan(cache.lookup(*keys)[0])).sum())
    return Forecast(pairs, found)
