"""Where a model's files are, whether they are what a scorer needs, and what they are by content."""

import functools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError, safe_open

from ray_rerank.operators.errors import ModelError, reason_of
from ray_rerank.operators.models.fetch import fetched, format_hint
from ray_rerank.operators.models.settings import (
    TokenizerSettings,
    WeightIndex,
    check_config,
    check_no_code,
    describe_config,
    read_object,
    validate,
)

_DECIDING = (
    *(".safetensors", ".json", ".jinja"),
    *(".txt", ".model", ".metadata", ".spm", ".bpe", ".codes", ".vocab", ".tiktoken"),
)
"""Files that can decide a score: weights, configs, templates, vocabularies. A loader is shown no others."""

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json")
_VOCABULARY = (".model", ".spm", ".tiktoken")
"""What has to be there of a tokenizer: without, transformers makes up an empty one."""

POSITIONS_AFTER_PADDING = frozenset(
    {
        *("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "xmod", "ibert"),
        *("mpnet", "longformer", "data2vec-text", "luke", "mluke", "lilt", "layoutlmv3", "markuplm", "esm"),
    }
)
"""Architectures that count positions from the padding id on, so that the first ones are never used."""


_QUANTIZED = frozenset({"I8", "U8", "I4", "U4", "F4", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2"})
_RACY_NS = 2_000_000_000  # a file this young may change again without a new modification time


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that has been looked at, not loaded.

    Attributes:
        folder: the local directory, for a hub id that of the hub's own cache, for a URI that of its copy.
        config: the content of config.json.
        content: 128-bit xxh3 over the names and bytes of `files`; renaming or moving the directory does not
            change it.
        files: all that can decide a score, by their paths inside the folder. Links are followed.
        part: the folder inside that holds config, weights and tokenizer; "" is the directory itself.
    """

    folder: Path
    config: dict[str, Any]
    content: str
    files: tuple[str, ...] = ()
    part: str = ""

    @property
    def kind(self) -> str | None:
        """Its architecture: the `model_type` of config.json."""
        return self.config.get("model_type")

    @property
    def positions(self) -> int:
        """The longest input in tokens; RoBERTa's relatives spend positions up to the padding id on nothing."""
        described = self.described()
        places = getattr(described, "max_position_embeddings", None)
        if not isinstance(places, int) or places <= 0:
            return sys.maxsize
        return places - (described.pad_token_id or 0) - 1 if self.kind in POSITIONS_AFTER_PADDING else places

    def described(self) -> Any:
        """The config as transformers reads it: with its class's defaults, and by the class's names.

        Raises:
            ModelError: transformers does not know such a model, or refuses a setting.
        """
        return describe_config(self.folder / self.part / "config.json", self.config)

    def odd_weight(self) -> tuple[str, str] | None:
        """A weight that is no floating-point number, and what it is (as safetensors has it)."""
        for name in self.files:
            if name.endswith(".safetensors"):
                with safe_open(self.folder / name, framework="np") as weights:
                    for key in weights.keys():  # noqa: SIM118 - it is no mapping
                        kind = weights.get_slice(key).get_dtype()
                        if key.endswith((".weight", ".bias")) and not kind.startswith(("F", "BF")):
                            return key, kind
        return None

    @property
    def tensors(self) -> int:
        """How many its weight files hold."""
        total = 0
        for name in self.files:
            if name.endswith(".safetensors"):
                with safe_open(self.folder / name, framework="np") as weights:
                    total += len(weights.keys())
        return total

    @property
    def weight_bytes(self) -> int:
        """Of all its safetensors files."""
        return sum((self.folder / name).stat().st_size for name in self.files if name.endswith(".safetensors"))

    @contextmanager
    def sealed(self) -> Iterator[Path]:
        """A folder of links to `files`, and nothing else, for a loader to read: what the content does not cover
        cannot decide a score."""
        with tempfile.TemporaryDirectory(prefix="ray-rerank-model-") as view:
            for name in self.files:
                link = Path(view) / name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to((self.folder / name).absolute())
            yield Path(view)


def check_length(model: str, found: Checkpoint, name: str, length: int | None) -> None:
    """Raises ModelError where a length in tokens is more than the model has positions for."""
    if length and length > found.positions:
        raise ModelError(f"{model}: {name} {length} is more than its {found.positions} positions")


def check_attention(model: str, found: Checkpoint, length: int) -> None:
    """Raises ModelError where attention would depend on which lengths the model has seen before, or reaches further
    than the model has positions: Longformer fills each text up to its window.

    BigBird's block-sparse attention turns itself off for good at the first input of at most
    (5 + 2 `num_random_blocks`) `block_size` tokens (transformers, `BigBirdModel.forward`).
    """
    config = found.config
    windows = config.get("attention_window") or 0
    if (widest := max(windows) if isinstance(windows, list) else windows) > found.positions:
        raise ModelError(
            f"{model}: attention_window is {widest} in its config.json, more than its {found.positions} positions"
        )
    if config.get("model_type") != "big_bird" or config.get("attention_type", "block_sparse") != "block_sparse":
        return
    full = (5 + 2 * int(config.get("num_random_blocks", 3))) * int(config.get("block_size", 64))
    if length > full:
        raise ModelError(
            f"{model}: its block-sparse attention changes once it has read a text of at most {full} tokens, so scores "
            f'would depend on what was scored before; set max_length to {full}, or attention_type to "original_full" '
            "in its config.json"
        )


def find_folder(model: str, revision: str | None = None) -> Path:
    """The directory of a model: itself, the copy of what lies at a URI, or the hub cache's.

    Raises:
        ModelError: there is no such directory or hub id, or a URI's cannot be fetched.
    """
    if "://" in model:
        return fetched(model, _DECIDING)
    folder = Path(model).expanduser()
    return folder if folder.is_dir() else _from_hub(model, revision)


def find_checkpoint(model: str, revision: str | None = None, part: str = "") -> Checkpoint:
    """Resolve a directory, a URI or a hub id and check that it holds whole, plain weights, a config and a tokenizer.

    Args:
        part: the folder inside it that holds config, weights and tokenizer; "" is the directory itself.

    Raises:
        ModelError: there is no such directory or hub id, files are missing or damaged, or the weights alone are not
            the model: an adapter, quantized weights, code that would have to be run.
    """
    root = find_folder(model, revision)
    folder = root / part
    files = _files(model, root)
    adapters = [name for name in files if Path(name).name.startswith(("adapter_config.", "adapter_model"))]
    if adapters:
        raise ModelError(
            f"{model}: holds an adapter ({adapters[0]}), which is not applied; merge it into the weights "
            "(PEFT's merge_and_unload) and save the merged model"
        )
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{model}: not a model directory: it holds no config.json")
    config = read_object(config_file)
    check_no_code(model, config, config_file)
    check_config(config_file, config)
    _check_weights(model, folder)
    if not any(path.name in _VOCABULARIES or path.name.endswith(_VOCABULARY) for path in folder.iterdir()):
        raise ModelError(f"{model}: holds no tokenizer (tokenizer.json)")
    if (tokenizer_file := folder / "tokenizer_config.json").is_file():
        said = read_object(tokenizer_file)
        check_no_code(model, said | {"model_type": config["model_type"]}, tokenizer_file)
        validate(tokenizer_file, TokenizerSettings, said)
    return Checkpoint(root, config, _content(root, files), files, part)


def check_weight_files(folder: Path) -> None:
    """See that all that would be loaded from a folder is safetensors.

    Raises:
        ModelError: its weights are missing, damaged, quantized, or nothing but pickle.
    """
    index, whole, names = folder / "model.safetensors.index.json", folder / "model.safetensors", list[str]()
    if index.is_file() and not whole.is_file():
        listed = read_object(index)
        validate(index, WeightIndex, listed)
        names = sorted(set(listed["weight_map"].values()))
    for path in [whole] if whole.is_file() or not names else [folder / name for name in names]:
        if not path.is_file():
            beside = sorted(other.name for other in [*folder.glob("*"), *folder.glob("onnx/*")])
            other = [name for name in beside if name.endswith(".safetensors")]
            named = f" (it has {', '.join(other)})" if other else ""
            raise ModelError(f"{folder}: holds no {path.name}{named}{format_hint(beside)}")
        try:
            with safe_open(path, framework="np") as weights:
                kinds = {name: weights.get_slice(name).get_dtype() for name in weights.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: not a whole safetensors file: {error}") from None
        small = [name for name, kind in kinds.items() if kind in _QUANTIZED and name.endswith("weight")]
        if small:
            raise ModelError(
                f"{path}: {small[0]} is {kinds[small[0]]}: the weights are quantized, which is not supported; use the "
                "original model"
            )


def _check_weights(model: str, folder: Path) -> None:
    try:
        check_weight_files(folder)
    except ModelError as error:
        message = str(error)
        raise ModelError(message if message.startswith(model) else f"{model}: {message}") from None


def _from_hub(model: str, revision: str | None) -> Path:
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or " " in model:
        raise ModelError(f"{model}: there is no such directory")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=[f"*{end}" for end in _DECIDING])
    except Exception as error:  # hub, network and cache each raise their own
        raise ModelError(f"{model}: neither a directory nor a model the hub gives: {reason_of(error)}") from None
    return Path(found)


def _files(model: str, root: Path) -> tuple[str, ...]:
    """The files that can decide a score, hidden ones left out, links followed; sorted."""
    found: list[str] = []
    within = {str(root): {os.path.realpath(root)}}  # by folder: what it is in, itself included
    for at, folders, names in os.walk(root, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            inner, real = str(Path(at) / name), os.path.realpath(Path(at) / name)
            if real in within[at]:
                raise ModelError(f"{model}: {inner} is a link to a folder that it is in")
            within[inner] = within[at] | {real}
        for name in names:
            if name.endswith(_DECIDING) and not name.startswith("."):
                path = Path(at) / name
                if not path.is_file():
                    raise ModelError(f"{model}: {path} is not a file, or a link to none")
                found.append(path.relative_to(root).as_posix())
    return tuple(sorted(found, key=Path))


def _content(root: Path, files: tuple[str, ...]) -> str:
    states = tuple((name, *_state(root / name)) for name in files)
    old = time.time_ns() - max((state[2] for state in states), default=0) > _RACY_NS
    return (_digest if old else _digest.__wrapped__)(root, states)


def _state(path: Path) -> tuple[int, int, int]:
    found = path.stat()
    return found.st_size, max(found.st_mtime_ns, found.st_ctime_ns), found.st_ino


@functools.lru_cache(maxsize=64)
def _digest(root: Path, states: tuple[tuple[str, int, int, int], ...]) -> str:
    digest = xxhash.xxh3_128()
    for name, size, *_ in states:
        digest.update(f"{name}\0{size}\0".encode())
        with (root / name).open("rb") as file:
            while chunk := file.read(1 << 22):
                digest.update(chunk)
    return digest.hexdigest()
