"""What every job's config shares: frozen, strict, and filled from YAML, flags or Python alone."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, model_validator
from pydantic.functional_validators import ModelWrapValidatorHandler
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ray_rerank.cluster.address import Address
from ray_rerank.cluster.errors import ClusterError
from ray_rerank.cluster.secrets import has_secret, shown


def _texts(value: Any) -> Iterator[str]:
    """All texts in a value, keys too, whatever refers to itself or stands in it often."""
    left, seen = [value], set()
    while left:
        one = left.pop()
        if isinstance(one, str):
            yield one
        elif id(one) not in seen:
            seen.add(id(one))
            if isinstance(one, dict):
                left += [*one, *one.values()]
            elif isinstance(one, list | tuple):
                left += one
            elif isinstance(one, BaseModel):
                left += vars(one).values()


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


def _address(given: str) -> str:
    try:
        Address.of(given)
    except ClusterError as error:
        raise ValueError(str(error)) from None
    return given


RayAddress = Annotated[str, AfterValidator(_address)]
"""Of a Ray cluster, as `ray_rerank.cluster.address` takes it."""


class Section(BaseModel):
    """A nested part of a job's config."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True, allow_inf_nan=False
    )


class JobConfig(BaseSettings):
    """The config of one job, given as YAML, flags or Python.

    `positional` names what leading arguments without a flag are: a YAML file, or fields. Environment variables
    are not read: what a job does stands in its config.
    """

    positional: ClassVar[tuple[str, ...]] = ("yaml",)

    @model_validator(mode="wrap")
    @classmethod
    def _without_secrets(cls, values: Any, validated: ModelWrapValidatorHandler[Self]) -> Self:
        """Before all else: a config is written down with its output, and its paths stand in messages."""
        for name, value in values.items() if isinstance(values, dict) else ():
            texts = _texts([name, value])
            if any(map(has_secret, (f"ray://{text}" if name == "address" else text for text in texts))):
                raise ValueError(
                    f"`{shown(str(name))}` carries a password, token or signature, or what may be one: in a URI, user "
                    "info (`user@`), `;`, `#` and what follows a `?` are not taken, since paths are written down. Put "
                    "keys where the storage's own tools look for them (environment, profile, fsspec's config)"
                )
        return validated(values)

    @model_validator(mode="before")
    @classmethod
    def _plain(cls, values: Any) -> Any:
        if isinstance(values, dict):
            for name, value in values.items():
                if fault := fault_of_value(value):
                    raise ValueError(f"`{name}` {fault}")
        return values

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        protected_namespaces=(),
        hide_input_in_errors=True,
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
