"""A cross-encoder's scores are the reference's raw logits, whatever the batch, the order or the unit."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.candidates import sentence
from support.models import write_cross_encoder


def pairs(count: int, seed: int = 0) -> list[tuple[str, str]]:
    """Ragged pairs with repeated queries and documents."""
    draw = random.Random(seed)
    queries = [sentence(draw, 12) for _ in range(5)]
    documents = [sentence(draw, 90) for _ in range(max(count // 2, 1))]
    return [(draw.choice(queries), draw.choice(documents)) for _ in range(count)]


@pytest.mark.parametrize("max_length", [128, 64, 24])
def test_fp32_scores_equal_the_raw_logits_of_sentence_transformers(cross_encoder: Path, max_length: int) -> None:
    sentence_transformers = pytest.importorskip("sentence_transformers")
    import torch

    reference = sentence_transformers.CrossEncoder(str(cross_encoder), max_length=max_length, device="cpu")
    asked = pairs(200)
    expected = reference.predict(asked, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    scorer = CrossEncoderConfig(model=str(cross_encoder), max_length=max_length, precision="fp32").load()
    np.testing.assert_allclose(scorer.score(asked), expected, atol=1e-4)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), budget=st.integers(1, 2000))
def test_a_score_does_not_depend_on_batch_mates_or_order(cross_encoder: Path, seed: int, budget: int) -> None:
    asked = pairs(30, seed)
    config = CrossEncoderConfig(model=str(cross_encoder), precision="fp32")
    alone = np.array([config.load().score([asked[0]])[0]])
    together = config.model_copy(update={"batch_tokens": budget}).load().score(asked)
    backwards = config.load().score(asked[::-1])[::-1]
    np.testing.assert_allclose(together[:1], alone, atol=1e-5)
    np.testing.assert_allclose(together, backwards, atol=1e-5)


def test_duplicate_pairs_are_scored_once(cross_encoder: Path) -> None:
    asked = pairs(60)
    work = ScoringStats()
    scores = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load().score(asked, work)
    assert work.pairs == 60
    assert work.evaluations == len(set(asked)) < 60
    by_pair = {}
    for pair, score in zip(asked, scores, strict=True):
        assert by_pair.setdefault(pair, score) == score


def test_no_pairs_give_no_scores(cross_encoder: Path) -> None:
    assert CrossEncoderConfig(model=str(cross_encoder)).load().score([]).shape == (0,)


def test_a_document_of_a_megabyte_is_truncated_not_refused(cross_encoder: Path) -> None:
    work = ScoringStats()
    scorer = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load()
    scores = scorer.score([("what is a shard", "cactus " * 150_000)], work)
    assert np.isfinite(scores).all()
    assert work.truncated == 1
    assert work.tokens == 128


def test_bf16_scores_are_near_fp32(cross_encoder: Path) -> None:
    asked = pairs(40)
    exact = CrossEncoderConfig(model=str(cross_encoder), precision="fp32").load().score(asked)
    rough = CrossEncoderConfig(model=str(cross_encoder), precision="bf16").load().score(asked)
    assert not np.array_equal(exact, rough)
    np.testing.assert_allclose(rough, exact, atol=0.05 * np.abs(exact).max())


def test_the_identity_follows_what_decides_a_score_and_not_where_the_model_lies(tmp_path: Path) -> None:
    here = write_cross_encoder(tmp_path / "here")
    moved = Path(shutil.copytree(here, tmp_path / "elsewhere" / "renamed"))
    (moved / "README.md").write_text("a model card decides nothing")
    config = CrossEncoderConfig(model=str(here))
    assert config.identity() == CrossEncoderConfig(model=str(moved), batch_tokens=7).identity()
    others = [
        CrossEncoderConfig(model=str(write_cross_encoder(tmp_path / "other", seed=1))),
        CrossEncoderConfig(model=str(here), max_length=64),
        CrossEncoderConfig(model=str(here), precision="bf16"),
    ]
    for other in others:
        assert other.identity() != config.identity()
    tokenizer = json.loads((moved / "tokenizer.json").read_text())
    tokenizer["normalizer"]["lowercase"] = False
    (moved / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert CrossEncoderConfig(model=str(moved)).identity() != config.identity()


def damage(folder: Path, what: str) -> None:
    """Spoil a model directory in one way."""
    if what == "no config":
        (folder / "config.json").unlink()
    elif what == "no weights":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif what == "half the weights":
        weights = folder / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif what == "no tokenizer":
        (folder / "tokenizer.json").unlink()
        (folder / "tokenizer_config.json").unlink()
    elif what in {"two labels", "an encoder"}:
        config = json.loads((folder / "config.json").read_text())
        if what == "two labels":
            config["id2label"] = {"0": "no", "1": "yes"}
        else:
            config["architectures"] = ["BertModel"]
        (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("no config", "config.json"),
        ("no weights", "pytorch_model.bin is pickle"),
        ("half the weights", "not a whole safetensors file"),
        ("no tokenizer", "tokenizer"),
        ("two labels", "with 2"),
        ("an encoder", "BertModel"),
    ],
)
def test_what_is_no_cross_encoder_is_refused_before_loading(tmp_path: Path, what: str, told: str) -> None:
    folder = write_cross_encoder(tmp_path / "model")
    damage(folder, what)
    with pytest.raises(ModelError, match=told):
        CrossEncoderConfig(model=str(folder)).identity()


def test_weights_without_a_head_are_refused_rather_than_drawn_at_random(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = write_cross_encoder(tmp_path / "model") / "model.safetensors"
    tensors = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("classifier")}
    save_file(tensors, weights, metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lack classifier"):
        CrossEncoderConfig(model=str(tmp_path / "model")).load()


def test_a_model_that_is_nowhere_is_refused() -> None:
    with pytest.raises(ModelError, match="no such directory"):
        CrossEncoderConfig(model="/nowhere/at/all").identity()


def test_more_tokens_than_positions_are_refused(cross_encoder: Path) -> None:
    with pytest.raises(ModelError, match="128 positions"):
        CrossEncoderConfig(model=str(cross_encoder), max_length=129).identity()
