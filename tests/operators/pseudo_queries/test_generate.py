"""Pseudo-queries: deterministic, distinct, query-like, and made of their own passage."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.pseudo_queries.generate import (
    FORMS,
    asked_in_text,
    inverse_document_frequency,
    keyword_bag,
    pseudo_queries,
    turned_statement,
)

PASSAGES = [
    (
        "p1",
        "A kiln is a furnace for firing clay. Kilns cause smoke. How hot does a kiln get? It gets to 1200.",
    ),
    (
        "p2",
        "To glaze a pot, dip the fired clay in glaze and let it dry. The glaze is located on the outside.",
    ),
    (
        "p3",
        "Bread rises because yeast makes gas. You can knead the dough by hand. Rye takes hours to bake.",
    ),
]


def test_the_same_seed_makes_the_same_queries_and_another_seed_others() -> None:
    assert pseudo_queries(PASSAGES, 12, seed=1) == pseudo_queries(PASSAGES, 12, seed=1)
    assert pseudo_queries(PASSAGES, 12, seed=1) != pseudo_queries(PASSAGES, 12, seed=2)


def test_asking_for_more_queries_keeps_the_first_ones() -> None:
    assert pseudo_queries(PASSAGES, 20, seed=4)[:8] == pseudo_queries(PASSAGES, 8, seed=4)


def test_a_query_is_named_after_its_passage_and_form() -> None:
    for query in pseudo_queries(PASSAGES, 15, seed=0):
        assert query.query_id.startswith(f"{query.passage_id}-{query.form}-")
        assert query.form in {form.name for form in FORMS}


def test_every_form_is_made() -> None:
    assert {query.form for query in pseudo_queries(PASSAGES, 200, seed=0)} == {form.name for form in FORMS}


def test_passages_that_have_no_more_to_say_end_the_making() -> None:
    made = pseudo_queries([("only", "Clay kilns smoke.")], 10_000, seed=0)
    assert 0 < len(made) < 10_000


words = st.text(st.characters(codec="utf-8", exclude_categories=("Cs",)), max_size=120)


@settings(max_examples=60)
@given(st.lists(words, min_size=1, max_size=4), st.integers(0, 5))
def test_any_text_gives_distinct_lower_case_queries_of_2_to_14_words(texts: list[str], seed: int) -> None:
    made = pseudo_queries([(str(row), text) for row, text in enumerate(texts)], 10, seed)
    queries = [query.query for query in made]
    assert len(set(queries)) == len(queries) <= 10
    assert len({query.query_id for query in made}) == len(made)
    for query in queries:
        assert query == query.lower()
        assert 2 <= len(query.split()) <= 14
        assert not set("\t\r\n?") & set(query)


@pytest.mark.parametrize(
    ("text", "among"),
    [
        (
            "A kiln is a furnace for firing clay.",
            {"what is kiln", "define kiln", "kiln meaning", "kiln definition"},
        ),
        ("Mount Etna is located in Sicily.", {"where is mount etna located", "where is mount etna"}),
        ("Bread rises because yeast makes gas.", {"why bread rises", "what is the reason bread rises"}),
        ("Photosynthesis refers to a process.", {"what does photosynthesis mean"}),
        ("You can knead the dough by hand.", {"how to knead the dough", "how do you knead the dough"}),
    ],
)
def test_statements_turn_into_the_question_they_answer(text: str, among: set[str]) -> None:
    found = {query for seed in range(40) for query in turned_statement(text, {}, Random(seed))}
    assert among <= found


def test_a_pronoun_is_nobodys_question() -> None:
    assert not [query for query in turned_statement("It is a furnace.", {}, Random(0)) if "it" in query.split()]


def test_a_passages_own_questions_are_taken_as_they_are() -> None:
    assert asked_in_text(PASSAGES[0][1], {}, Random(0)) == ["How hot does a kiln get?"]


def test_keywords_are_the_rarest_words_in_text_order() -> None:
    idf = inverse_document_frequency(["zebra common common", "common yak", "common"])
    assert idf["common"] == 0.0
    assert idf["zebra"] == idf["yak"] > 0
    found = keyword_bag("common zebra with yak", idf, Random(0))[0].split()
    assert found == [word for word in ("common", "zebra", "yak") if word in found]


def test_no_passages_or_no_count_is_refused() -> None:
    with pytest.raises(InputError, match="no passages"):
        pseudo_queries([], 5, seed=0)
    with pytest.raises(InputError, match="count is 0"):
        pseudo_queries(PASSAGES, 0, seed=0)
