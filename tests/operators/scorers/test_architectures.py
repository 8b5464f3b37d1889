"""Small random checkpoints of many architectures score as sentence-transformers does, one pair at a time."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.models import ragged_pairs, write_cross_encoder

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = ragged_pairs(16, seed=5)
QUERIES, DOCUMENTS = [query for query, _ in PAIRS], [document for _, document in PAIRS]

ENCODERS: dict[str, dict[str, Any]] = {
    "Albert": {"embedding_size": 16},
    "Bart": {
        **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
        **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads"), 4),
        **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 32),
        **dict.fromkeys(("eos_token_id", "bos_token_id", "decoder_start_token_id"), 3),
    },
    "Bert": {},
    "BigBird": {},
    "Camembert": {},
    "ConvBert": {"embedding_size": 32, "conv_kernel_size": 3},
    "Data2VecText": {},
    "Deberta": {},
    "DebertaV2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_buckets": 32},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64},
    "Electra": {"embedding_size": 16},
    "Ernie": {},
    "FNet": {},
    "Funnel": {"block_sizes": [1, 1], "d_model": 32, "n_head": 4, "d_head": 8, "d_inner": 64},
    "Longformer": {"attention_window": [8, 8]},
    "MPNet": {},
    "MegatronBert": {},
    "MobileBert": {"embedding_size": 32, "true_hidden_size": 16, "intra_bottleneck_size": 16},
    "ModernBert": {"cls_token_id": 2, "sep_token_id": 3, "eos_token_id": 3, "bos_token_id": 2},
    "Nystromformer": {},
    "RoFormer": {"embedding_size": 32},
    "Roberta": {},
    "SqueezeBert": {"embedding_size": 32},
    "XLMRoberta": {},
    "XLNet": {"d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 64},
    "Yoso": {"type_vocab_size": 2},
}
NO_SUCH_SETTING = {"Funnel": ("num_hidden_layers", "max_position_embeddings"), "XLNet": ("max_position_embeddings",)}
EQUAL_LENGTHS = {"ConvBert", "FNet", "Funnel", "MobileBert", "Nystromformer", "Yoso"}
"""Whose scores depend on the padding beside them."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return transformers.AutoTokenizer.from_pretrained(write_cross_encoder(tmp_path_factory.mktemp("tokenizer")))


def write_model(folder: Path, name: str, ending: str, tokenizer: Any, **settings: Any) -> Path:
    """A model with weights so large that it matters what attends to what."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape |= {"max_position_embeddings": 140, "vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    for absent in NO_SUCH_SETTING.get(name, ()):
        del shape[absent]
    config = getattr(transformers, f"{name}Config")(**(shape | settings))
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}{ending}")(config)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                weight.normal_(0, 0.3)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", ENCODERS)
def test_a_cross_encoder_scores_as_sentence_transformers(tmp_path: Path, tokenizer: Any, name: str) -> None:
    folder = write_model(tmp_path, name, "ForSequenceClassification", tokenizer, num_labels=1, **ENCODERS[name])
    config = CrossEncoderConfig(model=str(folder), precision="fp32", batch_tokens=600)
    config.identity()
    scorer = config.load()
    reference = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True)
    expected = reference.predict(PAIRS, batch_size=1, show_progress_bar=False)
    np.testing.assert_allclose(scorer.score(PAIRS), expected, atol=1e-4)
    assert np.std(expected) > 0.01
    assert scorer.evaluate.budget.equal_lengths or name not in EQUAL_LENGTHS  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", [*ENCODERS, "GPT2", "Qwen2", "T5Encoder"])
def test_a_bi_encoder_scores_as_sentence_transformers(tmp_path: Path, tokenizer: Any, name: str) -> None:
    decoders: dict[str, dict[str, Any]] = {"GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4}}
    decoders["Qwen2"] = {"num_key_value_heads": 4, "vocab_size": len(tokenizer) + 1}  # its tokenizer adds one
    if name == "T5Encoder":
        shape = {"d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": 2, "num_heads": 4}
        write_model(tmp_path / "encoder", "T5", "EncoderModel", tokenizer, **shape)
    else:
        write_model(tmp_path / "encoder", name, "Model", tokenizer, **(ENCODERS | decoders)[name])
    encoder = modules.Transformer(str(tmp_path / "encoder"))
    pooling = modules.Pooling(encoder.get_embedding_dimension(), "lasttoken" if name in decoders else "mean")
    folder = tmp_path / "model"
    SentenceTransformer(modules=[encoder, pooling], device="cpu").save_pretrained(str(folder), create_model_card=False)
    config = BiEncoderConfig(model=str(folder), precision="fp32", batch_tokens=600)
    config.identity()
    reference = SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    queries, documents = (
        reference.encode_query(QUERIES, batch_size=1),
        reference.encode_document(DOCUMENTS, batch_size=1),
    )
    expected = reference.similarity_pairwise(queries, documents)
    np.testing.assert_allclose(config.load().score(PAIRS), expected, atol=1e-5)
    assert float(expected.std()) > 1e-3


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_side_that_is_padded_and_cut_is_the_tokenizers(tmp_path: Path, tokenizer: Any, side: str) -> None:
    other = transformers.BertTokenizerFast(
        vocab=tokenizer.get_vocab(), padding_side=side, truncation_side=side, model_max_length=24
    )
    settings = ENCODERS["XLNet"] | {"num_labels": 1, "summary_type": "last"}
    folder = write_model(tmp_path, "XLNet", "ForSequenceClassification", other, **settings)
    reference = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True)
    expected = reference.predict(PAIRS, batch_size=1, show_progress_bar=False)
    scorer = CrossEncoderConfig(model=str(folder), precision="fp32", batch_tokens=600).load()
    np.testing.assert_allclose(scorer.score(PAIRS), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["GPT2", "Qwen2"])
def test_a_decoder_is_refused_as_a_cross_encoder(tmp_path: Path, tokenizer: Any, name: str) -> None:
    shape: dict[str, Any] = {"GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4}, "Qwen2": {"num_key_value_heads": 4}}
    folder = write_model(tmp_path, name, "ForSequenceClassification", tokenizer, num_labels=1, **shape[name])
    with pytest.raises(ModelError, match="is a decoder"):
        CrossEncoderConfig(model=str(folder)).identity()


def test_attention_that_depends_on_what_was_read_before_is_refused(tmp_path: Path, tokenizer: Any) -> None:
    small = {"block_size": 4, "num_random_blocks": 1, "num_labels": 1}
    folder = write_model(tmp_path, "BigBird", "ForSequenceClassification", tokenizer, **small)
    with pytest.raises(ModelError, match="set max_length to 28"):
        CrossEncoderConfig(model=str(folder)).identity()
    CrossEncoderConfig(model=str(folder), max_length=28).identity()


@pytest.mark.parametrize(
    ("name", "counts"), [("Roberta", True), ("MPNet", True), ("Bert", False), ("ModernBert", False)]
)
def test_another_padding_in_config_and_tokenizer_is_refused_where_positions_are_counted_by_it(
    tmp_path: Path, tokenizer: Any, name: str, counts: bool
) -> None:
    settings = ENCODERS[name] | {"num_labels": 1, "pad_token_id": 7}
    folder = write_model(tmp_path, name, "ForSequenceClassification", tokenizer, **settings)
    config = CrossEncoderConfig(model=str(folder), precision="fp32")
    if counts:
        with pytest.raises(ModelError, match=r"pad_token_id 7 in config\.json and 0"):
            config.identity()
    else:
        reference = CrossEncoder(str(folder), device="cpu", activation_fn=torch.nn.Identity(), local_files_only=True)
        expected = reference.predict(PAIRS, batch_size=1, show_progress_bar=False)
        np.testing.assert_allclose(config.load().score(PAIRS), expected, atol=1e-4)
