"""`ray-rerank compare`: quality, speed and size of several scorers on one candidate set, side by side."""

from typing import Any

from pydantic import Field, model_validator

from ray_rerank.cluster.attempts import Limits
from ray_rerank.cluster.lease import held
from ray_rerank.cluster.session import session
from ray_rerank.cluster.storage.files import absolute, join, write_whole
from ray_rerank.jobs import rerank
from ray_rerank.jobs.cli.command import ExitCode
from ray_rerank.jobs.compare.entries import FIRST_STAGE, Entry, entries_of_models
from ray_rerank.jobs.compare.picture import draw
from ray_rerank.jobs.compare.rankings import FirstStage, Ranked, rank, read_first_stage
from ray_rerank.jobs.compare.result import Tried, comparison, ranking_of
from ray_rerank.jobs.compare.table import print_comparison
from ray_rerank.jobs.compare.timing import time_pipelines
from ray_rerank.jobs.config import JobConfig, RayAddress
from ray_rerank.jobs.inputs.collections import load_qrels
from ray_rerank.jobs.inputs.rankings import counted_queries
from ray_rerank.jobs.outputs.checks import check_apart, check_output
from ray_rerank.jobs.scoring.plan import Asked, Input, default_unit_pairs, plan_units, read_input
from ray_rerank.operators.candidates.read import Columns
from ray_rerank.operators.comparison.schema import Comparison
from ray_rerank.operators.errors import InputError, RerankError
from ray_rerank.operators.evaluation.measures import NamedMeasure, parse_measures
from ray_rerank.operators.formats.qrels import Qrels
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.device import Precision


class Config(JobConfig):
    """Rank one candidate set with several scorers; say how good, how fast and how large each is."""

    candidates: Location = Field(description="Parquet candidates: a file, a folder, a glob or a URI")
    qrels: Location = Field(description="judgements: TREC (query_id 0 doc_id grade), BEIR TSV, JSONL or Parquet")
    output: Location = Field(
        description="folder or URI for rankings, comparison.json and the picture; goes on where it was"
    )
    scorers: tuple[Entry, ...] = Field(
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
    limits: Limits = Field(Limits(), description="attempts, and seconds, that each step of a unit has")
    address: RayAddress | None = Field(
        None, description="Ray cluster to run on; default: Ray is started on this machine"
    )

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


def run(config: Config) -> int:
    """Rank, measure, time, print, and write comparison.json and the picture.

    Raises:
        RerankError, ClusterError: something is wrong with what all scorers share, or no scorer can be used.
    """
    measures = parse_measures(config.measures)
    qrels = load_qrels(config.qrels)
    check_apart(output=config.output, candidates=config.candidates, cache=config.cache)
    given = read_input(Asked(config.candidates, config.columns))
    check_output(config.output, config.cache)
    with held(config.output, "compare"):
        return _compare(config, measures, qrels, given)


def _compare(config: Config, measures: tuple[NamedMeasure, ...], qrels: Qrels, given: Input) -> int:
    tried = {entry.name: Tried(entry, entry.pipeline(config.cpus, config.gpus)) for entry in config.scorers}
    _find_unusable(tried)
    first = _first_stage(config, given)
    counted = counted_queries(qrels, first.run, config.only_ranked, config.candidates, config.qrels)
    hardware = _rank_and_time(config, tried, first)
    found = comparison(config, measures, counted, first, tried, hardware)
    write_whole(join(absolute(config.output), "comparison.json"), (found.model_dump_json(indent=2) + "\n").encode())
    print_comparison(found)
    print(f"\nwritten: {join(config.output, 'comparison.json')}{_picture(config, found)}")
    whole = all(one.error is None and not one.notes for one in found.scorers)
    return ExitCode.DONE if whole else ExitCode.DONE_WITH_ERRORS


def _find_unusable(tried: dict[str, Tried]) -> None:
    """Note what can be known to be wrong with a scorer before any work starts.

    Raises:
        InputError: something is wrong with every one.
    """
    wrong = []
    for name, one in tried.items():
        try:
            for stage in one.stages:
                stage.identity()
        except RerankError as error:
            one.ranked = Ranked(None, str(error))
            wrong.append(f"{name}: {error}")
    if len(wrong) == len(tried):
        raise InputError("no scorer can be used:\n  " + "\n  ".join(wrong))
    for line in wrong:
        print(f"cannot be used, the others go on: {line}")


def _first_stage(config: Config, given: Input) -> FirstStage:
    units = plan_units(given, config.columns, default_unit_pairs(given.pairs))
    return read_first_stage(given, units, config.columns, config.timing_queries, config.timing_depth, config.seed)


def _rank_and_time(config: Config, tried: dict[str, Tried], first: FirstStage) -> tuple[str, ...]:
    """Fill in what became of each scorer; gives the hardware of the timing."""
    usable = [one for one in tried.values() if one.ranked is None]
    with session(config.address, cpus=max(rerank.local_cpus(one.stages) for one in usable)) as cluster:
        for one in usable:
            print(f"\n{one.entry.name}")
            one.ranked = rank(_rerank_config(config, one))
            if one.ranked.error:
                print(f"{one.entry.name} failed, the others go on: {one.ranked.error}")
        working = [one for one in usable if one.ranked and one.ranked.run is not None]
        pipelines = {one.entry.name: one.stages for one in working if config.timing and one.entry.timing}
        if not pipelines:
            return ()
        print(f"\ntiming {', '.join(pipelines)}: {first.sample.num_rows} queries, {config.rounds} rounds")
        timed, hardware = time_pipelines(pipelines, first.sample, config.rounds, cluster.get("GPU", 0), config.limits)
    for name, own in timed.items():
        tried[name].timed = own
    return hardware


def _rerank_config(config: Config, one: Tried) -> rerank.Config:
    return rerank.Config(
        input=config.candidates,
        output=ranking_of(config, one.entry),
        stages=one.stages,
        cache=config.cache,
        columns=config.columns,
        address=config.address,
        limits=config.limits,
    )


def _picture(config: Config, found: Comparison) -> str:
    """Write the picture in two formats; says what was written, or what is missing."""
    if found.front_measure is None:
        return " (no picture: nothing was timed)"
    drawn = draw(found, found.front_measure)
    if drawn is None:
        return " (for the picture of quality against latency: pip install 'ray-rerank[report]')"
    for form, data in drawn.items():
        write_whole(join(absolute(config.output), f"comparison.{form}"), data)
    return "".join(f", comparison.{form}" for form in drawn)
