"""What every job's config shares: frozen, strict, and filled from YAML, flags or Python alone."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict


class Section(BaseModel):
    """A nested part of a job's config."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class JobConfig(BaseSettings):
    """The config of one job, given as YAML, flags or Python.

    `positional` names what leading arguments without a flag are: a YAML file, or fields. Environment variables
    are not read: what a job does stands in its config.
    """

    positional: ClassVar[tuple[str, ...]] = ("yaml",)

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
