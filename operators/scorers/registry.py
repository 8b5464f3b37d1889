"""The scorers that a config can name. A new family is one file and one line here."""

from functools import reduce
from importlib import import_module
from operator import or_
from typing import TYPE_CHECKING, Annotated, Any, Protocol

import numpy as np
from pydantic import Discriminator, Tag, TypeAdapter, ValidationError

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.inference.stats import Work
from ray_rerank.operators.scorers.base import Evaluate

FAMILIES = {
    "cross-encoder": "ray_rerank.operators.scorers.cross_encoder:CrossEncoderConfig",
    "monot5": "ray_rerank.operators.scorers.monot5:MonoT5Config",
    "rankt5": "ray_rerank.operators.scorers.rankt5:RankT5Config",
    "duot5": "ray_rerank.operators.scorers.duot5:DuoT5Config",
    "bi-encoder": "ray_rerank.operators.scorers.bi_encoder:BiEncoderConfig",
    "colbert": "ray_rerank.operators.scorers.colbert:ColBERTConfig",
}
"""Each `kind`, and the config class that stands for it."""


class Scorer(Protocol):
    """A loaded model that gives each pair a raw score, higher for more relevant.

    `precision` is fp32, bf16 or fp16; `evaluate` is the model itself, before which a cache may be put.
    """

    precision: str
    evaluate: Evaluate

    def score(
        self, pairs: list[tuple[str, str]], work: Work | None = None, lists: np.ndarray | None = None
    ) -> np.ndarray:
        """float32 of len(pairs), in their order. `lists`, int64, says which list each pair is in: a pairwise scorer
        compares the documents of a list; without it, pairs of one query text are a list."""


class ScorerFamily(Protocol):
    """What `scorer:` takes: the frozen config of one scorer."""

    @property
    def kind(self) -> str:
        """A key of FAMILIES."""

    @property
    def model(self) -> str:
        """A directory, a URI of one, or a hub id."""

    @property
    def precision(self) -> str:
        """As asked for."""

    def identity(self) -> dict[str, Any]:
        """All that decides a score. Raises ModelError where the model is not what the family needs."""

    def evaluation_identity(self) -> dict[str, Any]:
        """All that decides one evaluation of the model."""

    def load(self, threads: int | None = None) -> Scorer:
        """Load the model onto this process's device."""

    def load_planned(self, planned: dict[str, Any], threads: int | None = None) -> Scorer:
        """Load it on a worker. Raises ModelError where it is another than the job was planned with."""


def _class_of(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _kind_of(value: Any) -> Any:
    return value.get("kind", "cross-encoder") if isinstance(value, dict) else getattr(value, "kind", None)


def union_of_families() -> Any:
    """The type that tells the families' configs apart by `kind`, cross-encoder where none is given."""
    members = (Annotated[_class_of(path), Tag(kind)] for kind, path in FAMILIES.items())
    told = f"`kind` is one of {', '.join(FAMILIES)}"
    chosen = Discriminator(_kind_of, custom_error_type="unknown_kind", custom_error_message=told)
    return Annotated[reduce(or_, members), chosen]


if TYPE_CHECKING:
    ScorerConfig = ScorerFamily
else:
    ScorerConfig = union_of_families()


def scorer_config(values: dict[str, Any]) -> ScorerFamily:
    """A scorer's config from plain values, as a job file has them under `scorer:`.

    Raises:
        InputError: a field is unknown, missing or of the wrong type.
    """
    try:
        return TypeAdapter(ScorerConfig).validate_python(values)
    except ValidationError as error:
        faults = [f"{'.'.join(map(str, fault['loc'][1:])) or 'scorer'}: {fault['msg']}" for fault in error.errors()]
        raise InputError("the scorer is refused:\n  " + "\n  ".join(faults)) from None
