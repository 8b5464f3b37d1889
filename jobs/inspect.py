"""Say what an output folder holds: what is done, what is left, errors. Starts no Ray."""

from dataclasses import asdict
from typing import Any, ClassVar

from pydantic import Field

from ray_rerank.cluster.run_folder import RunFolder
from ray_rerank.cluster.units import load_plan
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.files import STDOUT, JsonFile, check_output_files, write_json
from ray_rerank.jobs.outputs.run_state import print_state, run_state
from ray_rerank.jobs.outputs.verification import Damage, damages
from ray_rerank.operators.location import Location


class Config(JobConfig):
    """Look at the output of `ray-rerank rerank` or `ray-rerank label`."""

    positional: ClassVar[tuple[str, ...]] = ("output",)

    output: Location = Field(description="the folder or URI")
    verify: bool = Field(False, description="read all that is done, and compare it with what was written")
    json_file: JsonFile = Field(
        None,
        alias="json",
        description="write it as JSON to this file; without a value, to standard output instead of text",
    )


def run(config: Config) -> int:
    """Print the state of a run.

    Raises:
        StorageError: no run has begun there.
    """
    check_output_files(config)
    output = RunFolder(config.output)
    state = run_state(output)
    damaged = damages(output, load_plan(output.internal("plan.parquet"))) if config.verify else []
    if config.json_file:
        more: dict[str, Any] = {"damaged": list(map(asdict, damaged))} if config.verify else {}
        write_json(config.json_file, state.as_dict() | more)
    if config.json_file != STDOUT:
        print_state(state, config.output)
        if config.verify:
            _print_damaged(state.done, damaged)
    whole = state.left == 0 and not state.faults and not damaged
    return ExitCode.DONE if whole else ExitCode.DONE_WITH_ERRORS


def _print_damaged(done: int, damaged: list[Damage]) -> None:
    for one in damaged:
        print(f"  damaged: {one.file}: {one.reason}")
    if any(one.unit for one in damaged):
        print("  the command that wrote this does damaged units again with --verify")
    elif not damaged:
        print(f"  {done} units were read: all is as it was written")
