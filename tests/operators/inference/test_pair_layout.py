"""Rows built from texts that were tokenised once equal what the model's own tokenizer makes of the pair."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.operators.inference.pair_layout import pair_layout
from ray_rerank.operators.inference.row_layout import encode_rows
from ray_rerank.operators.inference.tokens import distinct, tokenise
from support.candidates import WORDS

TEXT = st.lists(st.sampled_from([*WORDS, "naturalisation", "électro", "!", "cactuses"]), max_size=25).map(" ".join)


@pytest.fixture(scope="module")
def tokenizers(cross_encoder: Path) -> list[Any]:
    """One with segment ids (BERT), one with two separators and none (RoBERTa)."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import AutoTokenizer, RobertaTokenizerFast

    pieces = ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    pieces.train_from_iterator([" ".join(WORDS)], vocab_size=400, special_tokens=special, show_progress=False)
    model = json.loads(pieces.to_str())["model"]
    roberta = RobertaTokenizerFast(vocab=model["vocab"], merges=[tuple(merge) for merge in model["merges"]])
    return [AutoTokenizer.from_pretrained(cross_encoder), roberta]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=8), max_length=st.integers(16, 60))
def test_rows_equal_the_tokenizers_own(tokenizers: list[Any], pairs: list[tuple[str, str]], max_length: int) -> None:
    for tokenizer in tokenizers:
        queries, query_of = distinct([query for query, _ in pairs])
        documents, document_of = distinct([document for _, document in pairs])
        encoded = encode_rows(
            pair_layout(tokenizer),
            [tokenise(tokenizer, queries, max_length), tokenise(tokenizer, documents, max_length)],
            np.stack([query_of, document_of], axis=1),
            max_length,
        )
        ids, segments, mask = encoded.rows(np.arange(len(pairs)))
        expected = tokenizer(
            [query for query, _ in pairs],
            [document for _, document in pairs],
            truncation="longest_first",
            max_length=max_length,
            padding=True,
            return_tensors="np",
        )
        np.testing.assert_array_equal(mask, expected["attention_mask"])
        np.testing.assert_array_equal(ids * mask, expected["input_ids"] * mask)
        if "token_type_ids" in expected:
            np.testing.assert_array_equal(segments, expected["token_type_ids"])
        lost = [len(ids) for ids in tokenizer([q for q, _ in pairs], [d for _, d in pairs])["input_ids"]]
        assert encoded.truncated == sum(length > max_length for length in lost)
