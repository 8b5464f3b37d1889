"""What is not the checkpoint's own, or not all of it, is refused by every family, before anything is scored."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import CrossEncoder, MultiVectorEncoder

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.models.checkpoint import find_checkpoint
from ray_rerank.operators.scorers.registry import scorer_config
from support.models import ragged_pairs, write_bi_encoder, write_colbert, write_cross_encoder, write_encoder, write_t5

pytestmark = pytest.mark.usefixtures("one_thread")

PAIRS = ragged_pairs(6)


def write_saved_colbert(folder: Path) -> Path:
    plain = write_colbert(folder.parent / f"{folder.name}-plain")
    MultiVectorEncoder(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def write_saved_cross_encoder(folder: Path) -> Path:
    plain = write_cross_encoder(folder.parent / f"{folder.name}-plain")
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


WRITE: dict[str, Callable[[Path], Path]] = {
    "cross-encoder": write_cross_encoder,
    "bi-encoder": lambda folder: write_bi_encoder(folder, dense=8),
    "colbert": write_colbert,
    "monot5": write_t5,
}


def scorer(kind: str, folder: Path, **fields: Any) -> Any:
    return scorer_config({"kind": kind, "model": str(folder), "precision": "fp32", **fields})


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> None:
    weights = folder / "model.safetensors"
    save_file(change(load_file(weights)), weights, metadata={"format": "pt"})


def update(file: Path, **settings: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | settings))


def short_of_a_layer(folder: Path) -> None:
    rewrite(folder, lambda weights: {name: one for name, one in weights.items() if ".1." not in name})


def prefixed(folder: Path) -> None:
    rewrite(folder, lambda weights: {f"module.{name}": one for name, one in weights.items()})


def with_another_layer(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return weights | {name.replace(".1.", ".2."): one.clone() for name, one in weights.items() if ".1." in name}

    rewrite(folder, change)


def of_another_shape(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name, one in weights.items() if one.dim() == 2 and ".0." in name)
        return weights | {name: weights[name][:-1].contiguous()}

    rewrite(folder, change)


def in_eight_bits(folder: Path) -> None:
    def change(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        name = next(name for name in weights if name.endswith("weight"))
        return weights | {name: weights[name].to(torch.int8)}

    rewrite(folder, change)


def with_an_adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    save_file({"lora": torch.ones(2)}, folder / "adapter_model.safetensors")


def with_weights_as_pickle(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "other.safetensors")


DAMAGES = {
    short_of_a_layer: "lack",
    prefixed: "lack|has no place for",
    with_another_layer: "has no place for",
    of_another_shape: "has the shape",
    in_eight_bits: "quantized",
    with_an_adapter: "adapter",
    with_weights_as_pickle: "is pickle and not read",
    lambda folder: update(folder / "config.json", quantization_config={"bits": 4}): "quantized",
    lambda folder: update(folder / "config.json", auto_map={"AutoModel": "own.Model"}): "code of its own",
}


@pytest.mark.parametrize("kind", WRITE)
def test_what_is_not_all_the_checkpoints_own_is_refused(tmp_path: Path, kind: str) -> None:
    for number, (damage, told) in enumerate(DAMAGES.items()):
        folder = WRITE[kind](tmp_path / str(number))
        damage(folder)
        with pytest.raises(ModelError, match=told):
            scorer(kind, folder).identity()
        with pytest.raises(ModelError, match=told):
            scorer(kind, folder).load()


@pytest.mark.parametrize(
    ("kind", "named"), [("cross-encoder", "CustomForSequenceClassification"), ("bi-encoder", "Own")]
)
def test_a_class_that_is_not_the_one_named_is_refused(tmp_path: Path, kind: str, named: str) -> None:
    folder = WRITE[kind](tmp_path / "model")
    update(folder / "config.json", architectures=[named])
    with pytest.raises(ModelError, match=f"names {named}"):
        scorer(kind, folder).identity()


@pytest.mark.parametrize(
    ("write", "kind", "told"),
    [
        (write_saved_cross_encoder, "bi-encoder", "is a CrossEncoder"),
        (write_saved_cross_encoder, "colbert", "is a CrossEncoder"),
        (write_saved_colbert, "bi-encoder", "is a MultiVectorEncoder"),
        (write_saved_colbert, "cross-encoder", "is a MultiVectorEncoder"),
        (write_bi_encoder, "colbert", "is a SentenceTransformer"),
        (write_bi_encoder, "cross-encoder", "is a SentenceTransformer"),
        (write_cross_encoder, "bi-encoder", r"no modules\.json"),
        (write_encoder, "colbert", "no late-interaction checkpoint"),
    ],
)
def test_a_save_of_another_kind_is_refused(tmp_path: Path, write: Callable[[Path], Path], kind: str, told: str) -> None:
    with pytest.raises(ModelError, match=told):
        scorer(kind, write(tmp_path / "model")).identity()


def test_a_sparse_encoder_is_no_bi_encoder(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    update(folder / "config_sentence_transformers.json", model_type="SparseEncoder")
    with pytest.raises(ModelError, match=r"SparseEncoder .* that kind is not supported"):
        scorer("bi-encoder", folder).identity()


def test_a_projection_whose_pickle_would_be_read_is_refused(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model", dense=8)
    dense = next(folder.glob("*Dense"))
    with_weights_as_pickle(dense)
    with pytest.raises(ModelError, match=r"2_Dense: holds no model\.safetensors \(it has other\.safetensors\)"):
        scorer("bi-encoder", folder).identity()


def test_a_pickle_beside_the_weights_is_never_read(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model", dense=8)
    before = scorer("bi-encoder", folder).load().score(PAIRS)
    for place in (folder, next(folder.glob("*Dense"))):
        (place / "pytorch_model.bin").write_bytes(b"not even a pickle")
    after = scorer("bi-encoder", folder)
    assert after.identity() == scorer("bi-encoder", folder).identity()
    np.testing.assert_array_equal(after.load().score(PAIRS), before)


@pytest.mark.parametrize(
    ("module", "told"),
    [
        ({"path": "../elsewhere"}, "leads out of"),
        ({"path": "/etc"}, "leads out of"),
        ({"type": "sentence_transformers.models.StaticEmbedding"}, "StaticEmbedding is not supported"),
        ({"type": "os.path.Dense"}, "its code is not run"),
        ({"path": 3}, "not a list of modules"),
    ],
)
def test_a_module_from_elsewhere_is_refused(tmp_path: Path, module: dict[str, Any], told: str) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    listing = folder / "modules.json"
    modules = json.loads(listing.read_text())
    modules[1] |= module
    listing.write_text(json.dumps(modules))
    with pytest.raises(ModelError, match=told):
        scorer("bi-encoder", folder).identity()


def test_an_encoder_without_the_pooler_that_it_does_not_use_scores(tmp_path: Path) -> None:
    folder = write_bi_encoder(tmp_path / "model")
    before = scorer("bi-encoder", folder).load().score(PAIRS)
    rewrite(folder, lambda weights: {name: one for name, one in weights.items() if not name.startswith("pooler.")})
    np.testing.assert_allclose(scorer("bi-encoder", folder).load().score(PAIRS), before, atol=1e-6)


def test_heads_that_training_left_behind_do_no_harm(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "model")
    before = scorer("cross-encoder", folder).load().score(PAIRS)
    rewrite(folder, lambda weights: weights | {"cls.predictions.bias": torch.ones(5)})
    np.testing.assert_array_equal(scorer("cross-encoder", folder).load().score(PAIRS), before)


@pytest.mark.parametrize("kind", WRITE)
def test_a_snapshot_of_links_is_the_model_that_it_links_to(tmp_path: Path, kind: str) -> None:
    """As the hub's cache lies on a disk: every file is a link into a folder of blobs."""
    folder = WRITE[kind](tmp_path / "model")
    snapshot, blobs = tmp_path / "hub" / "snapshots" / "0123", tmp_path / "hub" / "blobs"
    blobs.mkdir(parents=True)
    for number, file in enumerate(sorted(path for path in folder.rglob("*") if path.is_file())):
        blob = blobs / str(number)
        blob.write_bytes(file.read_bytes())
        link = snapshot / file.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(Path("../" * len(link.relative_to(tmp_path / "hub").parts[:-1])) / "blobs" / blob.name)
    linked = scorer(kind, snapshot)
    assert linked.identity() == scorer(kind, folder).identity()
    np.testing.assert_array_equal(linked.load().score(PAIRS), scorer(kind, folder).load().score(PAIRS))


def test_links_that_lead_nowhere_or_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "model")
    (folder / "round").symlink_to(folder)
    with pytest.raises(ModelError, match="a link to a folder that it is in"):
        find_checkpoint(str(folder))
    (folder / "round").unlink()
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    (folder / "one" / "there").symlink_to(folder / "two")
    (folder / "two" / "back").symlink_to(folder / "one")
    with pytest.raises(ModelError, match="a link to a folder that it is in"):
        find_checkpoint(str(folder))
    (folder / "one" / "there").unlink()
    (folder / "vocab.txt").symlink_to(folder / "gone")
    with pytest.raises(ModelError, match="a link to none"):
        find_checkpoint(str(folder))


def test_a_file_that_changes_changes_the_content_at_once(tmp_path: Path) -> None:
    folder = write_cross_encoder(tmp_path / "model")
    seen = set()
    for number in range(20):
        update(folder / "config.json", counted=number % 10)
        seen.add(find_checkpoint(str(folder)).content)
    assert len(seen) == 10


@pytest.mark.parametrize("kind", ["cross-encoder", "bi-encoder", "colbert"])
def test_weights_that_give_no_number_are_refused(tmp_path: Path, kind: str) -> None:
    folder = WRITE[kind](tmp_path / "model")
    rewrite(folder, lambda weights: {name: one * torch.nan for name, one in weights.items()})
    with pytest.raises(ModelError, match="scores a plain pair as nan"):
        scorer(kind, folder).load()


def test_weights_in_shards_are_read_whole_or_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    whole, sharded = write_cross_encoder(tmp_path / "whole"), tmp_path / "sharded"
    AutoModelForSequenceClassification.from_pretrained(whole).save_pretrained(sharded, max_shard_size="30KB")
    AutoTokenizer.from_pretrained(whole).save_pretrained(sharded)
    shards = sorted(sharded.glob("model-*.safetensors"))
    assert len(shards) > 2
    expected = scorer("cross-encoder", whole).load().score(PAIRS)
    np.testing.assert_allclose(scorer("cross-encoder", sharded).load().score(PAIRS), expected, atol=1e-6)
    shards[1].unlink()
    with pytest.raises(ModelError, match=f"holds no {shards[1].name}"):
        scorer("cross-encoder", sharded).identity()


@pytest.mark.parametrize("kind", WRITE)
def test_a_model_that_was_replaced_since_the_plan_is_refused(tmp_path: Path, kind: str) -> None:
    folder = WRITE[kind](tmp_path / "model")
    config = scorer(kind, folder)
    planned = config.identity()
    assert config.load_planned(planned).score(PAIRS).shape == (len(PAIRS),)
    rewrite(folder, lambda weights: {name: one * 1.01 for name, one in weights.items()})
    with pytest.raises(ModelError, match=r"another model than the job was planned with \(weights differ\)"):
        config.load_planned(planned)
