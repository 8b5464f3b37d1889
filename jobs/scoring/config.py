"""What every job that scores candidates on Ray is told, whatever it makes of the scores."""

from typing import Any, Self

from pydantic import Field, model_validator

from ray_rerank.cluster.attempts import Limits
from ray_rerank.cluster.executors import ExecutorName
from ray_rerank.jobs.config import JobConfig, RayAddress, Section
from ray_rerank.jobs.outputs.record import Overwrite
from ray_rerank.operators.candidates.schema import Columns
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.device import Precision
from ray_rerank.operators.ranking.fusion import Fusion
from ray_rerank.operators.scorers.registry import ScorerConfig

OF_SCORER = ("kind", "precision", "max_length")
"""What may be said beside `model`, as of its scorer."""


class ActorPool(Section):
    """The actors that hold one scorer."""

    actors: int | None = Field(
        None, ge=1, le=100_000, description="size of the actor pool; default: what the cluster has room for"
    )
    cpus: float = Field(1, gt=0, le=100_000, description="CPUs, and so torch threads, of each actor")
    gpus: float | None = Field(
        None, ge=0, le=100_000, description="GPUs of each actor; default: 1 where the cluster has GPUs"
    )


class ExecutionConfig(JobConfig):
    """Where the units of a job are worked on, and within which limits."""

    executor: ExecutorName = Field(
        "ray", description="`inline` works in this process, without Ray: for small jobs; default: ray"
    )
    address: RayAddress | None = Field(
        None, description="Ray cluster to run on; default: Ray is started on this machine"
    )
    limits: Limits = Field(Limits(), description="attempts, and seconds, that each step of a unit has")

    @model_validator(mode="after")
    def _inline_has_no_address(self) -> Self:
        if self.executor == "inline" and self.address is not None:
            raise ValueError("`address` goes with `executor: ray`; `inline` runs in this process")
        return self


class ScoringConfig(ExecutionConfig):
    """Where the candidates are, where the scores go, and how the work is cut and run."""

    input: Location = Field(description="Parquet candidates: a file, a folder, a glob or a URI")
    output: Location = Field(description="folder or URI of what is written; a run that was stopped goes on here")
    model: Location | None = Field(None, description="short for one scorer with this model")
    kind: str = Field("cross-encoder", description="with `model`: the family of its scorer")
    precision: Precision | None = Field(None, description="with `model`: fp32, bf16, fp16 or auto")
    max_length: int | None = Field(None, description="with `model`: tokens that it reads at a time")
    cache: Location | None = Field(
        None, description="folder or URI of scores that were computed before, by any job; new ones are added"
    )
    columns: Columns = Columns()
    unit_pairs: int | None = Field(
        None, ge=1, description="pairs a work unit; default: the input in 64 units, of 1024 to 32768 pairs each"
    )
    verify: bool = Field(False, description="read all that is done already; what is damaged is done again")
    skip_bad_files: bool = Field(False, description="leave out input files that cannot be read, and report them")
    overwrite: Overwrite = False
    dry_run: bool = Field(False, description="print the plan and stop")


def from_model(values: Any, field: str, *of_stage: str) -> Any:
    """A config's values, with the one scorer that `model` is short for in its field.

    Args:
        field: holds the scorers.
        of_stage: what else may be said beside `model`, as of the field's item.
    """
    if not isinstance(values, dict):
        return values
    given = {name: values[name] for name in (*OF_SCORER, *of_stage) if values.get(name) is not None}
    if not values.get("model"):
        if given:
            raise ValueError(f"`{next(iter(given))}` goes with `model`; each of `{field}` says its own")
        return values
    if values.get(field):
        raise ValueError(f"give `model` or `{field}`, not both")
    item = {name: given.pop(name) for name in of_stage if name in given}
    return values | {field: [item | {"scorer": {"model": values["model"], **given}}]}


class Stage(ActorPool):
    """One scorer, how many candidates it passes on, and the actors that hold it."""

    scorer: ScorerConfig
    keep: int | None = Field(
        None,
        ge=1,
        description="how many candidates go on to the next stage; the rest stay below them, as scored here",
    )
    fusion: Fusion | None = Field(
        None, description="combine the scores with the stage before: {kind: weighted} or {kind: reciprocal-rank}"
    )

    def identity(self) -> dict[str, Any]:
        """What of this stage decides the ranking."""
        fusion = {"fusion": self.fusion.model_dump()} if self.fusion else {}
        return {"scorer": self.scorer.identity(), "keep": self.keep} | fusion
