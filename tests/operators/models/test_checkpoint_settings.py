"""Every file and every setting of a checkpoint, changed one at a time: each makes another fingerprint, is refused, or
changes no score; and what is not refused scores as the reference does."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import CrossEncoder, MultiVectorEncoder

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.scorers.registry import scorer_config
from support.models import ragged_pairs, write_bi_encoder, write_colbert, write_cross_encoder, write_t5
from support.references import Pairs, by_cross_encoder, by_monot5, by_multi_vector_encoder, by_sentence_transformer

PAIRS = ragged_pairs(4, seed=3)

pytestmark = pytest.mark.usefixtures("one_thread")


def write_saved_cross_encoder(folder: Path) -> Path:
    """As `CrossEncoder.save_pretrained` writes one, with a prompt."""
    plain = write_cross_encoder(folder.parent / f"{folder.name}-plain")
    model = CrossEncoder(str(plain), device="cpu", prompts={"search": "what is "}, default_prompt_name="search")
    model.save_pretrained(str(folder), create_model_card=False)
    return folder


def write_saved_colbert(folder: Path) -> Path:
    """As `MultiVectorEncoder.save_pretrained` writes one."""
    plain = write_colbert(folder.parent / f"{folder.name}-plain")
    MultiVectorEncoder(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint, how it is scored here, and by what it is scored elsewhere."""

    kind: str
    write: Callable[[Path], Path]
    reference: Callable[[Path, Pairs], np.ndarray]


FAMILIES = {
    "cross-encoder": Family("cross-encoder", write_cross_encoder, by_cross_encoder),
    "saved cross-encoder": Family("cross-encoder", write_saved_cross_encoder, by_cross_encoder),
    "bi-encoder": Family(
        "bi-encoder",
        lambda folder: write_bi_encoder(folder, dense=8, prompts={"query": "what is ", "document": ""}),
        by_sentence_transformer,
    ),
    "colbert": Family("colbert", write_colbert, by_multi_vector_encoder),
    "saved colbert": Family("colbert", write_saved_colbert, by_multi_vector_encoder),
    "monot5": Family("monot5", write_t5, by_monot5),
}

NOT_WALKED = {("model", "vocab"), ("model", "merges"), ("added_tokens",), ("weight_map",), ("_commit_hash",)}

KNOWN = {
    "config.json": {
        "pad_token_id": 3,
        "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True},
        "auto_map": {"AutoModel": "modeling.Own"},
        "classifier_dropout": 0.9,
        "is_decoder": True,
        "problem_type": "regression",
        "torch_dtype": "float16",
        "tie_word_embeddings": False,
    },
    "tokenizer_config.json": {
        "truncation_side": "left",
        "padding_side": "left",
        "model_max_length": 20,
        "do_lower_case": False,
        "chat_template": "{{ messages[0].content }}",
        "pad_token": "[MASK]",
        "model_input_names": ["input_ids", "attention_mask"],
    },
    "sentence_bert_config.json": {
        "max_seq_length": 20,
        "do_lower_case": True,
        "query_length": 10,
        "document_length": 20,
        "processing_kwargs": {"text": {"max_length": 12}},
        "transformer_task": "fill-mask",
        "tokenizer_args": {"truncation_side": "left"},
        "tokenizer_name_or_path": "elsewhere",
    },
    "config_sentence_transformers.json": {
        "default_prompt_name": "query",
        "prompts": {"query": "tell ", "document": "shard ", "search": "to "},
        "similarity_fn_name": "dot",
        "truncate_dim": 4,
        "model_type": "SparseEncoder",
        "keep_in_fp32_modules": ["0.model.classifier"],
        "query_length": 9,
        "skiplist_words": ["the"],
    },
}
"""Settings that a checkpoint may have, with a value that deviates; each is tried in each family that has the file."""


def paths(content: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Of each setting in an object, two levels deep."""
    if isinstance(content, dict):
        for name, value in content.items():
            if (*prefix, name) not in NOT_WALKED:
                yield (*prefix, name)
                if len(prefix) < 1:
                    yield from paths(value, (*prefix, name))


def deviating(value: Any) -> Any:
    """Another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, str):
        return f"{value}x"
    if isinstance(value, list):
        return [*value, *value[:1]] or ["x"]
    return {} if isinstance(value, dict) and value else 1


def other_type(value: Any) -> Any:
    return ["x"] if not isinstance(value, list) else "x"


def set_in(file: Path, path: tuple[str, ...], change: Callable[[dict[str, Any], str], None]) -> None:
    content = json.loads(file.read_text())
    inner = content
    for name in path[:-1]:
        inner = inner[name]
    change(inner, path[-1])
    file.write_text(json.dumps(content))


def drop(inner: dict[str, Any], name: str) -> None:
    del inner[name]


def put(value: Callable[[Any], Any]) -> Callable[[dict[str, Any], str], None]:
    return lambda inner, name: inner.__setitem__(name, value(inner.get(name)))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))


Change = Callable[[Path], None]


def mutations(folder: Path, deep: bool) -> Iterator[tuple[str, str, Change]]:
    """The file, what is done to it, and a call that does it to a copy of the folder.

    Each file, and each of KNOWN; `deep`: each setting in each JSON file.
    """
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = file.relative_to(folder).as_posix()
        if not deep:
            yield name, "missing", lambda copy, name=name: (copy / name).unlink()
            yield name, "empty", lambda copy, name=name: (copy / name).write_bytes(b"")
            yield name, "a bit flipped", lambda copy, name=name: flip(copy / name)
            yield name, "of another type", lambda copy, name=name: (copy / name).write_text('["x"]')
        known = KNOWN.get(file.name, {})
        content = json.loads(file.read_text()) if file.suffix == ".json" else {}
        every = paths(content) if deep else ((setting,) for setting in known if setting in content)
        for path in every:
            for what, change in CHANGES.items() if deep else list(CHANGES.items())[:2]:
                shown = f"{'.'.join(path)} {what}"
                yield name, shown, lambda copy, n=name, p=path, c=change: set_in(copy / n, p, c)
        for setting, value in known.items():
            for tried in (value, other_type(value)) if deep else (value,):
                shown = f"{setting} = {tried}"
                yield name, shown, lambda copy, n=name, s=setting, v=tried: set_in(copy / n, (s,), put(lambda _: v))


CHANGES: dict[str, Callable[[dict[str, Any], str], None]] = {
    "missing": drop,
    "of another type": put(other_type),
    "changed": put(deviating),
    "null": put(lambda _: None),
}


def scorer_of(family: Family, folder: Path) -> Any:
    return scorer_config({"kind": family.kind, "model": str(folder), "precision": "fp32"})


@dataclass(frozen=True)
class Known:
    """What an unchanged checkpoint gives."""

    identity: dict[str, Any]
    scores: np.ndarray


def outcome(family: Family, folder: Path, file: str, known: Known) -> str:
    """What came of a change, or how it is wrong."""
    config = scorer_of(family, folder)
    try:
        identity = config.identity()
        scores = config.load().score(PAIRS)
    except ModelError as error:
        named = Path(file).name in str(error) or "modules" in str(error)
        return "refused" if named else f"WRONG: refused without the file's name: {error}"
    moved = float(np.abs(scores - known.scores).max())
    if identity == known.identity:
        return "same score" if moved < 1e-5 else f"WRONG: another score ({moved:.3g}), the same fingerprint"
    try:
        expected = family.reference(folder, PAIRS)
    except Exception:  # whatever the reference raises, it does not score
        return "another fingerprint" if moved < 1e-5 else "WRONG: another score, where the reference gives none"
    away = float(np.abs(scores - expected).max())
    return "another fingerprint" if away < 1e-4 else f"WRONG: {away:.3g} off the reference"


def table(name: str, folder: Path, deep: bool) -> dict[str, str]:
    """What came of each change, by file and change."""
    family = FAMILIES[name]
    whole = family.write(folder / "model")
    config = scorer_of(family, whole)
    known = Known(config.identity(), config.load().score(PAIRS))
    np.testing.assert_allclose(known.scores, family.reference(whole, PAIRS), atol=1e-5)
    found = {}
    for file, what, change in mutations(whole, deep):
        copy = Path(shutil.copytree(whole, folder / "changed"))
        change(copy)
        found[f"{file}: {what}"] = outcome(family, copy, file, known)
        shutil.rmtree(copy)
    return found


def wrong(found: dict[str, str]) -> dict[str, str]:
    return {cell: outcome for cell, outcome in found.items() if outcome.startswith("WRONG")}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_changed_file_or_known_setting_is_refused_or_told_apart_and_scored_as_the_reference_does(
    tmp_path: Path, name: str
) -> None:
    found = table(name, tmp_path, deep=False)
    assert not wrong(found)
    assert {"refused", "another fingerprint"} <= set(found.values())
    assert len(found) > 30


@pytest.mark.slow
@pytest.mark.parametrize("name", FAMILIES)
def test_so_is_every_setting_of_every_file(tmp_path: Path, name: str) -> None:
    assert not wrong(table(name, tmp_path, deep=True))
