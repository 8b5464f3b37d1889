"""What every job's config shares: frozen, strict, and filled from YAML, flags or Python alone."""

import re
from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

_SECRET = re.compile(
    r"://[^/@\s]*:[^/@\s]+@|https?://[^/@\s]+@|://\S*[?&](X-Amz-Signature|X-Goog-Signature|Signature|sig|\w*token)=",
    re.IGNORECASE,
)
"""Of a URI: user and password, a token before the host, or a signed query."""


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for own in value.values() for text in _texts(own))
    elif isinstance(value, list | tuple):
        yield from (text for own in value for text in _texts(own))


_LONGEST = 10_000  # characters of one text
_DEEPEST = 50


def fault_of_value(value: Any, deep: int = _DEEPEST) -> str | None:
    """Why something is no value for a field: the system cannot pass it on, or it is too much."""
    if isinstance(value, str):
        if len(value) > _LONGEST:
            return f"has {len(value):,} characters; {_LONGEST:,} are the most"
        try:
            return "holds a NUL character" if b"\0" in value.encode() else None
        except UnicodeEncodeError:
            return "is no UTF-8 text; rename what has a name in another encoding"
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return "is beyond the numbers of 64 bits"
    if not isinstance(value, dict | list | tuple):
        return None
    if not deep:
        return f"holds values in one another, {_DEEPEST} deep"
    inner = [*value, *value.values()] if isinstance(value, dict) else value
    return next((fault for own in inner if (fault := fault_of_value(own, deep - 1))), None)


class Section(BaseModel):
    """A nested part of a job's config."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), allow_inf_nan=False)


class JobConfig(BaseSettings):
    """The config of one job, given as YAML, flags or Python.

    `positional` names what leading arguments without a flag are: a YAML file, or fields. Environment variables
    are not read: what a job does stands in its config.
    """

    positional: ClassVar[tuple[str, ...]] = ("yaml",)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name, value in values.items():
                if fault := fault_of_value(value):
                    raise ValueError(f"`{name}` {fault}")
        return values

    @model_validator(mode="before")
    @classmethod
    def _without_secrets(cls, values: Any) -> Any:
        """A config is written down with its output, and its paths stand in messages."""
        if isinstance(values, dict):
            for name, value in values.items():
                if any(_SECRET.search(text) for text in _texts(value)):
                    raise ValueError(
                        f"`{name}` carries a password, token or signature; put it where the storage's own tools look "
                        "for it (environment, profile, fsspec's config)"
                    )
        return values

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        allow_inf_nan=False,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        nested_model_default_partial_update=True,
    )

    @classmethod
    def settings_customise_sources(  # type: ignore[override]
        cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **_: Any
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
