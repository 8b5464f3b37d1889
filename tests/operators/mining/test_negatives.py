"""Drawing negatives: never a positive, never twice, within the ranks, the same from the same seed."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from ray_rerank.operators.candidates.same_text import overlap, text_keys, words_of
from ray_rerank.operators.mining.negatives import NO_LIST, DrawRules, NearDuplicates, RankedRows, draw_negatives
from ray_rerank.operators.mining.sources import Source

SOURCES: TypeAdapter[Any] = TypeAdapter(tuple[Source, ...])


@st.composite
def minings(draw: st.DrawFn) -> dict[str, Any]:
    """A corpus with some texts twice, lists over it, positives and sources."""
    corpus = draw(st.integers(1, 60))
    texts = [f"text {draw(st.integers(0, corpus))}" for _ in range(corpus)]
    kinds = draw(st.lists(st.sampled_from(["random", "bm25", "run"]), min_size=1, max_size=3))
    sources, lists = [], []
    for kind in kinds:
        source: dict[str, Any] = {"kind": kind, "count": draw(st.integers(1, 8))}
        if kind != "random":
            first = draw(st.integers(1, 20))
            source |= {
                "ranks": [first, first + draw(st.integers(0, 30))],
                "draw": draw(st.sampled_from(["random", "top"])),
            }
        source |= {"path": "run"} if kind == "run" else {}
        rows = np.array(draw(st.permutations(range(corpus)))[: draw(st.integers(0, corpus))], np.int64)
        sources.append(source)
        lists.append(NO_LIST if kind == "random" else RankedRows(rows, -np.arange(len(rows), dtype=np.float32)))
    forbidden = draw(st.lists(st.integers(0, corpus - 1), unique=True, max_size=5))
    return {"texts": texts, "sources": SOURCES.validate_python(sources), "lists": lists, "forbidden": forbidden}


def mine(case: dict[str, Any], seed: int = 0, query_id: str = "q", factor: int = 1) -> list[Any]:
    keys = text_keys(case["texts"])
    rules = DrawRules(case["sources"], keys, seed, factor)
    return draw_negatives(rules, query_id, case["lists"], case["forbidden"])


@given(minings(), st.integers(0, 3), st.integers(1, 3))
def test_no_judged_positive_and_no_document_or_text_twice(case: dict[str, Any], seed: int, factor: int) -> None:
    rows = [negative.row for negative in mine(case, seed, factor=factor)]
    texts = [case["texts"][row] for row in rows]
    assert len(set(rows)) == len(rows)
    assert len(set(texts)) == len(texts)
    assert not {case["texts"][row] for row in case["forbidden"]} & set(texts)


@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1), min_size=1, max_size=20), st.floats(0.1, 1))
def test_near_duplicates_of_a_positive_or_of_each_other_are_no_negatives(parts: list[set[str]], share: float) -> None:
    texts = [" ".join(sorted(own)) for own in parts]
    sources = SOURCES.validate_python([{"kind": "random", "count": len(texts)}])
    near = NearDuplicates(pa.array(texts, pa.large_string()), share)
    rows = [n.row for n in draw_negatives(DrawRules(sources, text_keys(texts), 0, near=near), "q", [NO_LIST], [0])]
    known = [words_of(texts[row]) for row in (0, *rows)]
    assert all(overlap(one, other) < share for at, one in enumerate(known) for other in known[:at])
    for row in {*range(1, len(texts))} - {*rows}:  # and nothing else is left out
        assert max(overlap(words_of(texts[row]), own) for own in known) >= share


@given(minings(), st.integers(0, 3))
def test_each_source_gives_its_count_of_its_ranks_or_all_that_there_are(case: dict[str, Any], seed: int) -> None:
    found = mine(case, seed)
    taken = {case["texts"][row] for row in case["forbidden"]}
    for number, (source, ranked) in enumerate(zip(case["sources"], case["lists"], strict=True)):
        own = [negative for negative in found if negative.source == number]
        if source.kind == "random":
            there = set(range(len(case["texts"])))
        else:
            first, last = source.ranks
            there = set(ranked.rows[first - 1 : last].tolist())
            scores = dict(zip(ranked.rows.tolist(), ranked.scores.tolist(), strict=True))
            assert all(negative.score == scores[negative.row] for negative in own)
        assert {negative.row for negative in own} <= there
        free = {case["texts"][row] for row in there} - taken
        assert len(own) == min(source.count, len(free))
        taken |= {case["texts"][negative.row] for negative in own}


@given(minings())
def test_the_same_seed_draws_the_same(case: dict[str, Any]) -> None:
    assert str(mine(case, 7)) == str(mine(case, 7))


def test_another_seed_or_query_draws_others_and_top_takes_the_best() -> None:
    ranked = RankedRows(np.arange(100), np.zeros(100, np.float32))
    sources = SOURCES.validate_python([{"kind": "bm25", "count": 5, "ranks": "11-60"}])
    case = {"texts": [str(row) for row in range(100)], "sources": sources, "lists": [ranked], "forbidden": [10]}
    drawn = {tuple(n.row for n in mine(case, seed, query)) for seed in range(3) for query in ("a", "b")}
    assert len(drawn) == 6
    top = SOURCES.validate_python([{"kind": "bm25", "count": 3, "ranks": [11, 60], "draw": "top"}])
    assert [n.row for n in mine(case | {"sources": top})] == [11, 12, 13]


def test_random_negatives_come_from_everywhere() -> None:
    sources = SOURCES.validate_python([{"kind": "random", "count": 3}])
    case = {"texts": [str(row) for row in range(40)], "sources": sources, "lists": [NO_LIST], "forbidden": [0]}
    counts = np.bincount([n.row for number in range(2000) for n in mine(case, query_id=str(number))], minlength=40)
    assert counts[0] == 0
    assert counts[1:].min() > 90 and counts[1:].max() < 230  # 154 expected


def test_ranks_that_do_not_rise_are_refused() -> None:
    with pytest.raises(ValidationError, match="ranks go from 1"):
        SOURCES.validate_python([{"kind": "bm25", "count": 1, "ranks": [5, 4]}])
