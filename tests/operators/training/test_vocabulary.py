"""A trimmed vocabulary: same scores for what is kept, nothing unknown that was known, only WordPiece."""

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.training.vocabulary import trim_vocabulary
from support.candidates import WORDS
from support.models import write_t5

KEPT = ["how", "to", "water", "cactus", "yeast", "sugar"]
SIZE = 80


def load(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForSequenceClassification.from_pretrained(folder, use_safetensors=True)
    return model.eval(), AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def whole(cross_encoder: Path) -> tuple[Any, Any]:
    return load(cross_encoder)


@pytest.fixture(scope="module")
def trimmed(cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    model, tokenizer = load(cross_encoder)
    folder = tmp_path_factory.mktemp("trimmed")
    cut = trim_vocabulary(model, tokenizer, KEPT * 3, SIZE)
    model.save_pretrained(folder)
    cut.save_pretrained(folder)
    return load(folder)


def score(model: Any, tokenizer: Any, query: str, document: str) -> float:
    with torch.no_grad():
        return float(model(**tokenizer(query, document, return_tensors="pt", truncation=True)).logits)


@settings(max_examples=15)
@given(
    st.lists(st.sampled_from(KEPT), min_size=1, max_size=6), st.lists(st.sampled_from([*KEPT, "q", "!"]), min_size=1)
)
def test_texts_of_kept_pieces_have_the_same_score(
    whole: tuple[Any, Any], trimmed: tuple[Any, Any], query: list[str], document: list[str]
) -> None:
    texts = (" ".join(query), " ".join(document))
    assert trimmed[1].tokenize(" ".join(texts)) == whole[1].tokenize(" ".join(texts))
    assert score(*trimmed, *texts) == pytest.approx(score(*whole, *texts), abs=1e-5)


@settings(max_examples=40)
@given(st.lists(st.one_of(st.sampled_from(WORDS), st.text("abcxyz!?—é東", min_size=1, max_size=8)), max_size=8))
def test_nothing_becomes_unknown_that_was_known(
    whole: tuple[Any, Any], trimmed: tuple[Any, Any], words: list[str]
) -> None:
    for word in words:
        before, after = whole[1].tokenize(word), trimmed[1].tokenize(word)
        assert ("[UNK]" in after) == ("[UNK]" in before)
        if "[UNK]" not in before:
            assert "".join(part.removeprefix("##") for part in after) == "".join(
                part.removeprefix("##") for part in before
            )


def test_embeddings_config_and_tokenizer_agree(trimmed: tuple[Any, Any]) -> None:
    model, tokenizer = trimmed
    assert len(tokenizer) == model.config.vocab_size == model.get_input_embeddings().weight.shape[0] == SIZE
    assert sorted(tokenizer.get_vocab().values()) == list(range(SIZE))
    ids = tokenizer("how", "to")["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "how", "[SEP]", "to", "[SEP]"]
    assert model.config.pad_token_id == tokenizer.pad_token_id == model.get_input_embeddings().padding_idx


def test_rare_pieces_go_and_a_larger_size_cuts_nothing(cross_encoder: Path, trimmed: tuple[Any, Any]) -> None:
    assert len(trimmed[1].tokenize("hydrogen")) > 1
    model, tokenizer = load(cross_encoder)
    before = model.get_input_embeddings().weight.shape[0]
    assert trim_vocabulary(model, tokenizer, KEPT, 10_000) is tokenizer
    assert model.get_input_embeddings().weight.shape[0] == before


def test_a_size_below_the_single_characters_is_refused(cross_encoder: Path) -> None:
    with pytest.raises(ModelError, match="single characters"):
        trim_vocabulary(*load(cross_encoder), KEPT, 10)


def test_another_kind_of_tokenizer_is_refused(cross_encoder: Path, tmp_path: Path) -> None:
    unigram = AutoTokenizer.from_pretrained(write_t5(tmp_path / "t5"))
    with pytest.raises(ModelError, match="WordPiece"):
        trim_vocabulary(load(cross_encoder)[0], unigram, KEPT, 100)
