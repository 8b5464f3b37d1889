"""The three things that are done to a unit, as values that travel to Ray's workers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from cluster.output import Output, commit, commit_failure
from cluster.pipeline import Step
from cluster.units import Unit, read_rows
from operators.candidates import Columns, Origin, read_candidates
from operators.parcel import Parcel
from operators.ranking import rerank, to_ranking
from operators.work import Work

if TYPE_CHECKING:
    from jobs.rerank import Stage


@dataclass(frozen=True, slots=True)
class ReadUnit:
    """Rows of a file into candidates and faults."""

    columns: Columns
    extra: tuple[str, ...]
    needed: dict[str, list[str]]

    def __call__(self, unit: Unit) -> bytes:
        table = read_rows(unit, self.needed[unit.file])
        candidates, faults = read_candidates(table, self.columns, Origin(unit.file, unit.start), self.extra)
        pairs = int(pa.compute.sum(pa.compute.list_value_length(candidates["candidates"])).as_py() or 0)
        pairs += int(pa.compute.sum(faults["candidates"]).as_py() or 0)
        return Parcel(candidates, faults, (), pairs).pack()


@dataclass(frozen=True, slots=True)
class LoadStage:
    """Loads a stage's scorer inside its actor, and scores units with it."""

    stages: tuple[Stage, ...]
    number: int
    cpus: float

    def __call__(self) -> Step:
        scorer = self.stages[self.number - 1].scorer.load(threads=max(int(self.cpus), 1))
        depth = self.stages[self.number - 2].keep if self.number > 1 else None

        def score(unit: Unit, payload: bytes) -> bytes:
            parcel = Parcel.unpack(payload)
            work = Work()
            candidates, faults = rerank(
                parcel.candidates, scorer, self.number, depth, Origin(unit.file, unit.start), work
            )
            faults = pa.concat_tables([parcel.faults, faults])
            return Parcel(candidates, faults, (*parcel.works, work), parcel.pairs).pack()

        return score


@dataclass(frozen=True, slots=True)
class CommitUnit:
    """Writes a unit's ranking and faults, or why there is none."""

    output: Output
    include_text: bool
    extra: tuple[str, ...]

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if payload is None or failure is not None:
            return commit_failure(self.output, unit, failure or "nothing arrived")
        parcel = Parcel.unpack(payload)
        ranking = to_ranking(parcel.candidates, self.include_text, self.extra)
        ranked = int(pa.compute.sum(pa.compute.list_value_length(ranking["ranking"])).as_py() or 0)
        facts = {"pairs": parcel.pairs, "ranked": ranked, "works": [work.as_dict() for work in parcel.works]}
        return commit(self.output, unit, ranking, parcel.faults, facts)
