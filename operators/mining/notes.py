"""What a person is told of a mining that gave fewer negatives than were asked for: how many, why, and what helps."""

import math
from collections import Counter
from collections.abc import Sequence

from ray_rerank.operators.mining.guard import (
    NO_POSITIVE,
    NO_SCORE,
    Bound,
    Guard,
    GuardOutcome,
    ScoredDraw,
    apply_guard,
    wanted_bound,
)
from ray_rerank.operators.mining.negatives import Negative
from ray_rerank.operators.mining.sources import RandomSource, Source

_LOOSER_IS_MORE: dict[Bound, bool] = {
    "max_score": True,
    "absolute_margin": False,
    "relative_margin": False,
    "at_most": True,
}


def shortage_notes(
    sources: Sequence[Source],
    drawn: Sequence[Sequence[Negative]],
    outcomes: Sequence[GuardOutcome],
    guard: Guard | None,
) -> list[str]:
    """How many queries have fewer negatives than were asked for, by cause, each with what helps against it.

    Args:
        drawn, outcomes: by query; all that was drawn is kept where there is no guard.
    """
    wanted = sum(source.count for source in sources)
    short = [number for number, own in enumerate(outcomes) if len(own.kept) < wanted]
    if not short:
        return []
    allowed = [[] if own.fell_back else own.kept for own in outcomes]
    causes = Counter(
        cause
        for number in short
        for cause in {_cause(n, s, drawn[number], allowed[number], guard) for n, s in enumerate(sources)}
    )
    told = f"{len(short)} of {len(outcomes)} queries have fewer than {wanted} negatives"
    if bare := sum(not outcomes[number].kept for number in short):
        told += f", {bare} of them none"
    pool = guard.pool if guard else 1
    remedies = {
        "ranks": "their ranks hold no more (wider `ranks`, or a lower `count`)",
        "corpus": "the corpus holds no more to draw at random (a lower `count`)",
        "pool": f"the guard refused more than its pool makes up for (a larger `guard.pool` than {pool})",
        "bound": "the guard refused all that a source has (a looser bound; a larger pool would not help)",
    }
    return ["; ".join([told, *(f"in {causes[name]}: {text}" for name, text in remedies.items() if causes[name])])]


def _cause(
    number: int, source: Source, drawn: Sequence[Negative], allowed: Sequence[Negative], guard: Guard | None
) -> str | None:
    """Why a query has fewer negatives of a source; None where it has not."""
    offered, own = (sum(negative.source == number for negative in some) for some in (drawn, allowed))
    if own >= source.count:
        return None
    if offered >= source.count and not own:
        return "bound"
    if guard is not None and offered == source.count * guard.pool:
        return "pool"
    return "corpus" if isinstance(source, RandomSource) else "ranks"


def guard_notes(
    guard: Guard,
    sources: Sequence[Source],
    draws: Sequence[ScoredDraw],
    outcomes: Sequence[GuardOutcome],
) -> list[str]:
    """What the guard refused, by source and reason; and where it left queries with nothing, what would change that.

    Args:
        draws, outcomes: by query, as `apply_guard` takes and returns them.
    """
    refused = sum((own.refused for own in outcomes), Counter[tuple[int, str]]())
    kept = Counter(negative.source for own in outcomes for negative in own.kept)
    notes = [f"{refused.total():,} drawn passages were refused by the guard"]
    for number, source in enumerate(sources):
        own = {reason: many for (of, reason), many in refused.items() if of == number}
        if own:
            reasons = ", ".join(f"{many:,} x {reason}" for reason, many in sorted(own.items()))
            notes.append(f"  {source.kind}: {sum(own.values()):,} refused ({reasons}), {kept[number]:,} kept")
    lost = [
        number for number, own in enumerate(outcomes) if draws[number].negatives and (own.fell_back or not own.kept)
    ]
    if not lost:
        return notes
    left = f"the guard refused all that was drawn for {len(lost)} of {len(outcomes)} queries: "
    fell_back = sum(outcomes[number].fell_back for number in lost)
    if fell_back:
        left += f"{fell_back} keep the passage with the lowest score (`guard.fallback`)"
    else:
        left += "they have no negative; `guard.fallback: keep-lowest` gives each its passage with the lowest score"
    looser = _looser(guard, sources, [draws[number] for number in lost])
    return [*notes, "; ".join([left, *([looser] if looser else [])])]


def _looser(
    guard: Guard,
    sources: Sequence[Source],
    lost: Sequence[ScoredDraw],
) -> str | None:
    """The bound that refuses most, and the value of it that leaves half of these queries something."""
    strict = guard.model_copy(update={"fallback": "skip"})
    reasons = sum((apply_guard(strict, sources, draw).refused for draw in lost), Counter[tuple[int, str]]())
    by_reason = Counter[str]()
    for (_, reason), many in reasons.items():
        by_reason[reason] += many
    name = max(by_reason, key=lambda reason: by_reason[reason])
    if name in (NO_SCORE, NO_POSITIVE):
        return "the teacher's scores are missing, which no bound changes"
    bound: Bound = name  # type: ignore[assignment]
    wanted = (wanted_bound(guard, bound, draw.scores, draw.positives) for draw in lost)
    values = [value for value in wanted if value is not None]
    if values:
        more = _LOOSER_IS_MORE[bound]
        value = _rounded(sorted(values, reverse=not more)[(len(values) - 1) // 2], more)
        value = min(value, 1.0) if bound == "at_most" else value
        looser = strict.model_copy(update={bound: value})
        if helped := sum(bool(apply_guard(looser, sources, draw).kept) for draw in lost):
            now = getattr(guard, bound)
            return f"`guard.{bound}: {value:g}` in place of {now:g} would allow a passage in {helped} of them"
    why = "" if bound == "max_score" else ": the teacher scores their positives no higher than what was drawn for them"
    return f"no value of `guard.{bound}` alone would allow one{why}"


def _rounded(value: float, up: bool) -> float:
    """Two digits that count, on the looser side."""
    if not value:
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 1)
    return float(f"{(math.ceil if up else math.floor)(value / step) * step:.6g}")
