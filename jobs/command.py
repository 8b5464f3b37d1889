"""The command line: `ray-rerank JOB [job.yaml] [--flags]`, where flags win over the file."""

import importlib
import json
import signal
import sys
import traceback
from collections.abc import Sequence
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from cluster.errors import ClusterError, OutputBusyError
from cluster.stopping import stoppable, stopped
from jobs.config import JobConfig
from jobs.output_files import ReadEnough, printing_beside
from operators.errors import InputError, RerankError

JOBS = {
    "prepare": "turn runs, BEIR folders, TSV or a bare corpus into candidate shards",
    "rerank": "re-rank candidate shards with one or more scorers",
    "label": "teacher scores for distillation, of one scorer or several",
    "export": "teacher scores in the form that a training tool reads",
    "evaluate": "measure a ranking or a run against judgements",
    "compare": "quality, speed and size of several scorers on one candidate set",
    "cache": "look after a score cache: stats, compact, verify, export",
    "models": "the scorers to choose from, with size and published quality",
    "inspect": "say what an output folder holds: done, left, errors",
    "mine": "hard negatives: random, BM25, bi-encoder or a run, guarded by a teacher",
    "train": "train or distil a cross-encoder",
    "queries": "make training queries out of passages",
    "loop": "mine, label, train, distil and compare on one collection",
    "demo": "re-rank the starter collection with the model that ships inside",
}

_RESUMED = {"rerank", "label", "compare", "mine", "train", "loop", "demo"}  # what is done before a stop stays done


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    DONE_WITH_ERRORS = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


def execute(argv: Sequence[str]) -> int:
    """Run one job from its command line; returns the exit code, never raises for a user's fault.

    SIGTERM and SIGHUP end the job as Ctrl-C does, where it is called in the main thread. A process does one job at
    a time: one that needs Ray in a second thread meanwhile is refused. The environment is left as it was.
    """
    name = argv[0] if argv else ""
    with stoppable():
        try:
            return _run(name, list(argv[1:])) if name in JOBS else _overview(name)
        except ReadEnough:
            return ExitCode.DONE
        except (Exception, KeyboardInterrupt) as error:
            return _failed(name, error)


def _failed(name: str, error: BaseException) -> int:
    """Say what ended the job: a signal, and all that comes of it, before anything else."""
    number = stopped() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if number is not None and not isinstance(error, OutputBusyError):
        how = "stopped; the same command goes on from here" if name in _RESUMED else "stopped"
        print(f"ray-rerank {name}: {how}", file=sys.stderr)
        return ExitCode(128 + number)
    if isinstance(error, RerankError | ClusterError):
        print(f"ray-rerank {name}: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    traceback.print_exception(error)
    return ExitCode.FAILED


def _run(name: str, arguments: list[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder has been deleted; change to one that exists") from None
    module = importlib.import_module(f"jobs.{name}")
    config = parse(module.Config, arguments, program=f"ray-rerank {name}")
    with printing_beside(config):
        return int(module.run(config))


def _overview(name: str) -> int:
    """List the jobs, asked for or because there is none called so."""
    lines = [f"  ray-rerank {job:<9} {text}" for job, text in JOBS.items()]
    print("usage: ray-rerank JOB [job.yaml] [--flags]\n", *lines, sep="\n")
    print("\n`ray-rerank JOB --help` lists a job's flags.")
    if name in {"-h", "--help"}:
        return ExitCode.DONE
    if name:
        print(f"\nray-rerank: there is no job called {name!r}", file=sys.stderr)
    return ExitCode.REFUSED


def parse(config: type[JobConfig], arguments: list[str], program: str = "ray-rerank") -> Any:
    """Build a config from an optional leading YAML path and flags; flags win.

    Raises:
        InputError: the file is not YAML, or a field is unknown, missing or of the wrong type.
    """
    values: dict[str, Any] = {}
    for name, given in _without_flags(config, arguments):
        values |= read_yaml(Path(given)) if name == "yaml" else {name: given}
    values |= _json_flags(arguments)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(config, cli_prog_name=program, cli_exit_on_error=False)
        return CliApp.run(config, cli_args=arguments, cli_settings_source=source, **values)
    except ValidationError as error:
        faults = [_told(fault["loc"], fault["msg"]) for fault in error.errors()]
        raise InputError("the config is refused:\n  " + "\n  ".join(faults)) from None
    except SettingsError as error:
        dashed = "; what begins with a dash and is no flag is given as --FLAG=VALUE, or last, behind `--`"
        hint = dashed if any(one[:1] == "-" != one[1:2] for one in arguments) else ""
        raise InputError(f"{error} (`{program} --help` lists the flags{hint})") from None


def _without_flags(config: type[JobConfig], arguments: list[str]) -> list[tuple[str, str]]:
    """Take the arguments without a flag out: the first ones, and all behind `--`, whatever they begin with."""
    rest: list[str] = []
    if "--" in arguments:
        at = arguments.index("--")
        rest = arguments[at + 1 :]
        del arguments[at:]
    given: list[str] = []
    while len(given) < len(config.positional) and arguments and not arguments[0].startswith("-"):
        given.append(arguments.pop(0))
    given += rest
    if len(given) > len(config.positional):
        what = " and ".join(name.upper() for name in config.positional) or "no argument"
        raise InputError(f"{given[len(config.positional)]!r} is one argument too many: {what} can stand without a flag")
    return list(zip(config.positional, given, strict=False))


def _json_flags(arguments: list[str]) -> dict[str, Any]:
    """Take `--stages JSON` and its like out of the arguments: pydantic-settings would not undo JSON's escapes."""
    found: dict[str, Any] = {}
    for flag, value in list(pairwise(arguments)):
        if flag.startswith("--") and "=" not in flag and "." not in flag and value.startswith(("[", "{")):
            try:
                found[flag[2:].replace("-", "_")] = json.loads(value)
            except ValueError:
                continue
            at = arguments.index(flag)
            del arguments[at : at + 2]
    return found


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a job file with the safe loader."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML: {error}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"{path}: a job file is a mapping of field to value, not a {type(content).__name__}")
    return content


def _told(location: tuple[int | str, ...], message: str) -> str:
    """Where and what, in our own validators' words where it is them who speak."""
    where = ".".join(str(part) for part in location)
    return (f"{where}: " if where else "") + message.removeprefix("Value error, ")
