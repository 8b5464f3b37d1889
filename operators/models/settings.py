"""The JSON files of a model directory, by the types that transformers takes for granted."""

import copy
import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveInt, ValidationError, field_validator

from ray_rerank.operators.errors import ModelError, reason_of

_PORTED = frozenset({"nomic_bert", "eurobert"})
"""Architectures whose checkpoints name code of their own that transformers has by now."""


_LARGEST_JSON = 1 << 28  # bytes; the largest vocabularies take 40 MB
_LARGEST_NUMBER = 10**8  # tokens, positions, widths: no model has more of anything
_MOST_LAYERS = 10_000

_SIZES = frozenset(
    {
        *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "type_vocab_size"),
        *("embedding_size", "d_model", "d_ff", "d_kv", "num_layers", "num_heads", "n_embd", "n_layer", "n_head"),
    }
)


class ModelSettings(BaseModel):
    """What config.json says, where it is read here; transformers checks what else its own class knows."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    model_type: str = Field(min_length=1)
    architectures: list[str] | None = None
    num_labels: PositiveInt | None = None
    id2label: dict[str, Any] | None = None
    label2id: dict[str, Any] | None = None
    vocab_size: PositiveInt | None = None
    max_position_embeddings: int | None = None
    pad_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    is_encoder_decoder: bool | None = None
    dtype: str | dict[str, Any] | None = None
    torch_dtype: str | dict[str, Any] | None = None
    auto_map: dict[str, Any] = Field(default_factory=dict)
    problem_type: str | None = None
    chunk_size_feed_forward: NonNegativeInt = 0
    output_attentions: bool | None = None
    output_hidden_states: bool | None = None
    return_dict: bool | None = None
    use_cache: bool | None = None

    @field_validator("dtype", "torch_dtype")
    @classmethod
    def _is_of_torch(cls, value: Any) -> Any:
        import torch

        if isinstance(value, str) and not isinstance(getattr(torch, value.removeprefix("torch."), None), torch.dtype):
            raise ValueError(f"torch has no number format {shown(value)}")
        return value


class TokenizerSettings(BaseModel):
    """What tokenizer_config.json says, by the types that transformers takes for granted."""

    model_config = ConfigDict(strict=True, protected_namespaces=())

    auto_map: dict[str, Any] = Field(default_factory=dict)
    tokenizer_class: str | None = None
    model_max_length: float | None = Field(None, gt=0)
    padding_side: Literal["left", "right"] | None = None
    truncation_side: Literal["left", "right"] | None = None
    model_input_names: list[str] | None = None
    bos_token: str | dict[str, Any] | None = None
    cls_token: str | dict[str, Any] | None = None
    eos_token: str | dict[str, Any] | None = None
    mask_token: str | dict[str, Any] | None = None
    pad_token: str | dict[str, Any] | None = None
    sep_token: str | dict[str, Any] | None = None
    unk_token: str | dict[str, Any] | None = None
    added_tokens_decoder: dict[str, dict[str, Any]] | None = None
    additional_special_tokens: list[str | dict[str, Any]] | None = None
    extra_special_tokens: list[str | dict[str, Any]] | dict[str, Any] | None = None
    chat_template: str | list[Any] | dict[str, Any] | None = None
    add_bos_token: bool | None = None
    add_eos_token: bool | None = None
    add_prefix_space: bool | None = None
    do_lower_case: bool | None = None
    strip_accents: bool | None = None
    tokenize_chinese_chars: bool | None = None

    @field_validator("added_tokens_decoder")
    @classmethod
    def _is_by_number(cls, value: dict[str, Any] | None) -> dict[str, Any] | None:
        if odd := [key for key in value or () if not (key.isascii() and key.isdecimal())]:
            raise ValueError(f"{shown(odd[0])} is no number of a token")
        return value


class WeightIndex(BaseModel):
    """What model.safetensors.index.json says: the file that each weight is in."""

    weight_map: dict[str, str] = Field(min_length=1)
    metadata: dict[str, Any]

    @field_validator("weight_map")
    @classmethod
    def _is_inside(cls, value: dict[str, str]) -> dict[str, str]:
        if odd := [name for name in value.values() if Path(name).name != name]:
            raise ValueError(f"{shown(odd[0])} is no file of this folder")
        return value


def read_object(file: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelError: something else is in it.
    """
    found = _read_json(file)
    if not isinstance(found, dict):
        raise ModelError(f"{file}: holds no JSON object")
    return found


def read_list(file: Path) -> list[Any]:
    """The JSON array in a file.

    Raises:
        ModelError: something else is in it.
    """
    found = _read_json(file)
    if not isinstance(found, list):
        raise ModelError(f"{file}: holds no JSON array")
    return found


def shown(value: Any) -> str:
    """A value for a message, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def check_config(file: Path, config: dict[str, Any]) -> None:
    for name in ("quantization_config", "compression_config"):
        if config.get(name) is not None:
            how = config[name].get("quant_method") if isinstance(config[name], dict) else None
            raise ModelError(
                f"{file}: the weights are quantized ({name}{f': {how}' if isinstance(how, str) else ''}), which is not "
                "supported; use the original model"
            )
    validate(file, ModelSettings, config)
    inner: list[tuple[str, Any]] = [("", config)]
    while inner:
        name, value = inner.pop()
        if isinstance(value, dict | list):
            inner += value.items() if isinstance(value, dict) else ((name, one) for one in value)
        elif isinstance(value, int) and abs(value) > (_MOST_LAYERS if name.endswith("layers") else _LARGEST_NUMBER):
            if "theta" not in name:
                raise ModelError(f"{file}: {name} is {shown(value)}, which is more than any model has")
        elif isinstance(value, int) and value < 0 and name in _SIZES:
            raise ModelError(f"{file}: {name} is {value}; it must be a number from 0")
    described = describe_config(file, config)
    start, size = config.get("decoder_start_token_id"), getattr(described, "vocab_size", None)
    if isinstance(start, int) and isinstance(size, int) and not 0 <= start < size:
        raise ModelError(f"{file}: decoder_start_token_id is {start}, and the model has {size} tokens (vocab_size)")


def validate(file: Path, kind: type[BaseModel], content: dict[str, Any]) -> None:
    try:
        kind.model_validate(content)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where, what = fault["loc"][0] if fault["loc"] else "", fault["msg"].removeprefix("Value error, ")
        raise ModelError(f"{file}: {where} is {shown(content.get(str(where)))}: {what}") from None


def describe_config(file: Path, config: dict[str, Any]) -> Any:
    from transformers import CONFIG_MAPPING

    if (kind := config["model_type"]) not in CONFIG_MAPPING:
        raise ModelError(f"{file}: model_type {shown(kind)} is not one that transformers implements")
    try:
        return CONFIG_MAPPING[kind].from_dict(copy.deepcopy(config))
    except Exception as error:  # config classes raise whatever the first odd value raises
        reason = reason_of(error)
        odd = _odd_setting(kind, config)
        if odd is not None and f"'{odd}'" not in reason:
            reason = f"{odd} is {shown(config[odd])}: {reason}"
        raise ModelError(f"{file}: {reason}") from None


def _odd_setting(kind: str, config: dict[str, Any]) -> str | None:
    """The setting without which a config could be read."""
    from transformers import CONFIG_MAPPING

    for name in config:
        with suppress(Exception):
            CONFIG_MAPPING[kind].from_dict(copy.deepcopy({key: own for key, own in config.items() if key != name}))
            return name
    return None


def _read_json(file: Path) -> Any:
    try:
        if (size := file.stat().st_size) > _LARGEST_JSON:
            raise ValueError(f"{size:,} bytes are too many for a setting")
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not JSON: {reason_of(error)}") from None


def check_no_code(model: str, config: dict[str, Any], file: Path) -> None:
    for name, value in config.items():
        if name.endswith("implementation") and "/" in str(value):
            raise ModelError(
                f"{model}: its {file.name} asks for code from elsewhere ({name}: {value}), which is not run"
            )
    mapped = config.get("auto_map")
    if mapped and str(config.get("model_type")) not in _PORTED:
        shown = next(iter(mapped.values())) if isinstance(mapped, dict) else mapped
        raise ModelError(
            f"{model}: its {file.name} asks for code of its own (auto_map: {shown}), which is not run; use a model "
            "that transformers itself implements"
        )
