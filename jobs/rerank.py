"""Re-rank candidate shards: plan units, read them, score stage by stage, commit each once, report."""

import functools
import io
import time
from typing import Any

import pyarrow.parquet as pq
from pydantic import Field, model_validator

from ray_rerank.cluster.run_folder import RunFolder, read_parts
from ray_rerank.cluster.storage import absolute
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.files import OutputFile, check_output_files, writing_file
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.outputs.skipped import print_left_out
from ray_rerank.jobs.scoring.config import ScoringConfig, Stage, from_model
from ray_rerank.jobs.scoring.input import CandidateSource, read_input
from ray_rerank.jobs.scoring.run import ScoringRun, Steps, run_scoring
from ray_rerank.jobs.scoring.steps import CommitUnit, LoadStage, ReadUnit
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.trec_runs import run_lines
from ray_rerank.operators.ranking.fusion import WeightedFusion
from ray_rerank.operators.rejects import RejectLog


class Config(ScoringConfig):
    """Re-rank candidate shards with one scorer or a cascade of them."""

    stages: tuple[Stage, ...] = Field((), description="scorers, first to last; or give --model")
    keep: int | None = Field(None, description="with `model`: `keep` of its stage")
    pass_through: tuple[str, ...] = Field((), description="input columns to copy into the ranking")
    include_text: bool = Field(False, description="write query and passage text into the ranking")
    trec_run: OutputFile | None = Field(None, description="also write the ranking to this TREC run file")

    @model_validator(mode="before")
    @classmethod
    def _one_stage_from_model(cls, values: Any) -> Any:
        return from_model(values, "stages", "keep")

    @model_validator(mode="after")
    def _has_stages(self) -> "Config":
        if not self.stages:
            raise ValueError("there is nothing to score with: give `stages` or `model`")
        return self

    def identity(self) -> dict[str, Any]:
        """All that decides what the output holds; what else differs between two runs may."""
        return {
            "stages": [stage.identity() for stage in self.stages],
            "columns": self.columns.model_dump(),
            "pass_through": list(self.pass_through),
            "include_text": self.include_text,
        }


def run(config: Config, doing: str = "re-ranking") -> int:
    """Re-rank, or resume a re-ranking that was stopped.

    Args:
        doing: what the progress says where the ranking is part of another job.

    Raises:
        UserError, ClusterError: something is wrong that can be known before the work starts.
    """
    started = time.time()
    output, cache = RunFolder(absolute(config.output)), config.cache and absolute(config.cache)
    check_apart(output=config.output, input=config.input, cache=config.cache)
    check_output_files(config, made=config.output)
    source = CandidateSource(config.input, config.columns, config.pass_through, config.skip_bad_files)
    candidates = read_input(source)
    if isinstance(config.stages[0].fusion, WeightedFusion) and not candidates.scored:
        raise InputError(
            f"{config.input}: has no first-stage scores ({config.columns.score!r}) for stages[0].fusion to weigh; "
            "`kind: reciprocal-rank` needs none"
        )
    steps = Steps(
        ReadUnit(config.columns, config.pass_through, candidates.columns, candidates.repeated),
        lambda number, cpus: LoadStage.of(config.stages, number, cpus, cache),
        CommitUnit(output, config.include_text, config.pass_through, cache),
    )
    return run_scoring(
        ScoringRun(
            job="rerank",
            doing=doing,
            started=started,
            config=config,
            identity=config.identity(),
            candidates=candidates,
            stages=config.stages,
            steps=steps,
            finish=functools.partial(_write_trec_run, config),
        )
    )


def _write_trec_run(config: Config, output: RunFolder) -> ExitCode:
    if not config.trec_run:
        return ExitCode.DONE
    unfit = write_run_file(output, config.trec_run)
    print_left_out(unfit)
    return ExitCode.DONE_WITH_ERRORS if unfit.counts else ExitCode.DONE


def write_run_file(output: RunFolder, target: str) -> RejectLog:
    """Write the done units of an output, in input order, as `writing_file` does.

    Returns:
        The documents that a run cannot name.

    Raises:
        StorageError: a part cannot be read or is damaged, or the file cannot be written.
    """
    rejects = RejectLog()
    with writing_file(target) as sink:
        for _, part in read_parts(output, Scored):
            sink.write(run_lines(pq.read_table(io.BytesIO(part)), target, rejects).encode())
    return rejects
