"""The output of a run: whether it may be written, and held for as long as the run is at work.

A dry run checks all of it and leaves no trace.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ray_rerank.cluster.errors import OutputConflictError, StorageError, UnavailableError
from ray_rerank.cluster.lease import check_free, held
from ray_rerank.cluster.run_folder import (
    Manifest,
    RunFolder,
    begin,
    done_markers,
    has_begun,
    read_manifest,
    visible_parquet,
)
from ray_rerank.cluster.storage import fingerprint, place
from ray_rerank.cluster.units import Unit, load_plan
from ray_rerank.jobs.outputs.checks import check_output
from ray_rerank.jobs.outputs.files import named_files
from ray_rerank.jobs.outputs.markers import Scored
from ray_rerank.jobs.outputs.record import (
    FolderRecord,
    check_known,
    differences,
    files_to_replace,
    may_resume,
    remove_files,
)
from ray_rerank.jobs.scoring.config import ScoringConfig

_JOBS = {"stages": "rerank", "teachers": "label", "texts": "mine"}
"""Which job a run's identity is of, by a field that only that job's has."""


@dataclass(frozen=True, slots=True)
class RunClaim:
    """A run that is about to write an output.

    Attributes:
        identity: all that decides what the output holds, but for the units.
        overwrite: whether an earlier run's files may be replaced.
        besides: names of other files that the run writes into the output.
    """

    job: str
    output: RunFolder
    identity: dict[str, Any]
    units: list[Unit]
    overwrite: bool = False
    besides: Sequence[str] = ()


@contextmanager
def claimed(
    config: ScoringConfig, output: RunFolder, identity: dict[str, Any], units: list[Unit], job: str
) -> Iterator[bool]:
    """Hold the output for a with-block; what refuses a run refuses its dry run alike.

    Yields:
        Whether the output's done units are this run's.

    Raises:
        InputError, StorageError: output or cache cannot be used.
        OutputBusyError: another process is at work there.
        OutputConflictError: the output is of another run.
    """
    check_output(config.output, config.cache, leave_no_trace=config.dry_run)
    claim = RunClaim(job, output, identity, units, config.overwrite, _files_in(output, config))
    if config.dry_run:
        check_free(output.uri)
        yield check_claim(claim)[0]
        return
    with held(output.uri, job):
        yield claim_run(claim)


def claim_run(claim: RunClaim) -> bool:
    """Make a folder the output of a run, or resume the run if it is already; returns whether it is.

    Raises:
        OutputConflictError: it holds the output of another run or job, or other files.
        StorageError: it cannot be read or written.
    """
    resumes, replaced = check_claim(claim)
    if not resumes:
        remove_files(claim.output.uri, replaced)
        begin(claim.output, claim.identity, claim.units)
    return resumes


def check_claim(claim: RunClaim) -> tuple[bool, list[str]]:
    """Whether a folder is the output of this run already; if not, the files that have to go before it can be.

    A run that left nothing yet gives way to any other.

    Raises:
        OutputConflictError, StorageError: as `claim_run` does.
    """
    output, overwrite = claim.output, claim.overwrite
    manifest, damaged = _load_manifest(output, overwrite)
    if manifest is None:
        if damaged:
            return False, files_to_replace(output.uri, claim.job, claim.besides)
        check_known(output.uri, claim.job, [path.rpartition("/")[2] for path in visible_parquet(output)])
        return False, []
    now = _record(claim.job, json.loads(json.dumps(claim.identity)), claim.units)
    before = _record_of(claim, manifest, now)
    if differences(before, now) and not has_begun(output):
        return False, []
    if may_resume(output.uri, before, now, overwrite):
        return True, []
    return False, files_to_replace(output.uri, claim.job, claim.besides)


def _load_manifest(output: RunFolder, overwrite: bool) -> tuple[Manifest | None, bool]:
    """The manifest, and whether it is there and damaged, which is an error unless it may be replaced."""
    try:
        return read_manifest(output), False
    except OutputConflictError:
        if not overwrite:
            raise
        return None, True


def _record_of(claim: RunClaim, manifest: Manifest, now: FolderRecord) -> FolderRecord:
    output = claim.output
    job = next((job for key, job in _JOBS.items() if key in manifest.identity), now.job)
    try:
        units = load_plan(output.internal("plan.parquet"))
    except UnavailableError:
        raise
    except StorageError:
        if manifest.identity == now.settings and not claim.overwrite:
            raise
        units = []
    # Only what is overwritten has to be finished; it takes a listing to know.
    markers = done_markers(output, Scored) if claim.overwrite else {}
    finished = all(unit.name in markers and not markers[unit.name].provisional for unit in units)
    return _record(job, manifest.identity, units, finished)


def _record(job: str, identity: dict[str, Any], units: list[Unit], finished: bool = False) -> FolderRecord:
    versions: dict[str, list[str]] = defaultdict(list)
    for unit in units:
        versions[unit.file].append(unit.name.partition("-")[2])
    ranges = [[unit.name, unit.file, unit.start, unit.stop] for unit in units]
    digest = fingerprint(json.dumps([identity, ranges], sort_keys=True).encode())
    return FolderRecord(job, identity, {path: " ".join(own) for path, own in versions.items()}, digest, finished)


def _files_in(output: RunFolder, config: ScoringConfig) -> list[str]:
    """The names of single files that the job writes into its output."""
    top = place(output.uri).rstrip("/") + "/"
    paths = map(place, named_files(config)[0].values())
    return [path.removeprefix(top) for path in paths if path.startswith(top)]
