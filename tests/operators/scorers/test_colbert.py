"""Late interaction equals MaxSim by loops over plain transformers: markers, augmentation, punctuation mask and all."""

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.colbert import ColBERTConfig
from support.models import ragged_pairs, write_bi_encoder, write_colbert, write_encoder


class Reference:
    """Stanford's ColBERT by hand: one text at a time, no padding but the query's own [MASK]s."""

    def __init__(self, folder: Path, query_length: int = 16, document_length: int = 40) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        weights = load_file(folder / "model.safetensors")
        self.bert = AutoModel.from_pretrained(folder).eval()
        self.projection = weights["linear.weight"].float()
        self.query_length, self.document_length = query_length, document_length

    def vectors(self, ids: list[int], attention: list[int]) -> torch.Tensor:
        with torch.no_grad():
            hidden = self.bert(torch.tensor([ids]), attention_mask=torch.tensor([attention])).last_hidden_state[0]
        return torch.nn.functional.normalize(hidden @ self.projection.T, dim=-1)

    def encode(self, text: str, marker: str, length: int) -> list[int]:
        words = self.tokenizer(text, add_special_tokens=False)["input_ids"][: length - 3]
        special = self.tokenizer.convert_tokens_to_ids(["[CLS]", marker, "[SEP]"])
        return [special[0], special[1], *words, special[2]]

    def score(self, query: str, document: str, augment: bool = True, attend: bool = False, mask: bool = True) -> float:
        ids = self.encode(query, "[unused0]", self.query_length)
        fill = self.query_length - len(ids) if augment else 0
        of_query = self.vectors(ids + [self.tokenizer.mask_token_id] * fill, [1] * len(ids) + [int(attend)] * fill)
        ids = self.encode(document, "[unused1]", self.document_length)
        of_document = self.vectors(ids, [1] * len(ids))
        skip = set(self.tokenizer.convert_tokens_to_ids(list(string.punctuation))) - {self.tokenizer.unk_token_id}
        total = 0.0
        for mine in of_query:
            best = -np.inf
            for theirs, token in zip(of_document, ids, strict=True):
                if not (mask and token in skip):
                    best = max(best, float(mine @ theirs))
            total += best
        return total


@pytest.fixture(scope="module")
def colbert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_colbert(tmp_path_factory.mktemp("colbert") / "model")


def config(folder: Path, **fields: Any) -> ColBERTConfig:
    return ColBERTConfig(model=str(folder), precision="fp32", **fields)


PAIRS = ragged_pairs(24)


def test_scores_equal_max_sim_by_loops(colbert: Path) -> None:
    reference, work = Reference(colbert), ScoringStats()
    expected = [reference.score(query, document) for query, document in PAIRS]
    scores = config(colbert, batch_tokens=400).load().score(PAIRS, work)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    assert np.std(expected) > 0.01
    assert work.truncated > 0
    unmasked = [reference.score(query, document, mask=False) for query, document in PAIRS]
    assert not np.allclose(unmasked, expected, atol=1e-4), "no document has punctuation"


@pytest.mark.parametrize(
    ("fields", "by_hand"),
    [
        ({"mask_punctuation": False}, {"mask": False}),
        ({"augment_queries": False}, {"augment": False}),
        ({"max_length": 12, "query_length": 8}, {}),
    ],
)
def test_each_part_can_be_overridden(colbert: Path, fields: dict[str, Any], by_hand: dict[str, bool]) -> None:
    reference = Reference(colbert, fields.get("query_length", 16), fields.get("max_length", 40))
    expected = [reference.score(query, document, **by_hand) for query, document in PAIRS]
    np.testing.assert_allclose(config(colbert, **fields).load().score(PAIRS), expected, atol=1e-4)


def test_attention_to_the_masks_is_read_from_the_checkpoint(tmp_path: Path) -> None:
    folder = write_colbert(tmp_path / "model", attend_to_mask_tokens=True, mask_punctuation=False)
    reference = Reference(folder)
    expected = [reference.score(query, document, attend=True, mask=False) for query, document in PAIRS]
    np.testing.assert_allclose(config(folder).load().score(PAIRS), expected, atol=1e-4)


def test_a_checkpoint_of_sentence_transformers_scores_the_same(colbert: Path, tmp_path: Path) -> None:
    from sentence_transformers import MultiVectorEncoder

    folder = tmp_path / "saved"
    MultiVectorEncoder(str(colbert), device="cpu").save_pretrained(str(folder), create_model_card=False)
    assert (folder / "modules.json").is_file()
    np.testing.assert_allclose(config(folder).load().score(PAIRS), config(colbert).load().score(PAIRS), atol=1e-5)


def test_a_checkpoint_of_pylate(tmp_path: Path, colbert: Path) -> None:
    """PyLate lists Transformer and Dense, and keeps markers and lengths in its own config."""
    from safetensors.torch import save_file

    folder = tmp_path / "pylate"
    AutoModel.from_pretrained(colbert).save_pretrained(folder)
    AutoTokenizer.from_pretrained(colbert).save_pretrained(folder)
    weights = load_file(colbert / "model.safetensors")
    (folder / "1_Dense").mkdir()
    save_file({"linear.weight": weights["linear.weight"]}, folder / "1_Dense" / "model.safetensors")
    dense = {"in_features": 32, "out_features": 16, "bias": False, "use_residual": False}
    dense["activation_function"] = "torch.nn.modules.linear.Identity"
    (folder / "1_Dense" / "config.json").write_text(json.dumps(dense))
    modules = [
        {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Dense", "type": "pylate.models.Dense.Dense"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 39, "do_lower_case": False}))
    settings = {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": 16, "document_length": 40}
    settings |= {"attend_to_expansion_tokens": False, "skiplist_words": list(string.punctuation)}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings | {"model_type": "ColBERT"}))
    reference = Reference(colbert)
    expected = [reference.score(query, document) for query, document in PAIRS]
    np.testing.assert_allclose(config(folder).load().score(PAIRS), expected, atol=1e-4)


def test_scores_do_not_depend_on_the_batch(colbert: Path) -> None:
    together = config(colbert).load().score(PAIRS)
    np.testing.assert_allclose(config(colbert, batch_tokens=50).load().score(PAIRS[::-1])[::-1], together, atol=1e-5)
    np.testing.assert_allclose([config(colbert).load().score([pair])[0] for pair in PAIRS[:3]], together[:3], atol=1e-5)
    assert config(colbert).load().score([]).shape == (0,)


def test_what_has_no_projection_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no projection"):
        config(write_encoder(tmp_path / "encoder")).identity()
    with pytest.raises(ModelError, match="kind: bi-encoder"):
        config(write_bi_encoder(tmp_path / "pooled")).identity()


@pytest.mark.parametrize("field", ["max_length", "query_length"])
def test_more_tokens_than_positions_are_refused(colbert: Path, field: str) -> None:
    with pytest.raises(ModelError, match=f"{field} 5000 is more than its 128 positions"):
        config(colbert, **{field: 5000}).identity()
