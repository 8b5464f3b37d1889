"""`ray-rerank compare`: quality, speed and size of several scorers on one candidate set, side by side."""

from ray_rerank.cluster.executors import open_executor
from ray_rerank.cluster.lease import held
from ray_rerank.cluster.storage import absolute, join, write_whole
from ray_rerank.jobs import rerank
from ray_rerank.jobs.compare.config import Config
from ray_rerank.jobs.compare.picture import draw
from ray_rerank.jobs.compare.rankings import FirstStage, SampleSize, ScorerRanking, rank, read_first_stage
from ray_rerank.jobs.compare.result import ScorerOutcome, assemble_comparison, ranking_of
from ray_rerank.jobs.compare.table import print_comparison
from ray_rerank.jobs.compare.timing import time_pipelines
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_qrels
from ray_rerank.jobs.inputs.rankings import counted_queries
from ray_rerank.jobs.outputs.checks import check_apart, check_output
from ray_rerank.jobs.scoring.input import CandidateInput, CandidateSource, read_input
from ray_rerank.jobs.scoring.plan import default_unit_pairs, local_cpus, plan_units
from ray_rerank.operators.comparison.schema import Comparison
from ray_rerank.operators.errors import InputError, UserError
from ray_rerank.operators.evaluation.measures import Evaluation, NamedMeasure, parse_measures
from ray_rerank.operators.formats.qrels import Qrels


def run(config: Config) -> int:
    """Rank, measure, time, print, and write comparison.json and the picture.

    Raises:
        UserError, ClusterError: something is wrong with what all scorers share, or no scorer can be used.
    """
    measures = parse_measures(config.measures)
    qrels = load_qrels(config.qrels)
    check_apart(output=config.output, candidates=config.candidates, cache=config.cache)
    given = read_input(CandidateSource(config.candidates, config.columns))
    check_output(config.output, config.cache)
    with held(config.output, "compare"):
        return _compare(config, measures, qrels, given)


def _compare(config: Config, measures: tuple[NamedMeasure, ...], qrels: Qrels, given: CandidateInput) -> int:
    tried = {entry.name: ScorerOutcome(entry, entry.pipeline(config.cpus, config.gpus)) for entry in config.scorers}
    _find_unusable(tried)
    first = _first_stage(config, given)
    evaluation = Evaluation(counted_queries(qrels, first.run, config.candidates, config.only_ranked), measures)
    hardware = _rank_and_time(config, tried, first)
    found = assemble_comparison(config, evaluation, first, tried, hardware)
    write_whole(join(absolute(config.output), "comparison.json"), (found.model_dump_json(indent=2) + "\n").encode())
    print_comparison(found)
    print(f"\nwritten: {join(config.output, 'comparison.json')}{_picture(config, found)}")
    whole = all(one.error is None and not one.notes for one in found.scorers)
    return ExitCode.DONE if whole else ExitCode.DONE_WITH_ERRORS


def _find_unusable(tried: dict[str, ScorerOutcome]) -> None:
    """Note what can be known to be wrong with a scorer before any work starts.

    Raises:
        InputError: something is wrong with every one.
    """
    wrong = []
    for name, one in tried.items():
        try:
            for stage in one.stages:
                stage.identity()
        except UserError as error:
            one.ranked = ScorerRanking(None, str(error))
            wrong.append(f"{name}: {error}")
    if len(wrong) == len(tried):
        raise InputError("no scorer can be used:\n  " + "\n  ".join(wrong))
    for line in wrong:
        print(f"cannot be used, the others go on: {line}")


def _first_stage(config: Config, given: CandidateInput) -> FirstStage:
    units = plan_units(given, config.columns, default_unit_pairs(given.pairs))
    size = SampleSize(config.timing_queries, config.timing_depth, config.seed)
    return read_first_stage(given, units, config.columns, size)


def _rank_and_time(config: Config, tried: dict[str, ScorerOutcome], first: FirstStage) -> tuple[str, ...]:
    """Fill in what became of each scorer; gives the hardware of the timing."""
    usable = [one for one in tried.values() if one.ranked is None]
    cpus = max(local_cpus(one.stages) for one in usable)
    with open_executor(config.executor, config.address, cpus) as executor:
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
        timed, hardware = time_pipelines(pipelines, first.sample, config.rounds, executor, config.limits)
    for name, own in timed.items():
        tried[name].timed = own
    return hardware


def _rerank_config(config: Config, one: ScorerOutcome) -> rerank.Config:
    return rerank.Config(
        input=config.candidates,
        output=ranking_of(config, one.entry),
        stages=one.stages,
        cache=config.cache,
        columns=config.columns,
        executor=config.executor,
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
