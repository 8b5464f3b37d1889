"""Data sets of the Hugging Face hub, out of its cache: which files of a snapshot are the corpus, queries and qrels.

The card's `configs` say it, as they do to the library `datasets`; that asks for every file which the card names, and
a cache holds those that were used.
"""

import glob
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ray_rerank.operators.errors import InputError, reason_of
from ray_rerank.operators.formats.content import with_compressed

CORPUS, QUERIES, QRELS = ("corpus",), ("queries", "query"), ("default", "qrels")
ENDINGS = (".parquet", *with_compressed((".jsonl", ".json", ".tsv")))


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision of a data set on this machine's disk; of its files those that were fetched."""

    name: str
    revision: str
    folder: Path

    def has(self, configs: tuple[str, ...], part: str | None) -> bool:
        """Whether it has one of the configs."""
        return bool({*_names(configs, part)} & {*self._configs()})

    def files(self, configs: tuple[str, ...], part: str | None, split: str) -> tuple[Path, ...]:
        """The files of the first of the configs that there is.

        Args:
            part: of a data set with several, such as a language: its configs are PART-CONFIG.
            split: taken where it is there; a config with one split has it for all.

        Raises:
            InputError: there is no such config or split, or its files are not on disk.
        """
        named, wanted = self._configs(), _names(configs, part)
        config = next((own for own in wanted if own in named), None)
        if config is None:
            known = ", ".join(named) or "none"
            raise InputError(f"{self.name}: has no config {' or '.join(wanted)}; it has {known}")
        splits = named[config]
        if split not in splits and len(splits) > 1:
            raise InputError(f"{self.name}: {config} has no split {split}; it has {', '.join(splits)}")
        patterns = splits.get(split) or next(iter(splits.values()))
        found = sorted({file for pattern in patterns for file in self._matching(pattern)})
        if not found:
            raise InputError(
                f"{self.name}: {', '.join(patterns)} is not in the hub's cache ({self.folder}); "
                f"`hf download --repo-type dataset {self.name} --revision {self.revision}` fetches it"
            )
        return tuple(found)

    def _configs(self) -> dict[str, dict[str, list[str]]]:
        """By config and split the patterns of its files."""
        card = self.folder / "README.md"
        found = _front_matter(card).get("configs") if card.is_file() else None
        if isinstance(found, list):
            configs = [own for own in found if isinstance(own, dict)]
            return {str(own.get("config_name", "default")): _splits(own) for own in configs}
        return _by_convention(self.folder)

    def _matching(self, pattern: str) -> list[Path]:
        if Path(pattern).is_absolute() or ".." in Path(pattern).parts:
            return []
        found = glob.glob(pattern, root_dir=self.folder, recursive=True)  # noqa: PTH207 - Path's refuses some patterns
        return [self.folder / file for file in found if file.endswith(ENDINGS)]


def find_snapshot(name: str, revision: str | None) -> Snapshot:
    """The revision of a data set that the cache holds; fetched where it holds none.

    Args:
        revision: a commit or a branch; left open: `main`, or the only one that there is.

    Raises:
        InputError: several are there and none is `main`, or there is none and it cannot be fetched.
    """
    from huggingface_hub import constants, snapshot_download

    repository = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    reference = repository / "refs" / (revision or "main")
    commit = reference.read_text().strip() if reference.is_file() else revision
    there = sorted(folder.name for folder in (repository / "snapshots").glob("*") if folder.is_dir())
    if commit is None and len(there) > 1:
        raise InputError(f"{name}: the hub's cache holds the revisions {', '.join(there)}; say which: {name}@REVISION")
    commit = commit or (there[0] if there else None)
    if commit in there:
        return Snapshot(name, str(commit), repository / "snapshots" / str(commit))
    try:
        folder = Path(snapshot_download(name, repo_type="dataset", revision=revision))
    except Exception as error:  # the hub's client and the network each raise their own
        raise InputError(
            f"{name}: is not in the hub's cache ({repository}), and cannot be fetched: {reason_of(error).rstrip('.')}"
        ) from None
    return Snapshot(name, folder.name, folder)


def _names(configs: tuple[str, ...], part: str | None) -> tuple[str, ...]:
    if part is None:
        return configs
    names = [name for own in configs for name in (f"{part}-{own}", f"{own}-{part}")]
    return (*names, part) if configs == QRELS else tuple(names)


def _front_matter(card: Path) -> Mapping[str, Any]:
    text = card.read_text(encoding="utf-8", errors="replace")
    if not text.startswith("---\n"):
        return {}
    try:
        found = yaml.safe_load(text.removeprefix("---\n").partition("\n---")[0])
    except yaml.YAMLError as error:
        raise InputError(f"{card}: its front matter is not YAML: {error}") from None
    return found if isinstance(found, dict) else {}


def _splits(config: Mapping[str, Any]) -> dict[str, list[str]]:
    """Of `data_files`: a pattern, several, or those of each split; else all below `data_dir`."""
    given = config.get("data_files") or f"{config.get('data_dir', '')}/**/*".lstrip("/")
    if isinstance(given, list) and all(isinstance(own, dict) for own in given):
        return {str(own.get("split")): _patterns(own.get("path")) for own in given}
    if isinstance(given, dict):
        return {str(split): _patterns(paths) for split, paths in given.items()}
    return {"train": _patterns(given)}


def _patterns(given: Any) -> list[str]:
    return [str(pattern) for pattern in (given if isinstance(given, list) else [given])]


def _by_convention(folder: Path) -> dict[str, dict[str, list[str]]]:
    """Where no card says it: corpus and queries by their names, and a split's judgements in a file of its name."""
    files = [file.relative_to(folder) for file in folder.rglob("*") if file.name.endswith(ENDINGS)]
    configs: dict[str, dict[str, list[str]]] = {}
    for file in sorted(files):
        stem = file.name.partition(".")[0]
        top = file.parts[0].partition(".")[0]
        config, split = (top, top) if top in {"corpus", "queries"} else ("qrels", stem.partition("-")[0])
        configs.setdefault(config, {}).setdefault(split, []).append(str(file))
    return configs
