"""Say what an output folder holds: what is done, what is left, errors. Starts no Ray."""

import json
from typing import ClassVar

from pydantic import Field

from cluster.output import Output
from jobs.command import ExitCode
from jobs.config import JobConfig
from jobs.run_state import print_state, run_state


class Config(JobConfig):
    """Look at the output of `ray-rerank rerank` or `ray-rerank label`."""

    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: str = Field(description="the folder or URI")
    json_: bool = Field(False, alias="json", description="print JSON")


def run(config: Config) -> int:
    """Print the state of a run.

    Raises:
        StorageError: no run has begun there.
    """
    state = run_state(Output(config.output))
    if config.json_:
        print(json.dumps(state.as_dict(), indent=2))
    else:
        print_state(state, config.output)
    return ExitCode.DONE if state.left == 0 and not state.faults else ExitCode.DONE_WITH_ERRORS
