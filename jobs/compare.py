"""`ray-rerank compare`: quality, speed and size of several scorers on one candidate set, side by side."""

from typing import Any

import numpy as np
import pyarrow.compute as pc
from pydantic import Field, model_validator

from cluster.session import session
from cluster.storage import absolute, check_writable, join, write_whole
from jobs import rerank
from jobs.command import ExitCode
from jobs.compare_entries import FIRST_STAGE, Entry, entries_of_models
from jobs.compare_picture import draw
from jobs.compare_quality import FirstStage, Ranked, rank, read_first_stage
from jobs.compare_table import print_comparison
from jobs.compare_timing import Timed, threads_of, time_pipelines
from jobs.config import JobConfig
from jobs.ranked_files import counted_queries, qrels_at
from jobs.rerank_plan import Asked, Input, default_unit_pairs, plan_units, read_input
from operators.candidates import Columns
from operators.errors import RerankError
from operators.judgements import Qrels, highest_grade
from operators.measures import NamedMeasure, evaluate, parse_measures
from operators.model_size import model_size
from operators.pareto import pareto_front
from operators.runs import Run
from operators.scorer_comparison import Comparison, Scored, Size, Timing
from operators.scorer_figures import cost, figures

PICTURED = "nDCG@10"


class Config(JobConfig):
    """Rank one candidate set with several scorers; say how good, how fast and how large each is."""

    candidates: str = Field(description="Parquet candidates: a file, a folder, a glob or a URI")
    qrels: str = Field(description="judgements: TREC (query_id 0 doc_id grade) or BEIR TSV; plain or .gz")
    output: str = Field(description="folder or URI for rankings, comparison.json and the picture; goes on where it was")
    scorers: tuple[Entry, ...] = Field(
        (), description="[{name, scorer: {kind, model, ...}}] or [{name, stages: [...]}]"
    )
    models: tuple[str, ...] = Field((), description="short for cross-encoders: a,b,c; named by the ends of their paths")
    baseline: str | None = Field(
        None, description=f"whom to compare with, or `{FIRST_STAGE}`; default: the first scorer"
    )
    measures: str = Field("MRR@10 nDCG@10", description="ir-measures names")
    only_ranked: bool = Field(False, description="leave out judged queries without candidates, else they are 0")
    cache: str | None = Field(None, description="score cache for the rankings; never used for timing")
    columns: Columns = Columns()
    cpus: float = Field(1, gt=0, description="CPUs, and so torch threads, of an actor; a stage can say otherwise")
    gpus: float | None = Field(None, ge=0, description="GPUs of an actor; default: 1 where the cluster has GPUs")
    timing: bool = Field(True, description="measure latency and pairs/s too; --no-timing leaves it out")
    timing_queries: int = Field(10, ge=1, description="queries of the timing sample")
    timing_depth: int = Field(100, ge=1, description="best first-stage candidates of each of them")
    rounds: int = Field(3, ge=1, description="times that each scorer goes over the sample, in turn with the others")
    price_per_hour: float | None = Field(None, gt=0, description="of what one actor runs on; gives the cost of pairs")
    seed: int = Field(0, ge=0, description="of the sample, the bootstrap and the randomisation test")
    address: str | None = Field(None, description="Ray cluster to run on; default: Ray is started on this machine")

    @model_validator(mode="before")
    @classmethod
    def _models_are_scorers(cls, values: Any) -> Any:
        models = values.get("models") if isinstance(values, dict) else None
        if not models:
            return values
        if values.get("scorers"):
            raise ValueError("give `models` or `scorers`, not both")
        split = models.split(",") if isinstance(models, str) else list(models)
        return values | {"scorers": entries_of_models([str(model).strip() for model in split])}

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
        RerankError, ClusterError: something is wrong with what all scorers share.
    """
    measures = parse_measures(config.measures)
    qrels = qrels_at(config.qrels)
    given = read_input(Asked(config.candidates, config.output, config.columns))
    for uri in filter(None, (config.output, config.cache)):
        check_writable(absolute(uri))
    first = _first_stage(config, given)
    counted = counted_queries(qrels, first.run, config.only_ranked, config.candidates, config.qrels)
    pipelines = {entry.name: entry.pipeline(config.cpus, config.gpus) for entry in config.scorers}
    ranked = {name: Ranked(None, error) for name, error in _unusable(pipelines).items()}
    for name, one in ranked.items():
        print(f"{name} cannot be used, the others go on: {one.error}")
    usable = {name: stages for name, stages in pipelines.items() if name not in ranked}
    timed: dict[str, Timed] = {}
    hardware: tuple[str, ...] = ()
    if usable:
        with session(config.address, cpus=max(rerank.local_cpus(stages) for stages in usable.values())) as cluster:
            for name, stages in usable.items():
                print(f"\n{name}")
                ranked[name] = rank(_rerank_config(config, name, stages))
                if ranked[name].error:
                    print(f"{name} failed, the others go on: {ranked[name].error}")
            working = {name: stages for name, stages in usable.items() if ranked[name].run is not None}
            if config.timing and working:
                print(f"\ntiming {', '.join(working)}: {first.sample.num_rows} queries, {config.rounds} rounds")
                timed, hardware = time_pipelines(working, first.sample, config.rounds, cluster.get("GPU", 0))
    found = _comparison(config, measures, counted, first, pipelines, ranked, timed, hardware)
    write_whole(join(absolute(config.output), "comparison.json"), (found.model_dump_json(indent=2) + "\n").encode())
    print_comparison(found)
    print(f"\nwritten: {join(config.output, 'comparison.json')}{_picture(config, found)}")
    whole = all(one.error is None and not one.notes for one in found.scorers)
    return ExitCode.DONE if whole else ExitCode.DONE_WITH_ERRORS


def _first_stage(config: Config, given: Input) -> FirstStage:
    units = plan_units(given, config.columns, default_unit_pairs(given.pairs))
    return read_first_stage(given, units, config.columns, config.timing_queries, config.timing_depth, config.seed)


def _unusable(pipelines: dict[str, tuple[rerank.Stage, ...]]) -> dict[str, str]:
    """What can be known to be wrong with a scorer before any work starts."""
    wrong = {}
    for name, stages in pipelines.items():
        try:
            for stage in stages:
                stage.identity()
        except RerankError as error:
            wrong[name] = str(error)
    return wrong


def _rerank_config(config: Config, name: str, stages: tuple[rerank.Stage, ...]) -> rerank.Config:
    return rerank.Config(
        input=config.candidates,
        output=_ranking(config, name),
        stages=stages,
        cache=config.cache,
        columns=config.columns,
        address=config.address,
    )


def _ranking(config: Config, name: str) -> str:
    return join(absolute(config.output), "rankings", name)


def _comparison(
    config: Config,
    measures: tuple[NamedMeasure, ...],
    counted: Qrels,
    first: FirstStage,
    pipelines: dict[str, tuple[rerank.Stage, ...]],
    ranked: dict[str, Ranked],
    timed: dict[str, Timed],
    hardware: tuple[str, ...],
) -> Comparison:
    runs: dict[str, Run] = {FIRST_STAGE: first.run}
    runs |= {name: one.run for name, one in ranked.items() if one.run is not None}
    measured = {name: evaluate(own, counted, measures) for name, own in runs.items()}
    baseline = config.baseline or config.scorers[0].name
    quality = figures(measures, measured, baseline, config.seed)
    sizes = pc.list_value_length(first.sample["candidates"]).to_numpy()
    base = timed.get(baseline)
    rows = [Scored(name=FIRST_STAGE, kind=FIRST_STAGE, stages=(), ranking=None, quality=quality[FIRST_STAGE])]
    for entry in config.scorers:
        stages, one, own = pipelines[entry.name], ranked[entry.name], timed.get(entry.name, Timed())
        rows.append(
            Scored(
                name=entry.name,
                kind=entry.kind,
                stages=tuple(stage.model_dump(mode="json", include={"scorer", "keep", "fusion"}) for stage in stages),
                ranking=_ranking(config, entry.name) if one.run is not None else None,
                error=one.error,
                notes=one.notes + ((f"not timed: {own.error}",) if own.error else ()),
                quality=quality.get(entry.name, {}),
                size=_size(stages) if one.run is not None else None,
                cost=cost(
                    own.rounds,
                    base.rounds if base and base.error is None else None,
                    int(sizes.sum()),
                    config.price_per_hour,
                    own.precision,
                    threads_of(stages),
                )
                if own.rounds and own.error is None
                else None,
            )
        )
    pictured = _pictured(measures) if any(one.cost for one in rows) else None
    front = _front(rows, pictured) if pictured else set()
    return Comparison(
        candidates=config.candidates,
        qrels=config.qrels,
        queries=len(counted),
        measures=tuple(named.name for named in measures),
        front_measure=pictured,
        baseline=baseline,
        seed=config.seed,
        timing=Timing(
            queries=first.sample.num_rows,
            documents=int(np.median(sizes)),
            pairs=int(sizes.sum()),
            rounds=config.rounds,
            hardware=hardware,
            price_per_hour=config.price_per_hour,
        )
        if timed
        else None,
        notes=_notes(config, measures, counted, first.run, runs, baseline, len(hardware)),
        scorers=tuple(one.model_copy(update={"on_front": one.name in front}) for one in rows),
    )


def _pictured(measures: tuple[NamedMeasure, ...]) -> str:
    names = [named.name for named in measures]
    return PICTURED if PICTURED in names else names[0]


def _front(rows: list[Scored], measure: str) -> set[str]:
    """The first stage costs nothing more: a scorer that is worse than it is on no front."""
    known = [one for one in rows if one.quality and (one.cost or not one.stages)]
    latencies = [one.cost.latency_ms if one.cost else 0.0 for one in known]
    return {known[at].name for at in pareto_front(latencies, [one.quality[measure].value for one in known])}


def _size(stages: tuple[rerank.Stage, ...]) -> Size:
    """Of all models of a pipeline, each counted once."""
    models = {(stage.scorer.model, getattr(stage.scorer, "revision", None)) for stage in stages}
    sizes = [model_size(*model) for model in models]
    return Size(
        megabytes=sum(size.bytes for size in sizes) / 1e6,
        million_parameters=sum(size.parameters for size in sizes) / 1e6,
    )


def _notes(
    config: Config,
    measures: tuple[NamedMeasure, ...],
    counted: Qrels,
    first: Run,
    runs: dict[str, Run],
    baseline: str,
    machines: int,
) -> tuple[str, ...]:
    notes = []
    if missing := sum(query_id not in first for query_id in counted):
        notes.append(f"{missing} of {len(counted)} judged queries have no candidates and count as 0; --only-ranked")
    if baseline not in runs:
        notes.append(f"the baseline {baseline} failed: there is nothing to compare with")
    binary = [one.name for one in measures if "RR" in str(one.measure) and "rel=" not in str(one.measure)]
    if binary and highest_grade(counted) > 1:
        notes.append(f"grades go beyond 1, and {binary[0]} takes grade 1 as relevant; RR(rel=2)@10 asks for 2")
    if machines > 1:
        notes.append("the rounds ran on different hardware: their times do not compare")
    return tuple(notes)


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
