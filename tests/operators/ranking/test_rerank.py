"""One stage's order: ties, scores that are missing or no numbers, cascades that keep a head, and fusion."""

import math
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_rerank.operators.candidates.schema import REJECT_SCHEMA, Origin
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.ranking.fusion import ReciprocalRankFusion, WeightedFusion
from ray_rerank.operators.ranking.rerank import StageRule, rerank

CANDIDATE = pa.struct(
    [
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("first_stage_rank", pa.int32()),
        ("first_stage_score", pa.float32()),
        ("score", pa.float32()),
        ("stage", pa.int32()),
    ]
)
FEW = st.sampled_from([0.0, -1.0, 1.0, 2.5, math.nan, math.inf, -math.inf])
FINITE = st.sampled_from([0.0, -1.0, 1.0, 2.5])

Unit = list[list[tuple[str, float]]]
"""By query, each candidate's doc_id and the score that the model gives its text, in first-stage order."""


class TextScorer:
    """Gives the text as a number, and fails where a pair's text is `fail`."""

    def score(self, pairs: Sequence[tuple[str, str]], work: ScoringStats, parent: np.ndarray) -> np.ndarray:
        if any(text == "fail" for _, text in pairs):
            raise ValueError("no such text")
        return np.array([float(text) for _, text in pairs], np.float32)


def units(scores: st.SearchStrategy[float] = FEW) -> st.SearchStrategy[Unit]:
    doc_ids = st.lists(st.sampled_from("abcdef"), unique=True, min_size=1)
    query = doc_ids.flatmap(
        lambda ids: st.tuples(*(scores for _ in ids)).map(lambda values: list(zip(ids, values, strict=True)))
    )
    return st.lists(query, max_size=4)


def unit_table(unit: Unit, first_scores: Sequence[float | None] | None = None) -> pa.Table:
    """Candidates as `read_candidates` gives them; first-stage scores fall by 1 per rank unless given for all."""
    lists = [
        [
            {
                "doc_id": doc_id,
                "text": str(score),
                "first_stage_rank": rank,
                "first_stage_score": float(-rank) if first_scores is None else first_scores[rank - 1],
                "score": None,
                "stage": 0,
            }
            for rank, (doc_id, score) in enumerate(query, start=1)
        ]
        for query in unit
    ]
    return pa.table(
        {
            "query_id": pa.array([f"q{number}" for number in range(len(unit))], pa.string()),
            "query": pa.array(["x"] * len(unit), pa.string()),
            "row": pa.array(range(10, 10 + len(unit)), pa.int64()),
            "candidates": pa.array(lists, pa.list_(CANDIDATE)),
        }
    )


def ranked(table: pa.Table, rule: StageRule) -> tuple[pa.Table, pa.Table]:
    return rerank(table, TextScorer(), rule, Origin("f.parquet"), ScoringStats())  # type: ignore[arg-type]


def doc_ids(table: pa.Table) -> dict[str, list[str]]:
    return {row["query_id"]: [one["doc_id"] for one in row["candidates"]] for row in table.to_pylist()}


def expected_order(query: list[tuple[str, float]], depth: int | None) -> list[str]:
    """Finite scores of the head fall; ties stand by first-stage rank; the tail follows as it was."""
    head, tail = (query, []) if depth is None else (query[:depth], query[depth:])
    places = [place for place, (_, score) in enumerate(head) if math.isfinite(score)]
    places.sort(key=lambda place: (-head[place][1], place))
    return [head[place][0] for place in places] + [doc_id for doc_id, _ in tail]


@settings(deadline=None)
@given(unit=units(), depth=st.none() | st.integers(1, 4))
def test_finite_scores_of_the_head_fall_and_the_tail_stays(unit: Unit, depth: int | None) -> None:
    table, rejects = ranked(unit_table(unit), StageRule(1, depth))
    expected = {f"q{number}": expected_order(query, depth) for number, query in enumerate(unit)}
    assert doc_ids(table) == {query_id: order for query_id, order in expected.items() if order}
    bad = {
        (f"q{number}", doc_id)
        for number, query in enumerate(unit)
        for doc_id, score in query[:depth]
        if not math.isfinite(score)
    }
    lines = rejects.to_pylist()
    assert {(line["query_id"], line["doc_id"]) for line in lines if line["doc_id"]} == bad
    assert {line["query_id"] for line in lines if line["doc_id"] is None} == {q for q in expected if not expected[q]}
    assert rejects.schema == REJECT_SCHEMA


@settings(deadline=None)
@given(unit=units(), depth=st.none() | st.integers(1, 4))
def test_every_candidate_is_ranked_or_rejected_once(unit: Unit, depth: int | None) -> None:
    table, rejects = ranked(unit_table(unit), StageRule(1, depth))
    kept = sum(len(row["candidates"]) for row in table.to_pylist())
    assert kept + sum(line["candidates"] for line in rejects.to_pylist()) == sum(map(len, unit))


@settings(deadline=None)
@given(unit=units())
def test_each_row_keeps_its_own_fields(unit: Unit) -> None:
    table, _ = ranked(unit_table(unit), StageRule(1))
    for row in table.to_pylist():
        query = unit[row["row"] - 10]
        for one in row["candidates"]:
            doc_id, score = query[one["first_stage_rank"] - 1]
            assert (one["doc_id"], one["text"], one["score"]) == (doc_id, str(score), np.float32(score))
            assert (one["stage"], one["first_stage_score"]) == (1, -one["first_stage_rank"])


@given(unit=units(FINITE))
def test_a_stage_does_not_change_the_table_it_is_given(unit: Unit) -> None:
    table = unit_table(unit)
    before = table.to_pylist()
    ranked(table, StageRule(1, None, ReciprocalRankFusion(kind="reciprocal-rank")))
    assert table.to_pylist() == before


def test_ties_of_one_first_stage_rank_break_by_doc_id() -> None:
    table = unit_table([[("b", 1.0), ("a", 1.0), ("c", 1.0)]])
    lists = table["candidates"].to_pylist()
    lists = [[one | {"first_stage_rank": 1} for one in query] for query in lists]
    table = table.set_column(3, "candidates", pa.array(lists, pa.list_(CANDIDATE)))
    assert doc_ids(ranked(table, StageRule(1))[0]) == {"q0": ["a", "b", "c"]}


def test_null_first_stage_scores_are_ranked_and_stay_null() -> None:
    table, rejects = ranked(unit_table([[("a", 1.0), ("b", 2.0)]], [None, None]), StageRule(1))
    assert doc_ids(table) == {"q0": ["b", "a"]} and not rejects.num_rows
    assert [one["first_stage_score"] for one in table["candidates"].to_pylist()[0]] == [None, None]


def test_a_unit_without_queries_stays_empty() -> None:
    table, rejects = ranked(unit_table([]), StageRule(1))
    assert (table.num_rows, rejects.num_rows) == (0, 0)


@settings(deadline=None)
@given(unit=units(FINITE), keep=st.integers(1, 4))
def test_a_cascade_reorders_only_what_the_stage_before_kept(unit: Unit, keep: int) -> None:
    first, _ = ranked(unit_table(unit), StageRule(1))
    second, rejects = ranked(first, StageRule(2, keep))
    assert not rejects.num_rows
    for before, after in zip(first.to_pylist(), second.to_pylist(), strict=True):
        old, new = before["candidates"], after["candidates"]
        assert new[keep:] == old[keep:], "the tail keeps its order, its scores and its stage"
        assert {one["doc_id"] for one in new[:keep]} == {one["doc_id"] for one in old[:keep]}
        assert {one["stage"] for one in new[:keep]} <= {2}
        keys = [(-one["score"], one["first_stage_rank"]) for one in new[:keep]]
        assert keys == sorted(keys)


def test_a_query_that_the_model_fails_on_is_lost_alone() -> None:
    table = unit_table([[("a", 1.0)], [("b", 1.0), ("c", 2.0)]])
    lists = table["candidates"].to_pylist()
    lists[1][0]["text"] = "fail"
    table = table.set_column(3, "candidates", pa.array(lists, pa.list_(CANDIDATE)))
    kept, rejects = ranked(table, StageRule(1, 1))
    assert doc_ids(kept) == {"q0": ["a"]}, "the tail of a failed query is not ranked either"
    assert rejects.to_pylist() == [
        {
            "file": "f.parquet",
            "row": 11,
            "query_id": "q1",
            "doc_id": None,
            "reason": "the model failed on this query: ValueError: no such text",
            "candidates": 2,
        }
    ]


def test_a_lost_device_is_not_taken_for_a_fault_of_a_query() -> None:
    class Lost(TextScorer):
        def score(self, pairs: Sequence[tuple[str, str]], work: ScoringStats, parent: np.ndarray) -> np.ndarray:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(RuntimeError, match="illegal memory access"):
        rerank(unit_table([[("a", 1.0)]]), Lost(), StageRule(1), Origin("f"), ScoringStats())  # type: ignore[arg-type]


@settings(deadline=None)
@given(unit=units(), depth=st.none() | st.integers(1, 4))
def test_reciprocal_ranks_order_what_is_usable(unit: Unit, depth: int | None) -> None:
    fusion = ReciprocalRankFusion(kind="reciprocal-rank", k=1)
    table, _ = ranked(unit_table(unit), StageRule(1, depth, fusion))
    for row in table.to_pylist():
        query = unit[row["row"] - 10]
        usable = expected_order(query[:depth], None)
        place = {doc_id: number for number, (doc_id, _) in enumerate(query)}
        score = {doc_id: np.float32(1 / (2 + at) + 1 / (2 + place[doc_id])) for at, doc_id in enumerate(usable)}
        usable.sort(key=lambda doc_id: (-score[doc_id], place[doc_id]))
        tail = [] if depth is None else [doc_id for doc_id, _ in query[depth:]]
        assert [one["doc_id"] for one in row["candidates"]] == usable + tail
        assert {one["doc_id"]: one["score"] for one in row["candidates"][: len(usable)]} == score


@settings(deadline=None)
@given(unit=units(FINITE), weight=st.sampled_from([0.0, 1.0]))
def test_all_the_weight_on_one_stage_gives_its_order(unit: Unit, weight: float) -> None:
    fusion = WeightedFusion(kind="weighted", weight=weight)
    table, rejects = ranked(unit_table(unit), StageRule(1, None, fusion))
    for number, query in enumerate(unit):
        expected = expected_order(query, None) if weight else [doc_id for doc_id, _ in query]
        assert doc_ids(table)[f"q{number}"] == expected
    assert not rejects.num_rows


def test_a_weighted_fusion_rejects_what_has_no_score_from_the_stage_before() -> None:
    unit = unit_table([[("a", 1.0), ("b", 9.0), ("c", math.nan)]], [None, 2.0, 1.0])
    table, rejects = ranked(unit, StageRule(1, 2, WeightedFusion(kind="weighted")))
    assert doc_ids(table) == {"q0": ["c"]}, "what is below the head was not fused"
    assert {(line["doc_id"], line["reason"]) for line in rejects.to_pylist()} == {
        (doc_id, "stage 1 cannot be fused: the stage before has no score; `kind: reciprocal-rank` needs none")
        for doc_id in ("a", "b")
    }


def test_reciprocal_ranks_need_no_score_from_the_stage_before() -> None:
    unit = unit_table([[("a", 1.0), ("b", 9.0), ("c", math.nan)]], [None, 2.0, 1.0])
    table, rejects = ranked(unit, StageRule(1, 2, ReciprocalRankFusion(kind="reciprocal-rank")))
    assert doc_ids(table) == {"q0": ["a", "b", "c"]} and not rejects.num_rows


def test_a_second_stage_is_fused_with_the_scores_of_the_first() -> None:
    first, _ = ranked(unit_table([[("a", 0.0), ("b", 3.0), ("c", 2.0)]]), StageRule(1))
    lists = first["candidates"].to_pylist()
    second = {"b": "0", "c": "10", "a": "10"}
    lists = [[one | {"text": second[one["doc_id"]]} for one in query] for query in lists]
    first = first.set_column(3, "candidates", pa.array(lists, pa.list_(CANDIDATE)))
    table, _ = ranked(first, StageRule(2, None, WeightedFusion(kind="weighted", weight=0.5)))
    scores = [(one["doc_id"], round(one["score"], 4)) for one in table["candidates"].to_pylist()[0]]
    assert scores == [("c", 0.8333), ("a", 0.5), ("b", 0.5)], "equal scores stand by first-stage rank"
