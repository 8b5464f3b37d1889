"""The figures of a comparison of scorers: out of values by query, and of seconds by round."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ray_rerank.operators.comparison.schema import Cost, Difference, Figure
from ray_rerank.operators.comparison.timing import PassTimes
from ray_rerank.operators.evaluation.intervals import paired_interval
from ray_rerank.operators.evaluation.measures import Measured, NamedMeasure
from ray_rerank.operators.evaluation.significance import holm, randomisation_p

_EQUAL = 1e-9  # values of a query that differ by less are tied


def figures(
    measures: Sequence[NamedMeasure], measured: dict[str, Measured], baseline: str, seed: int
) -> dict[str, dict[str, Figure]]:
    """Each ranking's figures, with the difference to the baseline's where that was measured.

    Args:
        measured: by name of the ranking, all over the same queries.
        baseline: one of the names.

    Returns:
        By name of the ranking, then of the measure.
    """
    found: dict[str, dict[str, Figure]] = {name: {} for name in measured}
    others = [name for name in measured if name != baseline and baseline in measured]
    for row, named in enumerate(measures):
        values = {name: one.values[row] for name, one in measured.items()}
        p: dict[str, float] = {}
        if named.is_mean:
            p = {name: randomisation_p(values[baseline], values[name], seed) for name in others}
        corrected = dict(zip(p, holm(list(p.values())), strict=True))
        for name, one in measured.items():
            difference = None
            if name in others:
                gain = values[name] - values[baseline]
                won, lost = int((gain > _EQUAL).sum()), int((gain < -_EQUAL).sum())
                difference = Difference(
                    value=one.means[named.name] - measured[baseline].means[named.name],
                    interval=paired_interval(values[baseline], values[name], seed) if named.is_mean else None,
                    p=p.get(name),
                    p_holm=corrected.get(name),
                    won=won,
                    tied=len(gain) - won - lost,
                    lost=lost,
                )
            own = paired_interval(np.zeros_like(values[name]), values[name], seed) if named.is_mean else None
            found[name][named.name] = Figure(value=one.means[named.name], interval=own, difference=difference)
    return found


@dataclass(frozen=True, slots=True)
class Speed:
    """A scorer's rounds, and what they were measured on.

    Attributes:
        rounds: one or more, over the same queries.
        pairs: candidates of all queries.
        precision: really used, by stage.
        threads: CPU threads of torch.
    """

    rounds: Sequence[PassTimes]
    pairs: int
    precision: tuple[str, ...]
    threads: int


def cost(speed: Speed, baseline: Sequence[PassTimes] | None, price_per_hour: float | None) -> Cost:
    """A scorer's cost out of its rounds, each beside the baseline's of the same round.

    Args:
        baseline: as many rounds; None where it was not timed.
    """
    rounds = speed.rounds
    by_query = np.median([one.alone for one in rounds], axis=0) * 1000
    rate = speed.pairs / float(np.median([one.together for one in rounds]))
    latency_ratio = speed_ratio = speed_range = None
    if baseline is not None:
        beside = list(zip(rounds, baseline, strict=True))
        latency_ratio = float(np.median([np.median(own.alone) / np.median(base.alone) for own, base in beside]))
        speeds = [base.together / own.together for own, base in beside]
        speed_ratio, speed_range = float(np.median(speeds)), (min(speeds), max(speeds))
    return Cost(
        latency_ms=float(np.median(by_query)),
        latency_p95_ms=float(np.quantile(by_query, 0.95)),
        latency_ratio=latency_ratio,
        pairs_per_second=rate,
        speed_ratio=speed_ratio,
        speed_ratio_range=speed_range,
        per_million_pairs=price_per_hour / (rate * 3600) * 1e6 if price_per_hour else None,
        precision=speed.precision,
        threads=speed.threads,
    )
