"""The configs of all jobs, and the option models in their fields."""

import typing
from collections.abc import Iterator
from importlib import import_module
from typing import Any, Literal

from pydantic import BaseModel

from ray_rerank.jobs.cli.command import JOBS
from ray_rerank.jobs.config import JobConfig
from ray_rerank.operators.scorers.registry import ScorerConfig


def configs() -> dict[str, type[JobConfig]]:
    return {name: import_module(f"ray_rerank.jobs.{name}").Config for name in JOBS}


def models(annotation: Any, seen: set[type]) -> Iterator[type[BaseModel]]:
    """The option models that a field's type names, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel) and annotation not in seen:
        seen.add(annotation)
        yield annotation
        for field in annotation.model_fields.values():
            yield from models(field.annotation, seen)
    for inner in typing.get_args(annotation):
        yield from models(inner, seen)


def all_models() -> list[type[BaseModel]]:
    seen: set[type] = set()
    found = [model for config in configs().values() for model in models(config, seen)]
    return found + list(models(ScorerConfig, seen))


def takes_texts(annotation: Any) -> bool:
    if typing.get_origin(annotation) is Literal:
        return False
    return annotation is str or any(takes_texts(inner) for inner in typing.get_args(annotation))
