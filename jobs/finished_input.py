"""Whether what another job writes is whole: half of a training set would be taken for all of it without a word."""

from cluster.output import Output, read_manifest
from cluster.storage import filesystem
from jobs.prepared_folder import unfinished
from jobs.run_state import run_state
from operators.errors import InputError


def check_finished(uri: str) -> list[str]:
    """What to tell of units that failed; nothing where the files are of no job.

    Raises:
        InputError: the job that writes there has not come to its end.
    """
    system, path = filesystem(uri)
    if not system.isdir(path) or "*" in uri:
        return []
    if job := unfinished(uri):
        raise InputError(f"{uri}: `ray-rerank {job}` has not finished here; run it again first")
    output = Output(uri)
    if read_manifest(output) is None:
        return []
    state = run_state(output)
    if left := state.left - len(state.failed):
        raise InputError(f"{uri}: the job has not finished here ({left} units are left); run it again first")
    return [f"not in {uri}: {len(state.failed)} units that failed"] if state.failed else []
