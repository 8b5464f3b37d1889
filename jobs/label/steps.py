"""What labelling does to a unit: each teacher's scores beside the others', their mean, and the commit."""

import io
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.records import read_record
from ray_rerank.cluster.run_folder import RunFolder, commit, commit_failure, read_errors
from ray_rerank.cluster.steps import Step
from ray_rerank.cluster.storage import read_bytes
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.scoring.steps import LoadStage, keep_scores
from ray_rerank.operators.arrow import list_sizes
from ray_rerank.operators.candidates.schema import REJECT_SCHEMA
from ray_rerank.operators.ranking.labels import Moments, as_written, keep_teacher, moments, set_scores, unlabelled
from ray_rerank.operators.ranking.payload import UnitPayload


class LoadTeacher(LoadStage):
    """Loads one teacher as a stage, and keeps its scores apart."""

    __slots__ = ()

    def __call__(self) -> Step:
        score = LoadStage.__call__(self)

        def teach(unit: Unit, payload: bytes) -> bytes:
            parcel = UnitPayload.unpack(score(unit, payload))
            kept = keep_teacher(parcel.candidates, self.number)
            return UnitPayload(kept, parcel.faults, parcel.works, parcel.pairs, parcel.computed, parcel.notes).pack()

        return teach


@dataclass(frozen=True, slots=True)
class LabelUnit:
    """Writes a unit's new scores, its labels and its faults, or why there is none.

    `standardise` leaves `score` and `rank` null, and the moments in the marker: `StandardiseUnit` goes on from there.
    """

    output: RunFolder
    weights: tuple[float, ...]
    standardise: bool
    include_text: bool
    cache: str | None = None

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        if payload is None or failure is not None:
            return commit_failure(self.output, unit, failure or "nothing arrived")
        parcel = UnitPayload.unpack(payload)
        teachers = len(self.weights)
        facts = {
            "pairs": parcel.pairs,
            "works": [work.as_dict() for work in parcel.works],
            "notes": [*parcel.notes, *keep_scores(self.cache, parcel)],
            "queries": parcel.candidates.num_rows,
            "ranked": int(list_sizes(parcel.candidates["candidates"]).sum()),
        }
        rows = unlabelled(parcel.candidates, teachers)
        if self.standardise:
            facts |= {"provisional": True, "moments": [asdict(own) for own in moments(rows, teachers)]}
        else:
            rows = set_scores(rows, self.weights)
        rows = as_written(rows, self.include_text, own_scores=self.standardise or teachers > 1)
        return commit(self.output, unit, rows, parcel.faults, facts)


@dataclass(frozen=True, slots=True)
class ReadPart:
    """A unit's labels as they are written."""

    output: RunFolder

    def __call__(self, unit: Unit) -> bytes:
        data = read_bytes(self.output.part(unit))
        if data is None:
            raise StorageError(f"{self.output.part(unit)}: was there a moment ago")
        return data


@dataclass(frozen=True, slots=True)
class StandardiseUnit:
    """Sets `score` and `rank` from the teachers' own scores and their moments over all units; done again, it leaves
    the same rows, also where the moments were others before."""

    output: RunFolder
    weights: tuple[float, ...]
    scales: tuple[Moments, ...]

    def __call__(self, unit: Unit, payload: bytes | None, failure: str | None) -> dict[str, Any]:
        marker = read_record(self.output.marker(unit), Scored)
        if payload is None or failure is not None or marker is None:
            return commit_failure(self.output, unit, failure or "its marker went away")
        rows = set_scores(pq.read_table(io.BytesIO(payload)), self.weights, self.scales)
        written = read_errors(self.output, unit, marker)
        faults = pq.read_table(io.BytesIO(written)) if written else pa.Table.from_pylist([], schema=REJECT_SCHEMA)
        scales = [asdict(scale) for scale in self.scales]
        return commit(self.output, unit, rows, faults, marker.model_dump() | {"provisional": False, "scales": scales})
