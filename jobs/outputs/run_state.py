"""What an output folder holds: done, left, failed, faults; read from its books, without Ray or a model."""

import io
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.run_folder import RunFolder, done_markers, failures, read_errors, read_manifest
from ray_rerank.cluster.units import Unit, load_plan
from ray_rerank.jobs.outputs.markers import Scored, kind_of
from ray_rerank.operators.inference.stats import ScoringStats


@dataclass(frozen=True, slots=True)
class RunState:
    """Counts over a run's units.

    Attributes:
        units, done, left: of the plan; a failed unit counts as left, and so does one whose marker says `provisional`.
        queries: of the rankings written.
        pairs, ranked: candidates of the done units' input, and those of them in the ranking.
        faults: lines in the error tables, by reason in `reasons`.
        failed: units that could not be done, with the reason.
        stages: what each stage cost.
        notes: what else was told of the done units, each line once.
    """

    units: int
    done: int
    left: int
    queries: int
    pairs: int
    ranked: int
    faults: int
    reasons: dict[str, int]
    failed: list[dict[str, Any]]
    stages: list[dict[str, float]]
    notes: list[str]
    identity: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def run_state(output: RunFolder) -> RunState:
    """Read the books of a run.

    Raises:
        StorageError: no run has begun there, or its books are damaged.
    """
    manifest = read_manifest(output)
    if manifest is None:
        raise StorageError(f"{output.uri}: no run has begun here (there is no {output.internal('manifest.json')})")
    units = load_plan(output.internal("plan.parquet"))
    found = done_markers(output, kind_of(manifest))
    markers = {name: marker for name, marker in found.items() if not marker.provisional}
    done = [unit for unit in units if unit.name in markers]
    own = [markers[unit.name] for unit in done]
    left = {unit.name for unit in units} - markers.keys()
    failed = [failure.model_dump() for name, failure in failures(output).items() if name in left]
    works: list[ScoringStats] = []
    for marker in own:
        for number, work in enumerate(marker.works):
            if number == len(works):
                works.append(ScoringStats())
            works[number].add(work)
    return RunState(
        units=len(units),
        done=len(done),
        left=len(left),
        queries=sum(marker.rows if marker.queries is None else marker.queries for marker in own),
        pairs=sum(marker.pairs for marker in own),
        ranked=sum(marker.ranked for marker in own),
        faults=sum(marker.faults for marker in own),
        reasons=_reasons(output, [(unit, markers[unit.name]) for unit in done if markers[unit.name].faults]),
        failed=failed,
        stages=[work.as_dict() | {"padding_share": round(work.padding_share, 4)} for work in works],
        notes=sorted({note for marker in own for note in marker.notes}),
        identity=manifest.identity,
    )


def print_state(state: RunState, title: str, skipped: int = 0) -> None:
    """The summary that a person reads."""
    again = f" ({skipped} of them before)" if skipped else ""
    print(f"{title}: {state.done} of {state.units} units done{again}, {state.left} left")
    print(f"  {state.queries} queries with {state.ranked} of {state.pairs} candidates")
    for number, work in enumerate(state.stages, start=1):
        rate = work["pairs"] / work["seconds"] if work["seconds"] else 0
        print(
            f"  stage {number}: {work['evaluations']:.0f} evaluations for {work['pairs']:.0f} pairs, "
            f"{rate:.0f} pairs/s an actor, padding {work['padding_share']:.1%}, truncated {work['truncated']:.0f}"
        )
        if work["cached"]:
            print(
                f"    {work['cached']:.0f} scores came from the cache, which saved {work['saved_seconds']:.1f} s of "
                f"an actor's time; this took {work['seconds']:.1f} s in all"
            )
    if state.faults:
        print(f"  {state.faults} lines in the error tables (_errors/*.parquet):")
        for reason, count in sorted(state.reasons.items(), key=lambda item: -item[1]):
            print(f"    {count} x {reason}")
    for note in state.notes[:5]:
        print(f"  note: {note}")
    for failure in state.failed[:5]:
        print(f"  failed: {failure['file']} rows {failure['start']} to {failure['stop']}: {failure['reason']}")
    if len(state.failed) > 5:
        print(f"  and {len(state.failed) - 5} more failed units")
    if state.left:
        print("  the same command goes on with what is left")


def _reasons(output: RunFolder, units: list[tuple[Unit, Scored]]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for unit, marker in units:
        try:
            data = read_errors(output, unit, marker)
            if data is not None:
                counts.update(map(str, pq.read_table(io.BytesIO(data), columns=["reason"])["reason"].to_pylist()))
        except UnavailableError:
            raise
        except (StorageError, pa.ArrowException, OSError, KeyError):
            counts[f"{output.errors(unit)}: is damaged; --verify does its unit again"] += 1
    return dict(counts)
