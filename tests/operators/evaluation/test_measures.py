import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.evaluation.measures import default_measures, evaluate, parse_measures
from ray_rerank.operators.formats.qrels import read_qrels
from ray_rerank.operators.formats.trec_runs import RankedList, Run, read_run
from ray_rerank.operators.rejects import RaiseOnReject
from support.paths import SHARED

DL20 = SHARED / "data" / "dl20"


def ranked(*doc_ids: str) -> RankedList:
    return RankedList(list(doc_ids), np.full(len(doc_ids), np.nan), np.zeros(len(doc_ids), dtype=np.int64))


def one(run: Run, qrels: dict[str, dict[str, int]], measure: str) -> list[float]:
    return evaluate(run, qrels, parse_measures(measure)).values[0].tolist()


def test_ndcg_and_rr_are_what_a_hand_computes() -> None:
    run = {"q": ranked("x", "b", "a")}
    qrels = {"q": {"a": 3, "b": 1, "c": 2}}
    gain = 1 / math.log2(3) + 3 / math.log2(4)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert one(run, qrels, "nDCG@10") == pytest.approx([gain / ideal])
    assert one(run, qrels, "RR@10") == [1 / 2]
    assert one(run, qrels, "RR(rel=2)@10") == [pytest.approx(1 / 3)]
    assert one(run, qrels, "RR(rel=2)@2") == [0]
    assert one(run, qrels, "R@2") == [pytest.approx(1 / 3)]


@given(st.permutations(["10", "9", "b", "a", "Z", "\N{SNOWMAN}"]))
def test_the_order_of_the_ranking_counts_whatever_the_documents_are_called(order: list[str]) -> None:
    place = order.index("a") + 1
    assert one({"q": ranked(*order)}, {"q": {"a": 1}}, "RR@10") == [pytest.approx(1 / place)]
    assert one({"q": ranked(*order)}, {"q": {"a": 1}}, "nDCG@10") == [pytest.approx(1 / math.log2(place + 1))]


def test_a_judged_query_without_a_ranking_counts_as_zero() -> None:
    measured = evaluate({"q": ranked("a")}, {"p": {"a": 1}, "q": {"a": 1}}, parse_measures("RR@10"))
    assert measured.query_ids == ("p", "q")
    assert measured.values.tolist() == [[0, 1]]
    assert measured.means == {"RR@10": 0.5}


def test_a_query_without_judgements_does_not_count() -> None:
    assert evaluate({"q": ranked("a"), "p": ranked("b")}, {"q": {"a": 1}}, parse_measures("RR@10")).means == {
        "RR@10": 1
    }


def test_ids_with_spaces_or_a_nul_are_measured_like_any_other() -> None:
    run = {"q\0 1": ranked("d\0 1", "d\0 2")}
    assert one(run, {"q\0 1": {"d\0 2": 1}}, "nDCG@10") == [pytest.approx(1 / math.log2(3))]
    assert one(run, {"q\0 1": {"d\0 2": 1}}, "ERR@20")[0] > 0


def test_a_measure_keeps_the_name_that_it_was_given() -> None:
    run, qrels = {"q": ranked("x", "a")}, {"q": {"a": 1}}
    assert evaluate(run, qrels, parse_measures("MRR@10 RR@10, NDCG@1")).means == {
        "MRR@10": 0.5,
        "RR@10": 0.5,
        "NDCG@1": 0,
    }


def test_spaces_and_commas_within_brackets_do_not_part_names() -> None:
    names = [named.name for named in parse_measures(" nDCG(gains={0: 0, 2: 5})@5,RR(rel=2, judged_only=True) \n P@3 ")]
    assert names == ["nDCG(gains={0: 0, 2: 5})@5", "RR(rel=2, judged_only=True)", "P@3"]


@pytest.mark.parametrize(
    ("name", "near"), [("ndgc@10", "near it: nDCG"), ("mmr@10", "near it: MRR"), ("recal@5", "Recall")]
)
def test_an_unknown_measure_is_refused_with_those_near_it(name: str, near: str) -> None:
    with pytest.raises(InputError, match=near):
        parse_measures(name)


@pytest.mark.parametrize(
    "name", ["", "nDCG@", "nDCG@0", "nDCG@-3", "nDCG@x", "nDCG@99999999999", "RR(foo=1)@10", "RR@1.5", "P(10)", "R"]
)
def test_a_measure_that_cannot_be_computed_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        parse_measures(name)


def test_counts_are_summed_and_have_no_mean() -> None:
    run = {"q": ranked("a", "b"), "p": ranked("a")}
    (count,) = parse_measures("NumRet")
    assert not count.is_mean
    assert evaluate(run, {"q": {"a": 1}, "p": {"a": 1}}, [count]).means == {"NumRet": 3}


def test_the_graded_measure_is_a_default_only_where_there_are_grades() -> None:
    assert "RR(rel=2)@10" in default_measures({"q": {"a": 2}})
    assert "RR(rel=2)@10" not in default_measures({"q": {"a": 1}})


@pytest.mark.skipif(not DL20.exists(), reason="needs the dl20 collection beside the project (shared/data/dl20)")
def test_bm25_on_dl20_measures_what_the_reference_has() -> None:
    with (DL20 / "run.bm25.trec").open("rb") as stream:
        found = read_run(stream, "run.bm25.trec", RaiseOnReject())
    with (DL20 / "qrels.txt").open("rb") as stream:
        grades = read_qrels(stream, "qrels.txt").grades
    means = evaluate(found.run, grades, parse_measures("nDCG@10 RR(rel=2)@10")).means
    assert len(found.run) == len(grades) == 54
    assert not found.contradictory
    assert round(means["nDCG@10"], 4) == 0.4796
    assert round(means["RR(rel=2)@10"], 4) == 0.6533
