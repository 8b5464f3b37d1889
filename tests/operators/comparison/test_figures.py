import numpy as np
import pytest

from ray_rerank.operators.comparison.figures import Speed, cost, figures
from ray_rerank.operators.comparison.timing import PassTimes
from ray_rerank.operators.evaluation.measures import evaluate, parse_measures
from ray_rerank.operators.formats.trec_runs import RankedList, Run


def run(**lists: str) -> Run:
    return {query: RankedList(list(ids), np.full(len(ids), np.nan), np.zeros(len(ids))) for query, ids in lists.items()}


def test_a_figure_has_its_interval_and_its_difference_to_the_baseline() -> None:
    qrels = {f"q{number}": {"a": 1} for number in range(4)}
    measures = parse_measures("MRR@10 NumRet")
    best = run(q0="ab", q1="ab", q2="ab", q3="ab")
    some = run(q0="ab", q1="ba", q2="ba", q3="b")
    found = figures(
        measures, {"best": evaluate(best, qrels, measures), "some": evaluate(some, qrels, measures)}, "best", 0
    )
    own = found["some"]["MRR@10"]
    assert own.value == pytest.approx(0.5) and own.interval is not None
    assert own.interval[0] <= 0.5 <= own.interval[1]
    assert own.difference is not None and own.difference.value == pytest.approx(-0.5)
    assert (own.difference.won, own.difference.tied, own.difference.lost) == (0, 1, 3)
    assert own.difference.p == own.difference.p_holm == pytest.approx(0.25)  # 2 of the 2^3 exchanges of what differs
    assert found["best"]["MRR@10"].difference is None
    counted = found["some"]["NumRet"]
    assert counted.value == 7 and counted.interval is None  # a sum has no interval of a mean
    assert counted.difference is not None and counted.difference.p is None and counted.difference.value == -1


def test_p_values_are_corrected_over_the_scorers_of_a_measure() -> None:
    draw = np.random.default_rng(0)
    qrels = {f"q{number}": {"a": 1} for number in range(30)}
    runs = {"base": run(**dict.fromkeys(qrels, "bacd"))}
    for name in ("one", "two", "three"):
        runs[name] = run(**{query: "".join(draw.permutation(list("abcd"))) for query in qrels})
    measures = parse_measures("MRR@10")
    found = figures(measures, {name: evaluate(own, qrels, measures) for name, own in runs.items()}, "base", 0)
    differences = [found[name]["MRR@10"].difference for name in ("one", "two", "three")]
    p = [own.p for own in differences if own and own.p is not None]
    smallest = min(p)
    assert [own.p_holm for own in differences if own and own.p == smallest] == [pytest.approx(min(1, 3 * smallest))]


def test_no_difference_is_told_to_a_baseline_that_failed() -> None:
    qrels, measures = {"q": {"a": 1}}, parse_measures("MRR@10")
    found = figures(measures, {"one": evaluate(run(q="a"), qrels, measures)}, "gone", 0)
    assert found["one"]["MRR@10"].difference is None


def test_cost_is_compared_round_by_round_so_that_a_slow_round_is_slow_for_all() -> None:
    calm, busy = PassTimes(np.array([0.1, 0.2, 0.3]), 0.5), PassTimes(np.array([0.3, 0.6, 0.9]), 1.5)
    twice = [PassTimes(took.alone / 2, took.together / 2) for took in (calm, busy, calm)]
    found = cost(Speed(twice, 100, ("fp32",), 1), [calm, busy, calm], price_per_hour=3.6)
    assert found.latency_ratio == pytest.approx(0.5)
    assert found.speed_ratio == pytest.approx(2) and found.speed_ratio_range == pytest.approx((2, 2))
    assert found.latency_ms == pytest.approx(100)
    assert found.latency_p95_ms == pytest.approx(145)
    assert found.pairs_per_second == pytest.approx(400)
    assert found.per_million_pairs == pytest.approx(2.5)  # 10^6 pairs take 2,500 s, at 0.001 a second
    alone = cost(Speed(twice, 100, ("fp32",), 1), None, price_per_hour=None)
    assert alone.speed_ratio is None and alone.per_million_pairs is None
