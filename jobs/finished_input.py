"""Whether what another job writes is whole: half of a training set would be taken for all of it without a word."""

from cluster.output import Output, read_manifest
from jobs.input_files import input_folders
from jobs.prepared_folder import unfinished
from jobs.run_state import run_state
from operators.errors import InputError


def check_prepared(uri: str) -> None:
    """See that no `prepare` or `mine` is unfinished where the input lies.

    Raises:
        InputError: one is.
    """
    for folder in input_folders(uri):
        if job := unfinished(folder):
            raise InputError(f"{folder}: `ray-rerank {job}` has not finished here; run it again first")


def check_finished(uri: str) -> list[str]:
    """What to tell of units that failed; nothing where the files are of no job.

    Raises:
        InputError: a job that writes there has not come to its end.
    """
    check_prepared(uri)
    notes = []
    for folder in input_folders(uri):
        output = Output(folder)
        if read_manifest(output) is None:
            continue
        state = run_state(output)
        if left := state.left - len(state.failed):
            raise InputError(f"{folder}: the job has not finished here ({left} units are left); run it again first")
        if state.failed:
            notes.append(f"not in {folder}: {len(state.failed)} units that failed")
    return notes
