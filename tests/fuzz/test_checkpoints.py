"""Model folders with one to three faults: refused in the dry run, with a sentence, or scored as the reference does."""

import json
import os
import shutil
import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, MultiVectorEncoder

from support.candidates import rows, write_candidates
from support.marks import here
from support.models import write_bi_encoder, write_classifier, write_colbert, write_cross_encoder, write_t5
from support.references import (
    Pairs,
    by_cross_encoder,
    by_duot5,
    by_monot5,
    by_multi_vector_encoder,
    by_rankt5,
    by_sentence_transformer,
)
from support.trial import fuzz, short_and_long, try_command

pytestmark = pytest.mark.usefixtures("one_thread")

CONTENT = rows(2, 2, seed=3)
PAIRS = [(row["query"], candidate["text"]) for row in CONTENT for candidate in row["candidates"]]


def write_saved_cross_encoder(folder: Path) -> Path:
    plain = write_cross_encoder(folder.parent / f"{folder.name}-plain")
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


def write_saved_colbert(folder: Path) -> Path:
    plain = write_colbert(folder.parent / f"{folder.name}-plain")
    MultiVectorEncoder(str(plain), device="cpu").save_pretrained(str(folder), create_model_card=False)
    return folder


@dataclass(frozen=True)
class Family:
    """A kind of checkpoint, and who scores it elsewhere."""

    kind: str
    write: Callable[[Path], Path]
    reference: Callable[[Path, Pairs], np.ndarray]


FAMILIES = {
    "bert": Family("cross-encoder", write_cross_encoder, by_cross_encoder),
    "roberta": Family("cross-encoder", lambda folder: write_classifier(folder, "Roberta"), by_cross_encoder),
    "longformer": Family("cross-encoder", lambda folder: write_classifier(folder, "Longformer"), by_cross_encoder),
    "bart": Family("cross-encoder", lambda folder: write_classifier(folder, "Bart"), by_cross_encoder),
    "saved cross-encoder": Family("cross-encoder", write_saved_cross_encoder, by_cross_encoder),
    "bi-encoder": Family(
        "bi-encoder",
        lambda folder: write_bi_encoder(folder, dense=8, prompts={"query": "what is ", "document": ""}),
        by_sentence_transformer,
    ),
    "colbert": Family("colbert", write_colbert, by_multi_vector_encoder),
    "saved colbert": Family("colbert", write_saved_colbert, by_multi_vector_encoder),
    "monot5": Family("monot5", write_t5, by_monot5),
    "rankt5": Family("rankt5", write_t5, by_rankt5),
    "duot5": Family("duot5", write_t5, by_duot5),
}

DEEP = "[" * 10_000 + "]" * 10_000
NAMES = (
    *("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"),
    *("modules.json", "1_Pooling/config.json", "sentence_bert_config.json", "config_sentence_transformers.json"),
    *("model.safetensors", "model.safetensors.index.json", "generation_config.json", "spiece.model", "vocab.txt"),
    *("adapter_config.json", "chat_template.jinja", "preprocessor_config.json", "processor_config.json"),
)
SETTINGS = (
    *("id2label", "label2id", "num_labels", "dtype", "torch_dtype", "architectures", "auto_map", "model_type"),
    *("pad_token_id", "eos_token_id", "decoder_start_token_id", "max_position_embeddings", "type_vocab_size"),
    *("quantization_config", "quantization", "problem_type", "is_decoder", "add_cross_attention", "hidden_size"),
    *("output_attentions", "return_dict", "use_return_dict", "torchscript", "chunk_size_feed_forward", "prompts"),
    *("tie_word_embeddings", "position_embedding_type", "attn_implementation", "_attn_implementation", "vocab_size"),
    *("num_hidden_layers", "layer_norm_eps", "use_bfloat16", "pruned_heads", "transformers_version"),
    *("tokenizer_class", "model_max_length", "padding_side", "cls_token", "added_tokens_decoder"),
    *("model_input_names", "text_config", "max_seq_length", "sentence_transformers", "activation_fn"),
    *("extra_special_tokens", "is_encoder_decoder"),
)  # fmt: skip
ODD = st.one_of(
    st.sampled_from([None, True, False, 0, 1, 2, 3, -1, -100, 10**6, 10**12, 10**30, 0.5, -0.5, 1e308, float("nan")]),
    st.sampled_from(["", "x", "1", "768", "gelu", "relu", "float16", "float99", "int8", "mean", "[MASK]", "\0"]),
    st.sampled_from([[], {}, [1], ["x"], {"0": "x"}, {"x": 1}, [[]], {"x": {}}, "a" * 5000, [[[]]] * 50]),
    st.integers(-5, 600),
)  # fmt: skip
WRONG = st.sampled_from(
    ["missing", "empty", "truncated", "list", "number", "deep", "latin", "folder", "fifo", "flipped"]
)
HEADERS = st.sampled_from(
    [b"\xff" * 8, struct.pack("<Q", 1 << 40), struct.pack("<Q", 99_999_999) + b"{", struct.pack("<Q", 2) + b"{}"]
)

Fault = tuple[str, str, Any, Any]


def json_files(folder: Path) -> dict[str, Any]:
    found = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))
    return {name: json.loads((folder / name).read_text()) for name in found if name.endswith((".json", ".metadata"))}


def paths(content: Any, prefix: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of what stands in a JSON value, a few levels deep, and of each long list and object only the beginning."""
    named = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in list(named)[:40]:
        yield (*prefix, name)
        if len(prefix) < 3:
            yield from paths(value, (*prefix, name))


def faults(families: Mapping[str, Path]) -> st.SearchStrategy[tuple[str, list[Fault]]]:
    """A family, and what is wrong with its folder."""

    def of(family: str) -> st.SearchStrategy[tuple[str, list[Fault]]]:
        files = json_files(families[family])
        inside = {name: [*paths(content)] for name, content in files.items()}
        inside = {name: found for name, found in inside.items() if found}
        names = st.sampled_from(sorted({*inside, "config.json"}))
        often = st.one_of(st.just("config.json"), names)
        at = often.flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(inside[name])))
        fault = st.one_of(
            st.tuples(at, ODD).map(lambda drawn: ("set", *drawn[0], drawn[1])),
            at.map(lambda drawn: ("drop", *drawn, None)),
            st.tuples(often, st.sampled_from(SETTINGS), ODD).map(
                lambda drawn: ("set", drawn[0], (drawn[1],), drawn[2])
            ),
            st.tuples(st.sampled_from(sorted({*NAMES, *files})), WRONG).map(lambda drawn: ("file", *drawn, None)),
            HEADERS.map(lambda header: ("header", "model.safetensors", header, None)),
        )
        return st.tuples(st.just(family), st.lists(fault, min_size=1, max_size=3))

    return st.sampled_from(sorted(families)).flatmap(of)


def inflict(folder: Path, fault: Fault) -> None:
    kind, name, where, value = fault
    file = folder / name
    if kind in {"set", "drop"}:
        if not file.is_file():
            return
        try:
            content = inner = json.loads(file.read_text())
            for step in where[:-1]:
                inner = inner[step]
            if kind == "set":
                inner[where[-1]] = value
            else:
                del inner[where[-1]]
        except (ValueError, LookupError, TypeError, RecursionError):  # another fault has been here
            return
        file.write_text(json.dumps(content))
    elif kind == "header" and file.is_file():
        file.write_bytes(where + file.read_bytes()[8:])
    elif kind == "file" and file.parent.is_dir():
        old = file.read_bytes() if file.is_file() else b"{}"
        if file.is_file():
            file.unlink()
        elif file.is_dir() or file.exists():
            return
        if where == "folder":
            file.mkdir()
        elif where == "fifo":
            os.mkfifo(file)
        elif where != "missing":
            middle = len(old) // 2
            flipped = old[:middle] + bytes(byte ^ 4 for byte in old[middle : middle + 1]) + old[middle + 1 :]
            contents = {"empty": b"", "truncated": old[: len(old) // 2], "list": b'["x"]', "number": b"3"}
            contents |= {"deep": DEEP.encode(), "latin": b'{"caf\xe9": 1}' + old, "flipped": flipped}
            file.write_bytes(contents[where])


@here
@short_and_long
def test_a_faulty_model_folder_is_refused_in_the_dry_run_or_scored_as_the_reference(tmp_path: Path, count: int) -> None:
    families = {name: family.write(tmp_path / "whole" / name) for name, family in FAMILIES.items()}
    known = {name: family.reference(families[name], PAIRS) for name, family in FAMILIES.items()}
    write_candidates(tmp_path / "candidates" / "0.parquet", CONTENT)

    def check(drawn: tuple[str, list[Fault]]) -> None:
        name, found = drawn
        family = FAMILIES[name]
        folder, output = tmp_path / "model", tmp_path / "output"
        for old in (folder, output):
            shutil.rmtree(old, ignore_errors=True)
        shutil.copytree(families[name], folder)
        for fault in found:
            inflict(folder, fault)
        stages = json.dumps([{"scorer": {"kind": family.kind, "model": str(folder), "precision": "fp32"}}])
        command = ["rerank", "--input", str(tmp_path / "candidates"), "--output", str(output), "--stages", stages]
        dry = try_command([*command, "--dry-run"])
        dry.check()
        wet = try_command(command)
        wet.check()
        for trial in (dry, wet):
            assert trial.code == 0 or str(folder) in trial.err, trial.err
        assert dry.code == wet.code or "give no number" in wet.err, f"dry: {dry.code}, then {wet.code}: {wet.err}"
        if wet.code == 0:
            try:
                expected = family.reference(folder, PAIRS)
            except Exception:  # what the reference cannot read, and is not read here, changes nothing
                expected = known[name]
            np.testing.assert_allclose(ranked(output), expected, atol=1e-4)

    fuzz(faults(families), check, count)


def ranked(output: Path) -> np.ndarray:
    """The scores of PAIRS in an output."""
    found = {
        (row["query_id"], one["doc_id"]): one["score"]
        for row in pq.read_table(output).to_pylist()
        for one in row["ranking"]
    }
    return np.array([found[row["query_id"], one["doc_id"]] for row in CONTENT for one in row["candidates"]])
