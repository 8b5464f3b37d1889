"""Where hard negatives come from, declared as values: random, BM25, a bi-encoder, or a run that there is already."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ray_rerank.operators.location import Location
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig


class _Source(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True, allow_inf_nan=False
    )

    count: int = Field(ge=1, description="negatives a query")


class RandomSource(_Source):
    """Any passage of the corpus."""

    kind: Literal["random"]


class _Ranked(_Source):
    ranks: tuple[int, int] = Field(
        (1, 100), description="first and last rank of the source's list to draw from, from 1"
    )
    draw: Literal["random", "top"] = Field("random", description="among these ranks by chance, or the best of them")

    @field_validator("ranks", mode="before")
    @classmethod
    def _ranks_of_text(cls, ranks: Any) -> Any:
        """`10-100` is the same as [10, 100]."""
        given = ranks.split("-") if isinstance(ranks, str) else ranks
        if isinstance(given, list | tuple) and len(given) == 2:
            return given
        raise ValueError(f"ranks are FIRST-LAST, such as 5-100, not {ranks!r}")

    @model_validator(mode="after")
    def _ranks_rise(self) -> Self:
        first, last = self.ranks
        if not 1 <= first <= last:
            raise ValueError(f"ranks go from 1 upwards, first to last: {first} to {last} is none")
        return self


class BM25Source(_Ranked):
    """BM25's list (Xiong et al. 2021, arXiv 2007.00808, compare it with a bi-encoder's and with random ones)."""

    kind: Literal["bm25"]


class BiEncoderSource(_Ranked):
    """The nearest passages by an encoder's vectors, searched exactly."""

    kind: Literal["bi-encoder"]
    encoder: BiEncoderConfig

    @model_validator(mode="before")
    @classmethod
    def _encoder_of_its_fields(cls, values: Any) -> Any:
        """`{kind: bi-encoder, model: M}` is short for `{kind: bi-encoder, encoder: {model: M}}`."""
        if not isinstance(values, dict) or "encoder" in values:
            return values
        own = {name: value for name, value in values.items() if name in {*BiEncoderConfig.model_fields} - {"kind"}}
        return {name: value for name, value in values.items() if name not in own} | {"encoder": own}


class RunSource(_Ranked):
    """The list of a TREC run."""

    kind: Literal["run"]
    path: Location


Source = Annotated[RandomSource | BM25Source | BiEncoderSource | RunSource, Field(discriminator="kind")]
