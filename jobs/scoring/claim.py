"""The output of a run, made its own for as long as it is at work; a dry run looks at all of it and leaves no trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ray_rerank.cluster.lease import check_free, held
from ray_rerank.cluster.run_folder import Output, check_claim, claim
from ray_rerank.cluster.units import Unit
from ray_rerank.jobs.outputs.checks import check_output
from ray_rerank.jobs.scoring.config import ScoringConfig


@contextmanager
def claimed(
    config: ScoringConfig, output: Output, identity: dict[str, Any], units: list[Unit], job: str
) -> Iterator[None]:
    """Hold the output for a with-block; what refuses a run refuses its dry run alike.

    Raises:
        InputError, StorageError: output or cache cannot be used.
        OutputBusyError: another process is at work there.
        OutputConflictError: the output is of another run.
    """
    check_output(config.output, config.cache, leave_no_trace=config.dry_run)
    if config.dry_run:
        check_free(output.uri)
        check_claim(output, identity, units)
        yield
        return
    with held(output.uri, job):
        claim(output, identity, units)
        yield
