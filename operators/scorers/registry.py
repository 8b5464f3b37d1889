"""The scorer families that a config can name. A new one is one file, one import and one entry here."""

from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from ray_rerank.operators.errors import ConfigError
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from ray_rerank.operators.scorers.colbert import ColBERTConfig
from ray_rerank.operators.scorers.config import ModelConfig
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from ray_rerank.operators.scorers.duot5 import DuoT5Config
from ray_rerank.operators.scorers.monot5 import MonoT5Config
from ray_rerank.operators.scorers.rankt5 import RankT5Config

Family = CrossEncoderConfig | MonoT5Config | RankT5Config | DuoT5Config | BiEncoderConfig | ColBERTConfig

FAMILIES: dict[str, type[ModelConfig]] = {family.model_fields["kind"].default: family for family in get_args(Family)}
"""Each `kind`, and the config class that stands for it."""


def _with_kind(values: Any) -> Any:
    """A cross-encoder where no kind is given."""
    if not isinstance(values, dict):
        return values
    kind = values.get("kind", "cross-encoder")
    if kind not in FAMILIES:
        raise PydanticCustomError("unknown_kind", f"`kind` is one of {', '.join(FAMILIES)}")
    return values | {"kind": kind}


ScorerConfig = Annotated[Family, Field(discriminator="kind"), BeforeValidator(_with_kind)]


def scorer_config(values: dict[str, Any]) -> Family:
    """A scorer's config from plain values, as a job file has them under `scorer:`.

    Raises:
        InputError: a field is unknown, missing or of the wrong type.
    """
    try:
        config: Family = TypeAdapter(ScorerConfig).validate_python(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'][1:])) or 'scorer'}: {fault['msg']}" for fault in error.errors()]
        raise ConfigError("the scorer is refused:\n  " + "\n  ".join(faults)) from None
    return config


def is_pairwise(identity: dict[str, Any]) -> bool:
    """Whether an identity, as caches and manifests keep it, is of a scorer that compares two documents."""
    family = FAMILIES.get(str(identity.get("kind")))
    return family is not None and family.pairwise
