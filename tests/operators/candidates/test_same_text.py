"""Texts that are the same but for their dress, and those that are nearly the same."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.same_text import normalised, overlap, text_keys, words_of

words = st.text(st.characters(categories=["Lu", "Ll", "Nd"]), min_size=1, max_size=6)
dresses = st.sampled_from(
    [
        str.casefold,
        lambda text: f"\u201c{text}\u201d",
        lambda text: f"  {text} .\n",
        lambda text: text.replace(" ", "\u00a0\t"),
        lambda text: unicodedata.normalize("NFD", text),
        lambda text: unicodedata.normalize("NFKC", text),
    ]
)


@given(st.lists(words, min_size=1, max_size=4), st.lists(dresses, max_size=4))
def test_a_text_in_another_dress_is_the_same(parts: list[str], dress: list[object]) -> None:
    text = worn = " ".join(parts)
    for put_on in dress:
        worn = put_on(worn)  # type: ignore[operator]
    assert normalised(worn) == normalised(text) and len(set(text_keys([worn, text]))) == 1
    assert overlap(words_of(worn), words_of(text)) == 1


@pytest.mark.parametrize("others", [("Paris", "Paris is"), ("C", "C++"), ("a b", "ab"), ("?", "!"), ("", "a")])
def test_other_texts_are_others(others: tuple[str, str]) -> None:
    assert len(set(text_keys(others))) == 2


@given(st.frozensets(words), st.frozensets(words))
def test_the_overlap_is_a_share_and_one_only_of_the_same_words(one: frozenset[str], other: frozenset[str]) -> None:
    share = overlap(one, other)
    assert 0 <= share <= 1 and share == overlap(other, one)
    assert (share == 1) == (one == other and bool(one))
