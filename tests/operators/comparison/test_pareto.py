from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.comparison.pareto import pareto_front

FEW = st.integers(0, 6).map(float)  # few values, so that equals and near misses are common
POINTS = st.lists(st.tuples(FEW, FEW), max_size=12)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    return one[0] <= other[0] and one[1] >= other[1] and one != other


@given(POINTS)
def test_the_front_is_what_nothing_dominates_by_rising_cost(points: list[tuple[float, float]]) -> None:
    front = pareto_front([cost for cost, _ in points], [quality for _, quality in points])
    expected = {at for at, own in enumerate(points) if not any(dominates(other, own) for other in points)}
    assert len(front) == len(set(front)) and set(front) == expected
    assert [points[at][0] for at in front] == sorted(points[at][0] for at in front)


def test_one_that_is_as_good_and_slower_is_off_the_front() -> None:
    assert pareto_front([2.0, 1.0, 3.0], [0.5, 0.5, 0.6]) == [1, 2]
