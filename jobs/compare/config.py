"""What `compare` is asked for."""

from typing import Any

from pydantic import Field, model_validator

from ray_rerank.jobs.compare.entries import ScorerEntry, entries_of_models
from ray_rerank.jobs.scoring.config import ExecutionConfig
from ray_rerank.operators.candidates.schema import Columns
from ray_rerank.operators.comparison.schema import FIRST_STAGE
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.device import Precision


class Config(ExecutionConfig):
    """Rank one candidate set with several scorers; say how good, how fast and how large each is."""

    candidates: Location = Field(description="Parquet candidates: a file, a folder, a glob or a URI")
    qrels: Location = Field(description="judgements: TREC (query_id 0 doc_id grade), BEIR TSV, JSONL or Parquet")
    output: Location = Field(
        description="folder or URI for rankings, comparison.json and the picture; goes on where it was"
    )
    scorers: tuple[ScorerEntry, ...] = Field(
        (), description="[{name, scorer: {kind, model, ...}}] or [{name, stages: [...]}]"
    )
    models: tuple[Location, ...] = Field(
        (), description="short for cross-encoders: a,b,c; named by the ends of their paths"
    )
    precision: Precision | None = Field(None, description="with `models`: fp32, bf16, fp16 or auto")
    max_length: int | None = Field(None, description="with `models`: tokens that each reads at a time")
    baseline: str | None = Field(
        None, description=f"whom to compare with, or `{FIRST_STAGE}`; default: the first scorer"
    )
    measures: str = Field("MRR@10 nDCG@10", description="ir-measures names")
    only_ranked: bool = Field(False, description="leave out judged queries without candidates, else they are 0")
    cache: Location | None = Field(None, description="score cache for the rankings; never used for timing")
    columns: Columns = Columns()
    cpus: float = Field(1, gt=0, description="CPUs, and so torch threads, of an actor; a stage can say otherwise")
    gpus: float | None = Field(None, ge=0, description="GPUs of an actor; default: 1 where the cluster has GPUs")
    timing: bool = Field(True, description="measure latency and pairs/s too; --no-timing leaves it out")
    timing_queries: int = Field(10, ge=1, description="queries of the timing sample")
    timing_depth: int = Field(100, ge=1, description="best first-stage candidates of each of them")
    rounds: int = Field(3, ge=1, description="times that each scorer goes over the sample, in turn with the others")
    price_per_hour: float | None = Field(None, gt=0, description="of what one actor runs on; gives the cost of pairs")
    seed: int = Field(0, ge=0, description="of the sample, the bootstrap and the randomisation test")

    @model_validator(mode="before")
    @classmethod
    def _models_are_scorers(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        models = values.get("models")
        given = {name: values[name] for name in ("precision", "max_length") if values.get(name) is not None}
        if not models:
            if given:
                raise ValueError(f"`{next(iter(given))}` goes with `models`; each of `scorers` says its own")
            return values
        if values.get("scorers"):
            raise ValueError("give `models` or `scorers`, not both")
        split = models.split(",") if isinstance(models, str) else list(models)
        return values | {"scorers": entries_of_models([name for model in split if (name := str(model).strip())], given)}

    @model_validator(mode="after")
    def _names_tell_apart(self) -> "Config":
        if not self.scorers:
            raise ValueError("there is nothing to compare: give `scorers` or `models`")
        names = [entry.name for entry in self.scorers]
        if twice := sorted({name for name in names if [other.lower() for other in names].count(name.lower()) > 1}):
            raise ValueError(f"scorers: {', '.join(twice)}: each needs a name of its own, not only by its case")
        if self.baseline is not None and self.baseline not in [FIRST_STAGE, *names]:
            raise ValueError(f"baseline: {self.baseline!r} is none of {', '.join([FIRST_STAGE, *names])}")
        return self
