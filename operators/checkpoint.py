"""Where a model's files are, whether they are what a scorer needs, and what they are by content."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash
from safetensors import SafetensorError, safe_open

from operators.errors import ModelError, reason_of
from operators.fetched_model import fetched, pickle_hint

_DECIDING = (".safetensors", ".json", ".txt", ".model", ".metadata")
"""Files that can decide a score: weights, configs, vocabularies. A README or a licence cannot."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model directory that has been looked at, not loaded.

    Attributes:
        folder: the local directory, for a hub id that of the hub's own cache, for a URI that of its copy.
        config: the content of config.json.
        content: 128-bit xxh3 over the names and bytes of all files that can decide a score; renaming or
            moving the directory does not change it.
    """

    folder: Path
    config: dict[str, Any]
    content: str

    @property
    def positions(self) -> int:
        """The longest input in tokens; RoBERTa's relatives spend positions up to the padding id on nothing."""
        places = self.config.get("max_position_embeddings")
        if not isinstance(places, int) or places <= 0:
            return sys.maxsize
        offset = {"roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "mpnet"}
        spent = int(self.config.get("pad_token_id") or 0) + 1 if self.config.get("model_type") in offset else 0
        return places - spent


def check_length(model: str, found: Checkpoint, name: str, length: int | None) -> None:
    """Raises ModelError where a length in tokens is more than the model has positions for."""
    if length and length > found.positions:
        raise ModelError(f"{model}: {name} {length} is more than its {found.positions} positions")


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
    """Resolve a directory, a URI or a hub id and check that it holds safetensors and a config.

    Args:
        part: the folder inside it that holds config, weights and tokenizer; "" is the directory itself.

    Raises:
        ModelError: there is no such directory or hub id, or files are missing.
    """
    root = find_folder(model, revision)
    folder = root / part
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise ModelError(f"{model}: not a model directory: it holds no config.json")
    try:
        config = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{config_file}: not JSON: {error}") from None
    if not isinstance(config, dict):
        raise ModelError(f"{config_file}: not a model's config")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{model}: holds no *.safetensors{pickle_hint(sorted(map(str, folder.iterdir())))}")
    for weights in folder.glob("*.safetensors"):
        try:
            with safe_open(weights, framework="np"):
                pass
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{weights}: not a whole safetensors file: {error}") from None
    if not (folder / "tokenizer.json").is_file() and not (folder / "tokenizer_config.json").is_file():
        raise ModelError(f"{model}: holds no tokenizer (tokenizer.json)")
    return Checkpoint(root, config, _content(root))


def _from_hub(model: str, revision: str | None) -> Path:
    if model.startswith((".", "/", "~")) or model.count("/") > 1 or " " in model:
        raise ModelError(f"{model}: there is no such directory")
    from huggingface_hub import snapshot_download

    try:
        found = snapshot_download(model, revision=revision, allow_patterns=[f"*{end}" for end in _DECIDING])
    except Exception as error:  # hub, network and cache each raise their own
        raise ModelError(f"{model}: neither a directory nor a model the hub gives: {reason_of(error)}") from None
    return Path(found)


def _content(folder: Path) -> str:
    digest = xxhash.xxh3_128()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.suffix in _DECIDING and not path.name.startswith("."):
            digest.update(f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while chunk := file.read(1 << 22):
                    digest.update(chunk)
    return digest.hexdigest()
