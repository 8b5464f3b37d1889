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


class Section(BaseModel):
    """A nested part of a job's config."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class JobConfig(BaseSettings):
    """The config of one job, given as YAML, flags or Python.

    `positional` names what leading arguments without a flag are: a YAML file, or fields. Environment variables
    are not read: what a job does stands in its config.
    """

    positional: ClassVar[tuple[str, ...]] = ("yaml",)

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
