"""The rankings of a comparison: the first stage's own, and one rerank run for each scorer."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.cluster.run_folder import RunFolder
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs import rerank
from ray_rerank.jobs.errors import EXPECTED
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.rankings import load_rankings
from ray_rerank.jobs.outputs.run_state import run_state
from ray_rerank.jobs.scoring.input import CandidateInput
from ray_rerank.jobs.scoring.steps import ReadUnit
from ray_rerank.operators.arrow import bounds, list_sizes, one_array
from ray_rerank.operators.candidates.schema import Columns
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.trec_runs import RankedList, Run
from ray_rerank.operators.ranking.payload import UnitPayload


@dataclass(frozen=True, slots=True)
class FirstStage:
    """The candidates as they came.

    Attributes:
        run: their first-stage order, of all queries.
        sample: queries drawn at random with their best candidates, as `read_candidates` gives them.
    """

    run: Run
    sample: pa.Table


@dataclass(frozen=True, slots=True)
class ScorerRanking:
    """What a scorer made of the candidates.

    Attributes:
        run: None where there is no ranking.
        error: why not.
        notes: what is not in it.
    """

    run: Run | None
    error: str | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What is drawn for the timing.

    Attributes:
        queries: how many, each as likely as any other.
        depth: how many candidates of each to keep.
        seed: of the draw.
    """

    queries: int
    depth: int
    seed: int


def read_first_stage(given: CandidateInput, units: list[Unit], columns: Columns, size: SampleSize) -> FirstStage:
    """Read all candidates once, a unit at a time: the texts of no more than the sample are kept.

    Raises:
        StorageError: a file cannot be read.
        InputError: there is no query that can be ranked.
    """
    read = ReadUnit(columns, (), given.columns, given.repeated)
    draw = np.random.default_rng(size.seed)
    run: Run = {}
    sample: pa.Table | None = None
    keys = np.zeros(0)
    for unit in units:
        table = UnitPayload.unpack(read(unit)).candidates
        candidates = one_array(table["candidates"])
        ids = candidates.flatten().field("doc_id").to_pylist()
        ranges = pairwise(bounds(list_sizes(candidates)).tolist())
        for query_id, (start, stop) in zip(table["query_id"].to_pylist(), ranges, strict=True):
            nothing = np.full(stop - start, np.nan)
            run[query_id] = RankedList(ids[start:stop], nothing, np.zeros(stop - start, dtype=np.int64))
        table = table.set_column(
            table.schema.get_field_index("candidates"), "candidates", pc.list_slice(table["candidates"], 0, size.depth)
        )
        keys = np.concatenate([keys, draw.random(table.num_rows)])
        sample = table if sample is None else pa.concat_tables([sample, table])
        kept = np.sort(np.argsort(keys, kind="stable")[: size.queries])
        keys, sample = keys[kept], sample.take(kept)
    if sample is None or not run:
        raise InputError("the candidates hold no query that can be ranked; `ray-rerank rerank` lists what is wrong")
    return FirstStage(run, sample)


def rank(config: rerank.Config) -> ScorerRanking:
    """Run, or go on with, one scorer's rerank job. A fault of the scorer's is its own: the others go on."""
    try:
        code = rerank.run(config)
        state = run_state(RunFolder(config.output))
        notes = []
        if state.faults:
            reason = max(state.reasons, key=lambda known: state.reasons[known])
            notes.append(f"{state.faults} lines in its error tables, most of all: {reason}")
        if state.left:
            why = f": {state.failed[0]['reason']}" if state.failed else ""
            notes.append(f"{state.left} of {state.units} units could not be ranked{why}")
        if not state.queries:
            return ScorerRanking(None, "; ".join(notes) or "nothing was ranked")
        if code != ExitCode.DONE and not notes:
            notes.append("not all input was ranked")
        return ScorerRanking(load_rankings(config.output).run, None, tuple(notes))
    except EXPECTED as error:
        return ScorerRanking(None, str(error))
