"""The Pareto front: what is worth choosing, where every other is both no better and no cheaper than something."""

from collections.abc import Sequence


def pareto_front(costs: Sequence[float], qualities: Sequence[float]) -> list[int]:
    """The indices that nothing dominates, by rising cost.

    One dominates another if it costs no more and is no worse, and is better in one of the two. Equals do not dominate
    each other: both are on the front, or neither.

    Args:
        costs, qualities: n finite numbers each; a cost is better low, a quality high.
    """
    order = sorted(range(len(costs)), key=lambda index: (costs[index], -qualities[index]))
    front: list[int] = []
    for index in order:
        last = front[-1] if front else None
        better = last is None or qualities[index] > qualities[last]
        if better or (costs[index], qualities[index]) == (costs[last], qualities[last]):  # type: ignore[index]
            front.append(index)
    return front
