"""What a sentence-transformers save says of itself beside its weights: its modules, and how they read texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.models.checkpoint import (
    Checkpoint,
    check_length,
    check_weight_files,
    find_checkpoint,
    find_folder,
)
from ray_rerank.operators.models.settings import read_list, read_object, shown

Kind = Literal["bi-encoder", "colbert", "cross-encoder"]

_KINDS: dict[str, Kind] = {
    "SentenceTransformer": "bi-encoder",
    "MultiVectorEncoder": "colbert",
    "ColBERT": "colbert",  # PyLate
    "CrossEncoder": "cross-encoder",
}
"""Who scores what config_sentence_transformers.json calls its model_type."""

_TRUSTED = ("sentence_transformers.", "pylate.")
_WITH_WEIGHTS = frozenset({"Dense", "LayerNorm", "WeightedLayerPooling", "CNN"})
_WITH_SETTINGS = _WITH_WEIGHTS | {"Pooling", "Dropout", "MultiVectorMask", "TokenPooling"}
_SETTINGS_FILES = {"CNN": "cnn_config.json"}
_MODULES = _WITH_SETTINGS | {"Transformer", "Normalize"}
_DENSE = frozenset(
    {
        *("in_features", "out_features", "bias", "activation_function"),
        *("module_input_name", "module_output_name", "use_residual"),
    }
)

_READING = tuple(f"sentence_{name}_config.json" for name in ("bert", "roberta", "distilbert", "camembert", "albert"))
_READING += ("sentence_xlm-roberta_config.json", "sentence_xlnet_config.json")
_READING_KEYS = frozenset(
    {
        *("max_seq_length", "do_lower_case", "transformer_task", "modality_config", "module_output_name"),
        *("processing_kwargs", "unpad_inputs", "query_length", "document_length", "query_expansion"),
        *("tokenizer_name_or_path", "backend"),
    }
)
PASSED_ON = ("model_args", "model_kwargs", "tokenizer_args", "processor_kwargs", "config_args", "config_kwargs")
_HARMLESS = frozenset(
    {
        *("attn_implementation", "dtype", "torch_dtype", "add_pooling_layer", "trust_remote_code", "use_fast"),
        *("model_max_length", "padding_side", "truncation_side", "do_lower_case", "use_safetensors"),
    }
)
"""What loaders may be handed by a save: nothing that names another place, or other weights."""


@dataclass(frozen=True, slots=True)
class SentenceFiles:
    """A sentence-transformers save, or a plain checkpoint.

    Attributes:
        modules: class names in their order; empty where there is no modules.json.
        folders: theirs, inside the save.
        settings: config_sentence_transformers.json: prompts, similarity, the dimension that vectors are cut to.
        reading: how the first module reads texts: its sentence_bert_config.json.
    """

    checkpoint: Checkpoint
    modules: tuple[str, ...]
    folders: tuple[str, ...]
    settings: dict[str, Any]
    reading: dict[str, Any]

    def check_override(self, model: str, max_length: int | None) -> None:
        """See that a length can be set.

        Raises:
            ModelError: the save gives its tokenizer a length with every call, which no other replaces, or the model has
                fewer positions.
        """
        asked = self.reading.get("processing_kwargs") or {}
        if max_length and any("max_length" in (asked.get(part) or {}) for part in ("text", "common", "chat_template")):
            raise ModelError(f"{model}: its sentence_bert_config.json fixes the length of texts; leave max_length out")
        check_length(model, self.checkpoint, "max_length", max_length)


def find_sentence_files(model: str, revision: str | None, kind: Kind) -> SentenceFiles:
    """Find a save, and see that it is of a kind and asks for nothing that is not done.

    Raises:
        ModelError: files are missing, damaged or pickle; the save is of another kind; a module would run code from
            elsewhere, or is not supported.
    """
    root = find_folder(model, revision)
    listing = root / "modules.json"
    modules = tuple(_modules(model, listing)) if listing.is_file() else ()
    if modules and modules[0][0] != "Transformer":
        raise ModelError(f"{model}: its first module is {modules[0][0]}; supported is a Transformer")
    found = find_checkpoint(model, revision, modules[0][1] if modules else "")
    for name, path in modules[1:]:
        _check_module(model, name, root / path)
    settings_file = root / "config_sentence_transformers.json"
    settings = read_object(settings_file) if settings_file.is_file() else {}
    if settings.get("model_type", "") is None:
        raise ModelError(f"{settings_file}: model_type is null")
    _check_kind(model, settings, kind)
    _check_prompts(settings_file, settings)
    readings = (name for name in _READING if (root / found.part / name).is_file())
    reading_file = root / found.part / next(readings, _READING[0])
    reading = read_object(reading_file) if reading_file.is_file() else {}
    _check_reading(reading_file, reading, kind)
    names, folders = (tuple(part[side] for part in modules) for side in (0, 1))
    return SentenceFiles(found, names, folders, settings, reading)


def _modules(model: str, listing: Path) -> Iterator[tuple[str, str]]:
    """Class name and folder of each module."""
    for module in read_list(listing):
        said = [module.get(key) if isinstance(module, dict) else None for key in ("type", "path", "name")]
        kind, path, label = said
        if not isinstance(kind, str) or not isinstance(path, str) or not isinstance(label, str):
            raise ModelError(f"{listing}: not a list of modules: each has a `type`, a `path` and a `name`")
        if not kind.startswith(_TRUSTED):
            raise ModelError(f"{model}: module {kind} is not part of sentence-transformers; its code is not run")
        if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
            raise ModelError(f"{listing}: the path {path!r} of a module leads out of the model's folder")
        name = kind.rsplit(".", 1)[-1]
        if name not in _MODULES:
            raise ModelError(f"{model}: module {name} is not supported; supported are {', '.join(sorted(_MODULES))}")
        yield name, path


def _check_module(model: str, name: str, folder: Path) -> None:
    if name in _WITH_WEIGHTS:
        check_weight_files(folder)
    file = folder / _SETTINGS_FILES.get(name, "config.json")
    if name in _WITH_SETTINGS and not file.is_file():
        raise ModelError(f"{model}: its module {name} has no {file}")
    settings = read_object(file) if file.is_file() else {}
    for side in ("module_input_name", "module_output_name"):
        if not isinstance(settings.get(side, ""), str):
            raise ModelError(f"{file}: {side} must be a name")
    if name == "Pooling":
        _check_pooling(file, settings)
    if name != "Dense":
        return
    activation = str(settings.get("activation_function", "torch."))
    if not activation.startswith("torch."):
        raise ModelError(f"{file}: activation_function {activation} is not part of torch; its code is not run")
    for side in ("in_features", "out_features"):
        if not isinstance(settings.get(side), int) or settings[side] < 1:
            raise ModelError(f"{file}: {side} is {shown(settings.get(side))}; it must be a number from 1")
    if unknown := sorted(set(settings) - _DENSE):
        raise ModelError(f"{file}: {unknown[0]} is not a setting of Dense that is known here")


def _check_pooling(file: Path, settings: dict[str, Any]) -> None:
    for name in ("embedding_dimension", "word_embedding_dimension"):
        size = settings.get(name, 1)
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise ModelError(f"{file}: {name} is {shown(size)}; it must be a number from 1")
    mode = settings.get("pooling_mode", "mean")
    if not isinstance(mode, str) and not (isinstance(mode, list) and all(isinstance(one, str) for one in mode)):
        raise ModelError(f"{file}: pooling_mode is {shown(mode)}; it must be a name, or a list of names")


def _check_kind(model: str, settings: dict[str, Any], kind: Kind) -> None:
    named = settings.get("model_type")
    known = _KINDS.get(str(named))
    if named is None or known == kind:
        return
    advice = f"use `kind: {known}`" if known else "that kind is not supported"
    raise ModelError(f"{model}: is a {named} by its config_sentence_transformers.json, no {kind}; {advice}")


def _check_prompts(file: Path, settings: dict[str, Any]) -> None:
    for name in ("prompts", "__version__"):
        if not isinstance(settings.get(name, {}), dict):
            raise ModelError(f"{file}: {name} is {shown(settings[name])}; it must be an object")
    prompts, default = settings.get("prompts", {}), settings.get("default_prompt_name")
    if not all(isinstance(prompt, str | None) for prompt in prompts.values()):
        raise ModelError(f"{file}: prompts must be texts by their names")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise ModelError(f"{file}: default_prompt_name {default!r} is none of its prompts ({', '.join(prompts)})")


def _check_reading(file: Path, reading: dict[str, Any], kind: Kind) -> None:
    if unknown := sorted(set(reading) - _READING_KEYS - set(PASSED_ON)):
        raise ModelError(f"{file}: {unknown[0]} is not a setting that is known here")
    for part in PASSED_ON:
        passed = reading.get(part) or {}
        odd = sorted(set(passed) - _HARMLESS) if isinstance(passed, dict) else [passed]
        if odd:
            raise ModelError(f"{file}: {part} asks for {odd[0]}, which is not supported")
    if reading.get("tokenizer_name_or_path"):
        raise ModelError(f"{file}: takes its tokenizer from elsewhere ({reading['tokenizer_name_or_path']})")
    for name in ("max_seq_length", "query_length", "document_length"):
        length = reading.get(name)
        if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 1):
            raise ModelError(f"{file}: {name} is {length!r}; it must be a number of tokens, or null")
    if not isinstance(reading.get("do_lower_case", False), bool):
        raise ModelError(f"{file}: do_lower_case is {reading['do_lower_case']!r}; it must be true or false")
    for name in ("processing_kwargs", "modality_config"):
        if not isinstance(reading.get(name, {}), dict):
            raise ModelError(f"{file}: {name} is {shown(reading[name])}; it must be an object")
    if not isinstance(reading.get("module_output_name", ""), str):
        raise ModelError(f"{file}: module_output_name is {shown(reading['module_output_name'])}; it must be a name")
    for name, part in (reading.get("processing_kwargs") or {}).items():
        if not isinstance(part or {}, dict):
            raise ModelError(f"{file}: processing_kwargs.{name} is {shown(part)}; it must be an object")
    task = "sequence-classification" if kind == "cross-encoder" else "feature-extraction"
    if (asked := reading.get("transformer_task", task)) != task:
        raise ModelError(f"{file}: transformer_task is {asked}; a {kind} needs {task}")
