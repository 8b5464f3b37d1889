"""RankT5 (Zhuang et al. 2023, arXiv 2210.10634): a score token's raw logit, or an expected grade."""

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ray_rerank.operators.scorers.t5 import PointwiseT5, Seq2SeqConfig

FORMS: dict[str, dict[str, Any]] = {
    "logit": {
        "template": "Query: {query} Document: {document}",
        "targets": ("<extra_id_10>",),
        "reduction": "logit",
        "end_token": False,
    },
    "digits": {
        "template": "Query: {query} Document: {document} Score:",
        "targets": tuple("0123456789"),
        "reduction": "expected_value",
    },
}


class RankT5Config(Seq2SeqConfig):
    """Google's form (`logit`), or the choice among the digits 0 to 9 behind `Score:` read as a mean (`digits`)."""

    title: ClassVar[str] = "RankT5"
    colour: ClassVar[str] = "#E69F00"
    marker: ClassVar[str] = "v"

    kind: Literal["rankt5"] = "rankt5"
    form: Literal["logit", "digits"] = Field("logit", description="the preset of template, targets and reduction")

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, values: Any) -> Any:
        return FORMS.get(values.get("form", "logit"), {}) | values if isinstance(values, dict) else values

    def load(self, threads: int | None = None) -> PointwiseT5:
        """Load the model onto this process's device."""
        return PointwiseT5(self, threads)
