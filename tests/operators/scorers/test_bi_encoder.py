"""The bi-encoder gives what sentence-transformers' own encode and similarity give, batched by our own budget."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from support.models import ragged_pairs, write_bi_encoder, write_encoder

PROMPTS = {"query": "what is ", "document": "a shard of "}


def reference(folder: Path, pairs: list[tuple[str, str]], **named: Any) -> np.ndarray:
    model = SentenceTransformer(str(folder), device="cpu")
    queries = model.encode_query([query for query, _ in pairs], **named)
    documents = model.encode_document([document for _, document in pairs], **named)
    return np.asarray(model.similarity_pairwise(queries, documents))


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"pooling": "cls", "normalize": False, "similarity": "dot"},
        {"pooling": "max", "normalize": False, "similarity": "euclidean"},
        {"pooling": "lasttoken", "prompts": PROMPTS},
        {"pooling": "weightedmean", "dense": 8, "normalize": False, "similarity": "cosine"},
        {"pooling": "mean_sqrt_len_tokens", "normalize": False, "similarity": "manhattan", "prompts": PROMPTS},
    ],
    ids=lambda made: "-".join(map(str, [made.get("pooling", "mean"), made.get("similarity", "default")])),
)
def test_scores_equal_encode_and_similarity(tmp_path: Path, made: dict[str, Any]) -> None:
    folder = write_bi_encoder(tmp_path / "model", **made)
    pairs = ragged_pairs(50)
    work = ScoringStats()
    scores = BiEncoderConfig(model=str(folder), precision="fp32", batch_tokens=300).load().score(pairs, work)
    np.testing.assert_allclose(scores, reference(folder, pairs), atol=1e-4)
    assert np.std(scores) > 1e-3
    assert work.truncated > 0, "no text was longer than the model reads"
    assert work.evaluations == len({q for q, _ in pairs}) + len({d for _, d in pairs})
    assert work.batches > 2


def test_the_config_overrides_length_prompts_and_similarity(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model", prompts=PROMPTS, normalize=False)
    pairs = ragged_pairs(20)
    config = BiEncoderConfig(
        model=str(folder), precision="fp32", max_length=12, query_prompt="", document_prompt="wet ", similarity="dot"
    )
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = 12
    queries = model.encode([query for query, _ in pairs], prompt="")
    documents = model.encode([document for _, document in pairs], prompt="wet ")
    np.testing.assert_allclose(config.load().score(pairs), (queries * documents).sum(axis=1), atol=1e-4)


def test_a_model_that_pads_on_the_left(tmp_path: Path) -> None:
    """A decoder as an embedder, as Qwen's are: positions are relative, and the last token is pooled."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2Model

    folder, encoder = tmp_path / "model", write_encoder(tmp_path / "encoder")
    tokenizer = AutoTokenizer.from_pretrained(encoder, padding_side="left")
    tokenizer.save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    known = len(tokenizer) + 1  # Qwen's own tokenizer class adds <|endoftext|>
    shape |= {"num_key_value_heads": 2, "vocab_size": known, "initializer_range": 0.2}
    Qwen2Model(Qwen2Config(**shape)).save_pretrained(folder)
    made = modules.Transformer(str(folder), max_seq_length=48)
    parts = [made, modules.Pooling(made.get_embedding_dimension(), "lasttoken")]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder), create_model_card=False)
    pairs = ragged_pairs(30)
    scores = BiEncoderConfig(model=str(folder), precision="fp32").load().score(pairs)
    np.testing.assert_allclose(scores, reference(folder, pairs, batch_size=1), atol=1e-4)


@pytest.mark.parametrize("module", ["CNN", "LayerNorm", "WeightedLayerPooling", "Dropout"])
def test_a_module_around_the_pooling_does_what_it_does_there(tmp_path: Path, module: str) -> None:
    encoder = modules.Transformer(str(write_encoder(tmp_path / "encoder")), max_seq_length=48)
    width = encoder.get_embedding_dimension()
    parts: list[Any] = [encoder, modules.Pooling(width)]
    if module == "CNN":
        parts[1:] = [modules.CNN(width, out_channels=16), modules.Pooling(48)]
    elif module == "WeightedLayerPooling":
        encoder.model.config.output_hidden_states = True
        parts.insert(1, modules.WeightedLayerPooling(width, num_hidden_layers=2, layer_start=1))
    else:
        parts.append(modules.LayerNorm(width) if module == "LayerNorm" else modules.Dropout(0.5))
    folder = tmp_path / "model"
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder), create_model_card=False)
    pairs = ragged_pairs(20)
    config = BiEncoderConfig(model=str(folder), precision="fp32", batch_tokens=300)
    config.identity()
    np.testing.assert_allclose(config.load().score(pairs), reference(folder, pairs, batch_size=1), atol=1e-5)


def test_a_length_of_the_config_replaces_those_of_the_checkpoint(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    settings = folder / "sentence_bert_config.json"
    saved = json.loads(settings.read_text())
    settings.write_text(json.dumps(saved | {"query_length": 6, "document_length": 10}))
    pairs = ragged_pairs(20)
    model = SentenceTransformer(str(folder), device="cpu")
    model.max_seq_length = model[0].document_length = 20
    queries = model.encode_query([query for query, _ in pairs], batch_size=1)
    expected = model.similarity_pairwise(queries, model.encode_document([text for _, text in pairs], batch_size=1))
    scores = BiEncoderConfig(model=str(folder), precision="fp32", max_length=20).load().score(pairs)
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    settings.write_text(json.dumps(saved | {"processing_kwargs": {"text": {"max_length": 12}}}))
    with pytest.raises(ModelError, match="leave max_length out"):
        BiEncoderConfig(model=str(folder), max_length=20).identity()
    settings.write_text(json.dumps(saved | {"max_seq_length": 4000}))
    assert np.isfinite(BiEncoderConfig(model=str(folder)).load().score([("wet", "water " * 1000)])).all()


def test_no_pairs_give_no_scores(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    assert BiEncoderConfig(model=str(folder)).load().score([]).shape == (0,)


def test_the_identity_follows_pooling_and_prompts_and_not_the_place(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    config = BiEncoderConfig(model=str(folder))
    assert config.identity() == BiEncoderConfig(model=str(moved), batch_tokens=9).identity()
    for fields in ({"query_prompt": "q: "}, {"similarity": "dot"}, {"max_length": 9}, {"precision": "fp32"}):
        assert BiEncoderConfig(model=str(folder), **fields).identity() != config.identity()
    pooling = next(moved.rglob("*Pooling/config.json"))
    pooling.write_text(pooling.read_text().replace("mean", "max"))
    assert BiEncoderConfig(model=str(moved)).identity() != config.identity()


def test_what_is_no_safe_sentence_transformers_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no modules\.json"):
        BiEncoderConfig(model=str(write_encoder(tmp_path / "encoder"))).identity()
    folder = write_bi_encoder(tmp_path / "model", dense=8)
    dense = next(folder.glob("*Dense"))
    (dense / "model.safetensors").rename(dense / "pytorch_model.bin")
    with pytest.raises(ModelError, match="pickle"):
        BiEncoderConfig(model=str(folder)).identity()
    listing = json.loads((folder / "modules.json").read_text())
    listing[1]["type"] = "os.path.Pooling"
    (folder / "modules.json").write_text(json.dumps(listing))
    with pytest.raises(ModelError, match="its code is not run"):
        BiEncoderConfig(model=str(folder)).identity()


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    with pytest.raises(ModelError, match="max_length 5000 is more than its 128 positions"):
        BiEncoderConfig(model=str(folder), max_length=5000).identity()
