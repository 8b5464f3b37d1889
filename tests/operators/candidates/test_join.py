import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.join import append, draw_random, known_queries, select
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import Passages, Queries
from ray_rerank.operators.formats.trec_runs import RankedList, Run
from ray_rerank.operators.rejects import Reason, RejectLog


def ranked(*doc_ids: str, line: int = 1) -> RankedList:
    scores = np.arange(len(doc_ids), 0, -1, dtype=np.float64)
    return RankedList(list(doc_ids), scores, np.arange(line, line + len(doc_ids)))


def queries(**texts: str) -> Queries:
    return Queries("queries", texts)


def passages(row: dict[str, int]) -> Passages:
    return Passages("passages", row, pa.array(["text"] * len(row), pa.large_string()))


RUNS = st.dictionaries(
    st.sampled_from(["q1", "q2", "q3"]),
    st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=8).map(lambda docs: ranked(*docs)),
    min_size=1,
)


@given(RUNS, st.sets(st.sampled_from("abcdefgh")))
def test_exactly_the_pairs_of_the_run_that_have_text_are_selected_in_order(run: Run, texts: set[str]) -> None:
    log = RejectLog()
    row = {doc_id: index for index, doc_id in enumerate(sorted(texts))}
    asked = {query_id: f"text of {query_id}" for query_id in run}
    found = list(select(run, "run", queries(**asked), passages(row), log))
    expected = {query_id: [doc for doc in found_.doc_ids if doc in texts] for query_id, found_ in run.items()}
    assert {s.query_id: s.doc_ids for s in found} == {key: docs for key, docs in expected.items() if docs}
    for selection in found:
        assert selection.rows.tolist() == [row[doc_id] for doc_id in selection.doc_ids]
        assert selection.query == asked[selection.query_id]
    lost = {(reject.query_id, reject.doc_id) for reject in log.kept}
    assert lost == {(query_id, doc) for query_id, r in run.items() for doc in r.doc_ids if doc not in texts}


def test_a_query_without_text_is_one_fault_at_its_first_line() -> None:
    log = RejectLog()
    run = {"q1": ranked("a"), "q2": ranked("a", "b", line=5)}
    assert list(known_queries(run, "run", queries(q1="x"), None, log)) == ["q1"]
    assert [(reject.line, reject.reason, reject.query_id) for reject in log.kept] == [(5, Reason.UNKNOWN_QUERY, "q2")]


def test_a_run_of_another_collection_is_refused_with_ids_of_both() -> None:
    with pytest.raises(InputError, match=r"none of the 1 query ids of run is in queries: .*'q1'.*'other'"):
        known_queries({"q1": ranked("a")}, "run", queries(other="x"), None, RejectLog())


def test_only_documents_within_the_depth_are_looked_for() -> None:
    log = RejectLog()
    run = known_queries({"q": ranked("a", "b", "gone")}, "run", queries(q="x"), 2, log)
    (selection,) = select(run, "run", queries(q="x"), passages({"a": 0, "b": 1}), log)
    assert selection.doc_ids == ["a", "b"]
    assert not log.counts


POOL = pa.array([f"d{number}" for number in range(50)])


@given(st.integers(0, 60), st.integers(0, 2**32), st.integers(0, 50))
def test_random_passages_are_new_distinct_and_as_many_as_there_are(count: int, seed: int, own: int) -> None:
    run = {"q": ranked(*(f"d{number}" for number in range(own)))}
    drawn = draw_random(run, POOL, count, seed)["q"]
    assert len(drawn.doc_ids) == len(set(drawn.doc_ids)) == min(count, 50 - own)
    assert not set(drawn.doc_ids) & set(run["q"].doc_ids)
    assert np.isnan(drawn.scores).all()


def test_a_draw_is_the_same_in_any_company_and_another_with_another_seed() -> None:
    run = {"q": ranked("d1"), "other": ranked("d2")}
    alone = draw_random({"q": run["q"]}, POOL, 5, 7)["q"].doc_ids
    assert draw_random(run, POOL, 5, 7)["q"].doc_ids == alone
    assert draw_random(run, POOL, 5, 8)["q"].doc_ids != alone
    assert draw_random(run, POOL, 5, 7)["other"].doc_ids != alone


def test_random_passages_stand_behind_the_candidates_without_a_score() -> None:
    row = {"a": 0, "b": 1, "x": 2}
    texts, known = queries(q="t", p="t"), passages(row)
    found = select({"q": ranked("a", "b")}, "run", texts, known, RejectLog())
    drawn = {"q": RankedList(["x"], np.array([np.nan]), np.zeros(1, int)), "p": ranked("x")}
    more = select(drawn, "draw", texts, known, RejectLog())
    (selection,) = append(found, more)
    assert selection.doc_ids == ["a", "b", "x"]
    assert selection.rows.tolist() == [0, 1, 2]
    assert np.isnan(selection.scores).tolist() == [False, False, True]
