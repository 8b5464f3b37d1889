import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.texts import Passages, Queries
from ray_rerank.operators.formats.trec_runs import Run
from ray_rerank.operators.rejects import Reason, RejectLog
from ray_rerank.operators.retrieval.bm25 import K1, B, bm25_run, top

TEXTS = ["a red fox", "of the", "fox fox blue", "red fox", "", "green"]


def search(queries: dict[str, str], depth: int = 10, log: RejectLog | None = None) -> Run:
    return bm25_run(Queries("q.tsv", queries), corpus(*TEXTS), depth, log or RejectLog())


def corpus(*texts: str) -> Passages:
    row = {f"d{number}": number for number in range(len(texts))}
    return Passages("p.tsv", row, pa.array(texts, pa.large_string()))


def test_scores_are_lucenes_bm25() -> None:
    run = search({"q": "blue Fox!"})
    lengths = [2, 0, 3, 2, 0, 1]  # without stop words and words of one letter
    mean = sum(lengths) / len(lengths)

    def score(frequency: int, length: int, holding: int) -> float:
        idf = math.log(1 + (len(TEXTS) - holding + 0.5) / (holding + 0.5))
        return idf * frequency / (frequency + K1 * (1 - B + B * length / mean))

    expected = {"d2": score(1, 3, 1) + score(2, 3, 3), "d0": score(1, 2, 3), "d3": score(1, 2, 3)}
    assert dict(zip(run["q"].doc_ids, run["q"].scores, strict=True)) == pytest.approx(expected, rel=1e-5)


def test_ties_stand_in_corpus_order_and_the_cut_does_not_choose_by_chance() -> None:
    assert search({"q": "fox red"})["q"].doc_ids[:2] == ["d0", "d3"]
    assert search({"q": "fox red"}, depth=1)["q"].doc_ids == ["d0"]


def test_a_passage_without_a_common_word_is_no_candidate() -> None:
    assert search({"q": "green"})["q"].doc_ids == ["d5"]


@pytest.mark.parametrize("query", ["zebra", "the", "?!", "x"])
def test_a_query_without_a_hit_is_reported(query: str) -> None:
    log = RejectLog()
    assert list(search({"q": query, "r": "red"}, log=log)) == ["r"]
    assert [(reject.reason, reject.file, reject.query_id) for reject in log.kept] == [(Reason.NO_HIT, "q.tsv", "q")]


def test_a_corpus_without_a_word_is_refused() -> None:
    with pytest.raises(InputError, match="no passage holds a word"):
        bm25_run(Queries("q.tsv", {"q": "x"}), corpus("?"), 5, RejectLog())


@given(st.lists(st.integers(0, 4), max_size=60), st.integers(1, 70))
def test_the_top_is_the_head_of_the_sorted_hits(scores: list[int], depth: int) -> None:
    expected = [i for i in sorted(range(len(scores)), key=lambda i: (-scores[i], i)) if scores[i] > 0]
    assert top(np.asarray(scores, dtype=np.float32), depth).tolist() == expected[:depth]
