"""A document that is its own query is dropped by what is asked for, and nothing else is."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.flat_pairs import PAIR_SCHEMA
from ray_rerank.operators.candidates.self_pairs import (
    chosen,
    most,
    named_texts,
    other_pairs,
    own_documents,
    told,
    without_own,
)
from ray_rerank.operators.formats.trec_runs import RankedList

TEXTS = ["red", " red ", "the  red", "the red", "blue", "Red"]
names, texts = st.sampled_from(["1", "2", "3", "4"]), st.sampled_from(TEXTS)
rules: Any = st.sampled_from(["id", "text", "both", "off"])


def is_own(rule: str, query_id: str, query: str, doc_id: str, text: str) -> bool:
    same = {"id": query_id == doc_id, "text": query.split() == text.split()}
    return rule != "off" and any(same[kind] for kind in (same if rule == "both" else [rule]))


@given(st.dictionaries(names, texts, min_size=1), st.dictionaries(names, texts), rules)
def test_exactly_the_querys_own_documents_are_dropped(
    queries: dict[str, str], corpus: dict[str, str], rule: Any
) -> None:
    run = {
        query_id: RankedList(list(corpus), np.arange(len(corpus), dtype=float), np.arange(len(corpus)))
        for query_id in queries
    }
    own = own_documents(queries, rule, named_texts(list(corpus), pa.array(corpus.values(), pa.large_string())))
    kept, dropped = without_own(run, own)
    rows = [(q, queries[q], d, corpus[d]) for q in queries for d in corpus]
    expected = [row for row in rows if not is_own(rule, *row)]
    assert [(q, d) for q, ranked in kept.items() for d in ranked.doc_ids] == [(q, d) for q, _, d, _ in expected]
    assert dropped == len(rows) - len(expected)
    for ranked in kept.values():
        places = [list(corpus).index(doc_id) for doc_id in ranked.doc_ids]
        assert ranked.scores.tolist() == ranked.lines.tolist() == places
    assert all(len(corpus) - len(ranked.doc_ids) <= most(own) for ranked in kept.values())

    columns = [dict(zip(("query_id", "query", "doc_id", "text"), row, strict=True)) for row in rows]
    table = other_pairs(pa.Table.from_pylist(columns, schema=PAIR_SCHEMA), rule)
    assert [
        tuple(row[name] for name in ("query_id", "query", "doc_id", "text")) for row in table.to_pylist()
    ] == expected


@pytest.mark.parametrize(
    ("names", "rule"),
    [
        (["data/arguana/queries.jsonl"], "id"),
        (["s3://b/beir/ArguAna/"], "id"),
        (["beir/quora/test"], "id"),
        (["mteb/quora"], "id"),
        (["QuoraRetrieval"], "id"),
        (["data/cqadupstack/android/corpus.jsonl.gz"], "id"),
        (["CQADupstackAndroidRetrieval"], "id"),
        (["q.tsv", "run.beir-v1.0.0-arguana.bm25.trec"], "id"),
        ([r"c:\data\arguana\qrels\test.tsv"], "id"),
        (["data/scifact/queries.jsonl", None], "off"),
        (["/home/quora/collections/scifact/queries.jsonl"], "off"),
        (["quorum/queries.tsv"], "off"),
    ],
)
def test_a_collection_is_known_by_its_name(names: list[str], rule: str) -> None:
    assert chosen(None, *names) == rule
    assert chosen("both", *names) == "both"
    assert chosen("off", *names) == "off"


def test_what_is_dropped_is_told_with_the_way_to_keep_it() -> None:
    assert told(1406, "id", None).startswith("1,406 pairs") and "--drop-self off" in told(1406, "id", None)
    assert "--drop-self" not in told(3, "both", "both") and "by id or text" in told(3, "both", "both")
