"""No leakage: a query on both sides is found by id and by text, however it is dressed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ray_rerank.operators.candidates.same_text import normalised
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.training.leakage import Query, refuse_overlap

TRAINING = [Query("a", "How do plants drink?"), Query(None, "what is a kiln")]


@pytest.mark.parametrize(
    "text", ["how do plants drink", "  HOW do\tplants  drink ?!", "“How do plants drink?”", "what is a kiln."]
)
def test_the_same_text_is_found_without_case_space_and_punctuation_at_its_ends(text: str) -> None:
    with pytest.raises(InputError, match="1 queries of dl20 are trained on in pairs"):
        refuse_overlap(TRAINING, [Query("other", text)], "pairs", "dl20")


def test_the_same_id_is_found() -> None:
    with pytest.raises(InputError, match="id 'a'"):
        refuse_overlap(TRAINING, [Query("a", "something else")], "pairs", "dl20")


@pytest.mark.parametrize("text", ["how do plants drink water", "what is c", "how-do plants drink"])
def test_other_queries_pass(text: str) -> None:
    refuse_overlap(TRAINING, [Query("b", text), Query(None, "another")], "pairs", "dl20")


def test_the_first_few_are_named() -> None:
    both = [Query(None, f"query {number}") for number in range(9)]
    with pytest.raises(InputError, match=r"9 queries.*'query 0'.*'query 2' and 6 more"):
        refuse_overlap(both, both, "pairs", "dl20")


def test_punctuation_alone_is_a_text_of_its_own() -> None:
    assert normalised("?") != normalised("!")


@given(st.text())
def test_a_normalised_text_stays_as_it_is(text: str) -> None:
    assert normalised(normalised(text)) == normalised(text)
