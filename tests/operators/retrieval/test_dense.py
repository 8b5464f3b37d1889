"""The nearest documents: those of a full sort, whatever the blocks, ties in corpus order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.retrieval.dense import nearest


@given(
    st.integers(1, 40),
    st.integers(1, 6),
    st.integers(1, 12),
    st.integers(1, 50),
    st.sampled_from(["dot", "euclidean"]),
    st.integers(0, 9),
)
def test_any_blocks_give_what_a_full_sort_gives(
    corpus: int, queries: int, block: int, k: int, similarity: str, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    documents = draw.integers(-2, 3, (corpus, 4)).astype(np.float32)  # small whole numbers: many exact ties
    asked = draw.integers(-2, 3, (queries, 4)).astype(np.float32)
    blocks = [documents[start : start + block] for start in range(0, corpus, block)]
    rows, scores = nearest(asked, blocks, k, similarity)
    every = asked @ documents.T
    if similarity == "euclidean":
        every = -np.linalg.norm(asked[:, None] - documents[None], axis=2)
    for query in range(queries):
        best = np.lexsort((np.arange(corpus), -every[query].round(4)))[:k]
        assert rows[query].tolist() == best.tolist()
        np.testing.assert_allclose(scores[query], every[query][best], atol=1e-5)


def test_cosine_does_not_look_at_lengths_and_takes_half_precision() -> None:
    documents = np.array([[10, 0], [0.5, 0.5], [0, 3], [0, 0]], np.float16)
    rows, scores = nearest(np.array([[0, 2]], np.float32), [documents], 4, "cosine")
    assert rows.tolist() == [[2, 1, 0, 3]]
    np.testing.assert_allclose(scores, [[1, 0.5**0.5, 0, 0]], atol=1e-3)


def test_another_similarity_is_refused() -> None:
    with pytest.raises(InputError, match="manhattan"):
        nearest(np.zeros((1, 2), np.float32), [], 1, "manhattan")
