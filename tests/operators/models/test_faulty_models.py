"""What is wrong with a model folder is said where the job is planned: the cause, the file and the setting."""

import inspect
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules
from transformers import CONFIG_MAPPING, AutoTokenizer, GPT2Config, GPT2Model
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES as CLASSIFIERS

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.models.checkpoint import POSITIONS_AFTER_PADDING
from ray_rerank.operators.scorers.registry import scorer_config
from support.models import ragged_pairs, write_bi_encoder, write_classifier, write_cross_encoder, write_t5
from support.references import by_cross_encoder, by_sentence_transformer

pytestmark = pytest.mark.usefixtures("one_thread")

WRITE: dict[str, Callable[[Path], Path]] = {
    "cross-encoder": write_cross_encoder,
    "bi-encoder": lambda folder: write_bi_encoder(folder, dense=8),
    "monot5": write_t5,
}


def scorer(kind: str, folder: Path, **fields: Any) -> Any:
    return scorer_config({"kind": kind, "model": str(folder), "precision": "fp32", **fields})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {kind: write(tmp_path_factory.mktemp("whole") / kind) for kind, write in WRITE.items()}


def edited(name: str = "config.json", **settings: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        old = json.loads((folder / name).read_text()) if (folder / name).exists() else {}
        (folder / name).write_text(json.dumps(old | settings))

    return edit


def shortened(weight: str, setting: str, rows: int) -> Callable[[Path], None]:
    """A table of fewer rows, and a config.json that says so."""

    def shorten(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        weights[weight] = weights[weight][:rows].contiguous()
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        edited(**{setting: rows})(folder)

    return shorten


def without(*names: str) -> Callable[[Path], None]:
    def remove(folder: Path) -> None:
        for name in names:
            shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()

    return remove


def in_place_of_weights(name: str) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"weights")

    return replace


def whole_numbers(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = weights["classifier.weight"].long()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def headless(folder: Path) -> None:
    weights = {name: one for name, one in load_file(folder / "model.safetensors").items() if "classifier" not in name}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def first_module(kind: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        listed = json.loads((folder / "modules.json").read_text())
        listed[0]["type"] = f"sentence_transformers.models.{kind}"
        (folder / "modules.json").write_text(json.dumps(listed))

    return change


def listed_in(weight_map: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "one.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))

    return change


CROSS: list[tuple[Callable[[Path], None], str]] = [
    (edited(num_hidden_layers=10**6), r"config\.json: num_hidden_layers is 1000000, which is more than any model has"),
    (edited(num_hidden_layers=9_000), r"config\.json asks for more weights than the 41 that its files hold"),
    (edited(hidden_size=10**12), r"config\.json: hidden_size is 1000000000000, which is more"),
    (edited(hidden_size="32"), r"config\.json: .*'hidden_size' expected int, got str"),
    (edited(intermediate_size=-5), r"config\.json: intermediate_size is -5"),
    (edited(num_attention_heads=0), r"config\.json.*: num_attention_heads is 0"),
    (edited(hidden_act="gelux"), r"config\.json.*: hidden_act is 'gelux'"),
    (edited(hidden_dropout_prob=7), r"config\.json.*: hidden_dropout_prob is 7"),
    (edited(pad_token_id=500), r"config\.json.*: pad_token_id is 500"),
    (edited(layer_norm_eps=-1.0), r"scores a plain pair as nan .* a number in its config\.json is wrong"),
    (edited(id2label=["a"]), r"config\.json: id2label is \['a'\]"),
    (whole_numbers, r"classifier\.weight is of type I64 in its safetensors"),
    (edited(id2label={"x": "a"}), r"config\.json: id2label is \{'x': 'a'\}: invalid literal"),
    (edited(dtype="float99"), r"config\.json: dtype is 'float99': torch has no"),
    (edited(architectures=[None]), r"config\.json: architectures is \[None\]"),
    (edited(model_type="own"), r"config\.json: model_type 'own' is not one that transformers implements"),
    (edited(attn_implementation="someone/kernel"), r"config\.json asks for code from elsewhere"),
    (edited(quantization_config={"quant_method": "gptq"}), r"quantized \(quantization_config: gptq\)"),
    (edited("tokenizer_config.json", padding_side="up"), r"tokenizer_config\.json: padding_side is 'up'"),
    (edited("tokenizer_config.json", model_max_length="9"), r"tokenizer_config\.json: model_max_length is '9'"),
    (lambda folder: (folder / "special_tokens_map.json").write_text("[]"), r"special_tokens_map\.json: holds no JSON"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), r": tokenizer\.json: "),
    (shortened("bert.embeddings.word_embeddings.weight", "vocab_size", 100), r"'\?' is number 121 .* has 100 tokens"),
    (shortened("bert.embeddings.token_type_embeddings.weight", "type_vocab_size", 1), r"the type 1, .* 1 types"),
    (headless, r"lack classifier\.bias, classifier\.weight"),
    (in_place_of_weights("model.gguf"), r"model\.gguf is of another format"),
    (in_place_of_weights("onnx/model.onnx"), r"model\.onnx is of another format"),
    (in_place_of_weights("pytorch_model.bin"), r"pytorch_model\.bin is pickle"),
    (listed_in(["one.safetensors"]), r"index\.json: weight_map is \['one\.safetensors'\]"),
    (listed_in({"a": "../one.safetensors"}), r"is no file of this folder"),
    (listed_in({"a": "two.safetensors"}), r"holds no two\.safetensors \(it has one\.safetensors\)"),
]  # fmt: skip
BI: list[tuple[Callable[[Path], None], str]] = [
    (without("1_Pooling"), r"its module Pooling has no .*1_Pooling/config\.json"),
    (lambda folder: (folder / "1_Pooling" / "config.json").write_text("{}"), r"1_Pooling/config\.json"),
    (edited("2_Dense/config.json", in_features=None), r"2_Dense/config\.json: in_features is None"),
    (first_module("Router"), "module Router is not supported"),
    (first_module("StaticEmbedding"), "module StaticEmbedding is not supported"),
]  # fmt: skip
MONO: list[tuple[Callable[[Path], None], str]] = [
    (edited(decoder_start_token_id=None), "a decoder_start_token_id; here they are True and None"),
    (edited(decoder_start_token_id=999), r"config\.json: decoder_start_token_id is 999, and the model has"),
    (lambda folder: (folder / "generation_config.json").write_text("[" * 10_000), r"generation_config\.json: not JSON"),
]
FAULTS = [*(("cross-encoder", *one) for one in CROSS), *(("bi-encoder", *one) for one in BI)]
FAULTS += [("monot5", *one) for one in MONO]


def test_a_fault_is_told_with_its_cause_where_the_job_is_planned(tmp_path: Path, whole: dict[str, Path]) -> None:
    for number, (kind, damage, told) in enumerate(FAULTS):
        folder = Path(shutil.copytree(whole[kind], tmp_path / str(number)))
        damage(folder)
        with pytest.raises(ModelError, match=told) as refused:
            scorer(kind, folder).identity()
        assert str(folder) in str(refused.value)
        assert len(str(refused.value)) < 1000


def test_what_nobody_foresaw_names_the_model_and_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_cross_encoder(tmp_path / "model")

    def odd(*_: object) -> None:
        raise AttributeError("no attribute 'pad_token_id'")

    monkeypatch.setattr("ray_rerank.operators.scorers.cross_encoder.verify_weights", odd)
    with pytest.raises(
        ModelError, match=r"cannot be read as CrossEncoder: AttributeError: no attribute .*\.py:\d+\)"
    ) as told:
        scorer("cross-encoder", folder).identity()
    assert str(folder) in str(told.value)


def test_a_model_too_large_to_be_tried_where_the_job_is_planned_is_tried_by_its_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_cross_encoder(tmp_path / "model")
    edited(layer_norm_eps=-1.0)(folder)
    monkeypatch.setattr("ray_rerank.operators.scorers.proof.TRIED_OUT", 1000)
    planned = scorer("cross-encoder", folder).identity()
    with pytest.raises(ModelError, match="scores a plain pair as nan"):
        scorer("cross-encoder", folder).load_planned(planned)


def test_an_end_of_sequence_in_a_text_is_scored_as_the_reference_does(tmp_path: Path) -> None:
    """BART reads the last `</s>` of a row, and takes batches only whose rows have equally many."""
    folder = write_classifier(tmp_path / "model", "Bart")
    texts = [query for query, _ in ragged_pairs(6)]
    pairs = [(text, " [SEP] ".join([text] * (1 + number % 3))) for number, text in enumerate(texts)]
    found = scorer("cross-encoder", folder).load().score(pairs)
    np.testing.assert_allclose(found, by_cross_encoder(folder, pairs), atol=1e-5)


@pytest.mark.parametrize("name", ["Longformer", "Data2VecText", "Roberta"])
def test_positions_that_begin_after_the_padding_end_where_the_model_does(tmp_path: Path, name: str) -> None:
    folder = write_classifier(tmp_path / "model", name)
    edited("tokenizer_config.json", model_max_length=10**30)(folder)
    config = scorer("cross-encoder", folder)
    assert config.reader().max_length == 139
    pairs = [("water", "soil " * 300), ("water", "soil " * 30)]
    found = config.load().score(pairs)
    edited("tokenizer_config.json", model_max_length=139)(folder)
    np.testing.assert_allclose(found, by_cross_encoder(folder, pairs), atol=1e-5)


def test_every_classifier_that_counts_positions_from_its_padding_is_known() -> None:
    counting = set()
    for kind, name in CLASSIFIERS.items():
        configured = Path(inspect.getfile(CONFIG_MAPPING[kind]))
        model = configured.with_name(configured.name.replace("configuration_", "modeling_"))
        source = model.read_text() if model.is_file() else ""
        if f"class {name}(" in source and "padding_idx + 1" in source:
            counting.add(kind)
    assert counting <= POSITIONS_AFTER_PADDING
    assert len(counting) > 5


def test_gpt2_reads_as_many_tokens_as_it_has_positions(tmp_path: Path) -> None:
    folder, encoder = tmp_path / "model", tmp_path / "encoder"
    tokenizer = AutoTokenizer.from_pretrained(write_cross_encoder(tmp_path / "tokenizer"), model_max_length=10**30)
    tokenizer.save_pretrained(encoder)
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "vocab_size": len(tokenizer) + 1}
    torch.manual_seed(0)
    GPT2Model(GPT2Config(**shape)).save_pretrained(encoder)
    made = modules.Transformer(str(encoder))
    parts = [made, modules.Pooling(made.get_embedding_dimension(), "lasttoken")]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder), create_model_card=False)
    pairs = [("water", "soil wet " * 300), ("water", "soil")]
    found = scorer("bi-encoder", folder).load().score(pairs)
    edited("sentence_bert_config.json", max_seq_length=40)(folder)
    np.testing.assert_allclose(found, by_sentence_transformer(folder, pairs), atol=1e-5)
