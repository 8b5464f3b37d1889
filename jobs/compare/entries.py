"""The scorers of a comparison as a user names them: one scorer, or a cascade, with a name of its own."""

from pathlib import PurePosixPath
from typing import Any

from pydantic import Field, model_validator

from ray_rerank.jobs.config import Section
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.operators.scorers.registry import ScorerConfig

CASCADE = "cascade"


class ScorerEntry(Section):
    """One row of the comparison: `scorer`, or `stages` for a cascade."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,79}$", description="its row, and the folder of its ranking"
    )
    scorer: ScorerConfig | None = Field(None, description="as in a rerank job")
    stages: tuple[Stage, ...] = Field((), description="a cascade, as in a rerank job")
    timing: bool = Field(True, description="false: it is ranked and measured, and not timed")

    @model_validator(mode="after")
    def _one_of_two(self) -> "ScorerEntry":
        if (self.scorer is None) == (not self.stages):
            raise ValueError(f"{self.name}: give `scorer` or `stages`, one of them")
        return self

    @property
    def kind(self) -> str:
        """The family of its scorer, or `cascade`."""
        first, *more = self.pipeline(1, None)
        return CASCADE if more else first.scorer.kind

    def pipeline(self, cpus: float, gpus: float | None) -> tuple[Stage, ...]:
        """Its stages; CPUs and GPUs of an actor as given where a stage does not say."""
        stages = (Stage(scorer=self.scorer),) if self.scorer is not None else self.stages
        given: dict[str, Any] = {"cpus": cpus, "gpus": gpus}
        return tuple(
            stage.model_copy(update={name: given[name] for name in given if name not in stage.model_fields_set})
            for stage in stages
        )


def entries_of_models(models: list[str], given: dict[str, Any]) -> list[dict[str, Any]]:
    """Entries of cross-encoders, each named by as much of the end of its path as tells it from the others.

    Args:
        given: what else is said of each scorer.
    """
    parts = [[part for part in PurePosixPath(model).parts if part not in {"/", "~", ".", ".."}] for model in models]
    depth = 1
    while len({tuple(own[-depth:]) for own in parts}) < len(parts) and depth < max(map(len, parts)):
        depth += 1
    names = ["-".join(own[-depth:]) for own in parts]
    return [
        {"name": name, "scorer": {"kind": "cross-encoder", "model": model, **given}}
        for name, model in zip(names, models, strict=True)
    ]
