"""Arguments and a job file into a config."""

import json
import re
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from ray_rerank.cluster.records import brief
from ray_rerank.jobs.cli.job_file import JobFile, read_job_file
from ray_rerank.jobs.config import JobConfig, fault_of_value
from ray_rerank.jobs.outputs.files import STDOUT
from ray_rerank.operators.errors import ConfigError

_FAULTS = 10  # of a config that are told


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
    _give_json_its_value(config, arguments)
    try:
        source: CliSettingsSource[Any] = CliSettingsSource(config, cli_prog_name=program, cli_exit_on_error=False)
        return CliApp.run(config, cli_args=arguments, cli_settings_source=source, **values)
    except ValidationError as error:
        faults = error.errors(include_url=False)
        told = [_told(fault["loc"], fault["msg"], fault["input"], file, flags) for fault in faults[:_FAULTS]]
        told += [f"and {len(faults) - _FAULTS} more"] if len(faults) > _FAULTS else []
        raise ConfigError("the config is refused:\n  " + "\n  ".join(told)) from None
    except SettingsError as error:
        dashed = "; what begins with a dash and is no flag is given as --FLAG=VALUE, or last, behind `--`"
        hint = dashed if any(one[:1] == "-" != one[1:2] for one in arguments) else ""
        raise ConfigError(f"{_without_values(str(error))}; `{program} --help` lists the flags{hint}") from None


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
        raise ConfigError(
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
            raise ConfigError(f"{flag}: holds values in one another, too deep") from None
        except ValueError as error:
            if _is_texts(config.model_fields[name].annotation):  # `--models [a,b]`
                continue
            raise ConfigError(f"{flag}: cannot be read as JSON: {brief(str(error))}") from None
        if fault := fault_of_value(given):
            raise ConfigError(f"{flag}: {fault}")
        found[flag[2:].replace("-", "_")] = given
        at = arguments.index(flag)
        del arguments[at : at + 2]
    return found


def _give_json_its_value(config: type[JobConfig], arguments: list[str]) -> None:
    """`--json` with nothing behind it is standard output."""
    if not any(field.alias == "json" for field in config.model_fields.values()):
        return
    for at in reversed(range(len(arguments))):
        behind = arguments[at + 1] if at + 1 < len(arguments) else "--"
        if arguments[at] == "--json" and behind.startswith("--"):
            arguments.insert(at + 1, STDOUT)


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
