"""The command line: `ray-rerank JOB [job.yaml] [--flags]`, where flags win over the file."""

import importlib
import json
import re
import signal
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from enum import IntEnum
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from ray_rerank.cluster.errors import ClusterError, ClusterLostError, OutputBusyError
from ray_rerank.cluster.records import brief
from ray_rerank.cluster.secrets import hiding_secrets
from ray_rerank.cluster.stopping import stoppable, stopped
from ray_rerank.jobs.cli.job_file import JobFile, read_job_file
from ray_rerank.jobs.config import JobConfig, fault_of_value
from ray_rerank.jobs.outputs.files import ReadEnough, check_kinds, printing_beside
from ray_rerank.operators.errors import InputError, RerankError, reason_of

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

_FAULTS = 10  # of a config that are told
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


@hiding_secrets()
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
    with suppress(Exception):
        sys.stdout.flush()  # what was said before, in front of the end
    number = stopped() or (signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if number is not None and not isinstance(error, OutputBusyError | ClusterLostError):
        how = "stopped; the same command goes on from here" if name in _RESUMED else "stopped"
        print(f"ray-rerank {name}: {how}", file=sys.stderr)
        return ExitCode(128 + number)
    if isinstance(error, RerankError | ClusterError):
        print(f"ray-rerank {name}: {error}", file=sys.stderr)
        return ExitCode.REFUSED
    if told := _of_this_machine(error):
        print(f"ray-rerank {name}: {told}", file=sys.stderr)
        return ExitCode.REFUSED
    traceback.print_exception(error)
    print(f"ray-rerank {name}: a fault of ray-rerank's own; please report it with the lines above", file=sys.stderr)
    return ExitCode.FAILED


def _of_this_machine(error: BaseException) -> str | None:
    """What the machine could not do, where no step knew how to say it: memory, disks, rights."""
    if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
        return f"there is not enough memory on this machine ({reason_of(error)}); give the job more, or smaller units"
    if isinstance(error, OSError) and error.errno:
        return f"this machine refused: {reason_of(error)}"
    return None


def _run(name: str, arguments: list[str]) -> int:
    try:
        Path.cwd()
    except FileNotFoundError:
        raise InputError("the current folder has been deleted; change to one that exists") from None
    module = importlib.import_module(f"ray_rerank.jobs.{name}")
    config = parse(module.Config, arguments, program=f"ray-rerank {name}")
    check_kinds(config)
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
    file: JobFile | None = None
    for name, given in _without_flags(config, arguments):
        if name == "yaml":
            file = read_job_file(Path(given))
            values |= file.values
        else:
            values[name] = given
    flags = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    values |= _json_flags(config, arguments)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(config, cli_prog_name=program, cli_exit_on_error=False)
        return CliApp.run(config, cli_args=arguments, cli_settings_source=source, **values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        told = [_told(fault["loc"], fault["msg"], fault["input"], file, flags) for fault in faults[:_FAULTS]]
        told += [f"and {len(faults) - _FAULTS} more"] if len(faults) > _FAULTS else []
        raise InputError("the config is refused:\n  " + "\n  ".join(told)) from None
    except SettingsError as error:
        dashed = "; what begins with a dash and is no flag is given as --FLAG=VALUE, or last, behind `--`"
        hint = dashed if any(one[:1] == "-" != one[1:2] for one in arguments) else ""
        raise InputError(f"{_without_values(str(error))}; `{program} --help` lists the flags{hint}") from None


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
        raise InputError(
            f"{brief(given[len(config.positional)])!r} is one argument too many: {what} can stand without a flag"
        )
    return list(zip(config.positional, given, strict=False))


def _without_values(told: str) -> str:
    """What is wrong with the flags. A value may be a secret that was meant for another flag, or tool."""
    told = told.removeprefix("error parsing CLI: ")
    _, unknown, words = told.partition("unrecognized arguments: ")
    if unknown:
        flags = re.findall(r"(?<!\S)--[A-Za-z][\w.-]*", words)
        return f"there is no flag {', '.join(flags)}" if flags else "an argument that belongs to no flag"
    return re.sub(r"ignored explicit argument .*", "takes no value", told, flags=re.DOTALL)


def _json_flags(config: type[JobConfig], arguments: list[str]) -> dict[str, Any]:
    """Take `--stages JSON` and its like out of the arguments: pydantic-settings would not undo JSON's escapes.

    Raises:
        InputError: what should be JSON is none, or names a field twice.
    """
    found: dict[str, Any] = {}
    fields = {(field.alias or name).replace("_", "-"): name for name, field in config.model_fields.items()}
    for flag, value in list(pairwise(arguments)):
        name = fields.get(flag[2:]) if flag.startswith("--") else None
        if name is None or not value.startswith(("[", "{")) or _is_text(config.model_fields[name].annotation):
            continue
        try:
            given = json.loads(value, object_pairs_hook=_once)
        except RecursionError:
            raise InputError(f"{flag}: holds values in one another, too deep") from None
        except ValueError as error:
            if _is_texts(config.model_fields[name].annotation):  # `--models [a,b]`
                continue
            raise InputError(f"{flag}: cannot be read as JSON: {brief(str(error))}") from None
        if fault := fault_of_value(given):
            raise InputError(f"{flag}: {fault}")
        found[flag[2:].replace("-", "_")] = given
        at = arguments.index(flag)
        del arguments[at : at + 2]
    return found


def _is_text(annotation: Any) -> bool:
    """Whether a field is a path or another text, which may begin as JSON does."""
    inner = get_args(annotation)
    return annotation is str or any(
        _is_text(own) for own in inner if get_origin(annotation) in {UnionType, Union, Annotated}
    )


def _is_texts(annotation: Any) -> bool:
    return get_origin(annotation) is tuple and _is_text(get_args(annotation)[0])


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"{brief(name)!r} is there twice")
        found[name] = value
    return found


def _told(location: tuple[int | str, ...], message: str, given: Any, file: JobFile | None, flags: list[str]) -> str:
    """Where and what, in our own validators' words where it is them who speak."""
    flag = f"--{str(location[0] if location else '').replace('_', '-')}"
    by_flag = any(own == flag or own.startswith(f"{flag}.") for own in flags)
    place = file.place(location) if file and not by_flag else ""
    where = ".".join(brief(str(part)) for part in location)
    said = "there is no value" if given is None else message.removeprefix("Value error, ")
    return place + (f"{where}: " if where else "") + brief(said)
