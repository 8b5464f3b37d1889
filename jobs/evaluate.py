"""`ray-rerank evaluate`: measure a ranking or a run against judgements, beside its first stage."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import load_qrels
from ray_rerank.jobs.inputs.rankings import counted_queries, load_rankings
from ray_rerank.jobs.outputs.files import JsonFile, OutputFile, check_output_files, write_file, write_json
from ray_rerank.jobs.outputs.finished import check_begun, why_missing
from ray_rerank.jobs.outputs.skipped import print_left_out
from ray_rerank.operators.candidates.self_pairs import chosen, own_documents, told, without_own
from ray_rerank.operators.evaluation.intervals import RESAMPLES, paired_interval
from ray_rerank.operators.evaluation.measures import (
    Evaluation,
    Measured,
    NamedMeasure,
    default_measures,
    parse_measures,
)
from ray_rerank.operators.formats.line_ids import fits_tabs
from ray_rerank.operators.formats.qrels import Grades
from ray_rerank.operators.formats.rankings import Rankings
from ray_rerank.operators.formats.trec_runs import Run
from ray_rerank.operators.location import Location
from ray_rerank.operators.rejects import Reason, Reject, RejectLog, RejectSink

SHOWN = 5  # largest gains and losses


class Config(JobConfig):
    """Measure a ranking against judgements, beside the first stage where it is known."""

    ranking: Location = Field(description="output folder of rerank, candidate shards, or a run")
    qrels: Location = Field(description="judgements: TREC (query_id 0 doc_id grade), BEIR TSV, or Parquet")
    measures: str | None = Field(
        None, description='ir-measures names: "nDCG@10 RR(rel=2)@10"; left open: nDCG@10 RR@10 R@100 P@10'
    )
    first_stage: Location | None = Field(
        None,
        description="run or candidate shards to compare with; left open: the ranking's first_stage_rank",
    )
    drop_self: Literal["id", "off"] | None = Field(
        None,
        description="leave out documents with the query's id, as BEIR does; left open: for ArguAna, Quora, CQADupStack",
    )
    only_ranked: bool = Field(False, description="leave out judged queries that the ranking lacks, else they are 0")
    json_file: JsonFile = Field(
        None, alias="json", description="write the means as JSON to this file; without a value, to standard output"
    )
    per_query: OutputFile | None = Field(None, description="write every query's values to this TSV file")
    seed: int = Field(0, ge=0, description="of the bootstrap")


def run(config: Config) -> int:
    """Read, measure, print, and write what was asked for."""
    check_output_files(config)
    asked = None if config.measures is None else parse_measures(config.measures)
    qrels = load_qrels(config.qrels)
    measures = asked or parse_measures(default_measures(qrels.grades))
    missing = [note for uri in (config.ranking, config.first_stage) if uri for note in check_begun(uri)]
    rankings = load_rankings(config.ranking)
    before_it = None if config.first_stage is None else load_rankings(config.first_stage)
    first_stage = rankings.first_stage if before_it is None else before_it.run
    rule = chosen(config.drop_self, config.ranking, config.qrels)
    own = own_documents(dict.fromkeys([*rankings.run, *first_stage], ""), rule, ())
    (ranked, dropped), (first_stage, _) = without_own(rankings.run, own), without_own(first_stage, own)
    counted = counted_queries(qrels, rankings.run, config.ranking, config.only_ranked)
    evaluation = Evaluation(counted, measures)
    found = BeforeAndAfter(measures, evaluation.of(first_stage) if first_stage else None, evaluation.of(ranked))
    metrics, rejects = summarise(found, config.seed), RejectLog()
    if config.json_file is not None:
        write_json(config.json_file, metrics)
    if config.per_query is not None:
        table = per_query_table(found, config.per_query, rejects)
        write_file(config.per_query, table.encode())
    notes = [*missing, *rankings.notes, *(before_it.notes if before_it else ())]
    notes += _notes(config, qrels.grades, rankings, first_stage)
    notes += [] if rule == "off" else [told(dropped, rule, config.drop_self)]
    _print(config, found, metrics, notes)
    print_left_out(rejects)
    return ExitCode.DONE_WITH_ERRORS if rejects.counts or missing else ExitCode.DONE


@dataclass(frozen=True, slots=True)
class BeforeAndAfter:
    """The figures of a ranking, and of its first stage where that is known."""

    measures: tuple[NamedMeasure, ...]
    before: Measured | None
    after: Measured


def summarise(found: BeforeAndAfter, seed: int) -> dict[str, dict[str, Any]]:
    """What metrics.json holds: by measure name the figure re-ranked and of the first stage, their difference,
    and its 95 % interval, which a sum such as NumRet has not.
    """
    metrics: dict[str, dict[str, Any]] = {}
    before, after = found.before, found.after
    for row, named in enumerate(found.measures):
        figures: dict[str, Any] = {"reranked": after.means[named.name]}
        figures |= {"first_stage": None, "difference": None, "interval": None}
        if before is not None:
            figures["first_stage"] = before.means[named.name]
            figures["difference"] = figures["reranked"] - figures["first_stage"]
            if named.is_mean:
                figures["interval"] = list(paired_interval(before.values[row], after.values[row], seed))
        metrics[named.name] = figures
    return metrics


def per_query_table(found: BeforeAndAfter, name: str, rejects: RejectSink) -> str:
    """TSV of query_id, measure, first_stage, reranked, difference; one line a query and measure.

    Args:
        name: what messages call the table.
        rejects: receives each query whose id such a line cannot hold.
    """
    before, after = found.before, found.after
    lines = ["query_id\tmeasure\tfirst_stage\treranked\tdifference"]
    for column, query_id in enumerate(after.query_ids):
        if not fits_tabs(query_id):
            rejects.add(Reject(name, 0, Reason.UNFIT_ID, f"query_id {query_id!r}", query_id))
            continue
        for row, named in enumerate(found.measures):
            value = after.values[row, column]
            if before is None:
                lines.append(f"{query_id}\t{named.name}\t\t{value:.6f}\t")
            else:
                own = before.values[row, column]
                lines.append(f"{query_id}\t{named.name}\t{own:.6f}\t{value:.6f}\t{value - own:.6f}")
    return "\n".join(lines) + "\n"


def _notes(config: Config, grades: Grades, rankings: Rankings, first_stage: Run) -> list[str]:
    notes = []
    if missing := {query_id for query_id in grades if query_id not in rankings.run}:
        why = why_missing(config.ranking, missing)
        told = f" ({'; '.join(f'{count}: {reason}' for reason, count in why.most_common())})" if why else ""
        counted = "are left out" if config.only_ranked else "count as 0; --only-ranked leaves them out"
        notes.append(f"{len(missing)} of {len(grades)} judged queries are not in the ranking{told} and {counted}")
    if unjudged := sum(query_id not in grades for query_id in rankings.run):
        notes.append(f"{unjudged} of {len(rankings.run)} queries of the ranking have no judgements")
    if not first_stage:
        notes.append(f"{config.ranking} does not tell its first stage; --first-stage FILE compares with one")
    elif config.first_stage is None and rankings.incomplete:
        notes.append(
            f"in {rankings.incomplete} queries the ranking lacks documents that the first stage had, and "
            "both are measured without them; --first-stage FILE compares with all of it"
        )
    return notes


def _print(config: Config, found: BeforeAndAfter, metrics: dict[str, dict[str, Any]], notes: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    before, after = found.before, found.after
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    console.width = max(console.width, 120)  # a table that a narrow window breaks still tells more than one cut off
    console.print(f"{config.ranking}, {len(after.query_ids)} queries", markup=False)
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("measure", no_wrap=True)
    compared = ("first\nstage", "re-ranked", "difference", "95 % interval", "won/tied/\nlost")
    for name in ("mean",) if before is None else compared:
        table.add_column(name, justify="right", no_wrap=True)
    for row, named in enumerate(found.measures):
        figures = metrics[named.name]
        cells = [f"{figures['reranked']:.4f}"]
        if before is not None:
            gain = after.values[row] - before.values[row]
            won, lost = int((gain > 1e-9).sum()), int((gain < -1e-9).sum())
            interval = figures["interval"]
            cells = [f"{figures['first_stage']:.4f}", *cells, f"{figures['difference']:+.4f}"]
            cells.append(f"{interval[0]:+.4f} to {interval[1]:+.4f}" if interval else "")
            cells.append(f"{won}/{len(gain) - won - lost}/{lost}")
        table.add_row(Text(named.name), *cells)
    console.print(table)
    if before is not None:
        console.print(f"interval: paired bootstrap over queries, {RESAMPLES:,} resamples, seed {config.seed}")
        _print_extremes(console, found.measures[0].name, before, after)
    for note in notes:
        console.print(f"note: {note}", markup=False)


def _print_extremes(console: Any, name: str, before: Measured, after: Measured) -> None:
    """The queries that the first measure moved most, either way."""
    gain = after.values[0] - before.values[0]
    order = np.argsort(-gain, kind="stable")
    for title, indices in (("gains", order[:SHOWN]), ("losses", order[::-1][:SHOWN])):
        sign = 1 if title == "gains" else -1
        moved = [index for index in indices.tolist() if sign * gain[index] > 1e-9]
        if moved:
            console.print(f"largest {title} in {name}:")
        for index in moved:
            console.print(
                f"  {after.query_ids[index]}  {before.values[0, index]:.4f} -> {after.values[0, index]:.4f}"
                f"  {gain[index]:+.4f}",
                markup=False,
            )
