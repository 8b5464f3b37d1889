"""A job file: one mapping in plain YAML, read so that nothing in it explodes, hides, or turns into something else.

What YAML 1.1 takes for dates, for octal, sexagesimal or underscored numbers, or (`off`, `no`) for truth stays the text
that it is.
"""

import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ray_rerank.cluster.records import brief
from ray_rerank.operators.errors import ConfigError

_TRUTH = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")
_BYTES = 1 << 20
_NODES = 10_000  # values, those behind an alias counted each time
_DEPTH = 50
_TAG = "tag:yaml.org,2002:"
_PLAIN = {_TAG + kind for kind in ("str", "int", "float", "bool", "null", "seq", "map", "merge")}


@dataclass(frozen=True, slots=True)
class JobFile:
    """What a job file says.

    Attributes:
        lines: where each value begins, from 1, by the keys and indices that lead to it.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]

    def place(self, location: tuple[str | int, ...]) -> str:
        """File and line of a field, or of the nearest around it; other parts of a location are left out."""
        way: tuple[str | int, ...] = ()
        for part in location:
            way = (*way, part) if (*way, part) in self.lines else way
        return f"{self.path}: line {self.lines[way]}: " if way else f"{self.path}: "


def read_job_file(path: Path) -> JobFile:
    """Read a job file.

    Raises:
        InputError: it is no file, too large, no UTF-8, no YAML, or no mapping; a key is there twice or is no text; or
            its aliases stand for too much. The message names the line.
    """
    text = _text(path)
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None or node.tag == f"{_TAG}null":
            return JobFile(path, {}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}: a job file is a mapping of field to value, not a {_kind(node)}")
        values = loader.construct_document(node)
        return JobFile(path, values, dict(_lines(node)))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f"line {mark.line + 1}: " if mark else ""
        told = str(error.problem or error.context)
        if error.context and told.startswith(("but ", "second ")):  # the rest of a sentence
            told = f"{error.context}, {told}"
        raise ConfigError(f"{path}: {line}cannot be read as YAML: {brief(told)}") from None
    except ConfigError:
        raise
    except Exception as error:  # `!!bool x` is a KeyError, and so on
        raise ConfigError(f"{path}: cannot be read as YAML: {brief(' '.join(str(error).split()))}") from None


def _text(path: Path) -> str:
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"{path}: is {'a folder' if stat.S_ISDIR(found.st_mode) else 'no file'}, and no job file")
        if found.st_size > _BYTES:
            raise ConfigError(f"{path}: has {found.st_size:,} bytes; a job file has at most {_BYTES:,}")
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"{brief(str(path))}: cannot be read: {reason}") from None


class _Loader(yaml.SafeLoader):
    """The safe loader, which refuses what would surprise."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [(tag, form) for tag, form in known if tag in {f"{_TAG}null", f"{_TAG}merge"}]
        + ([(f"{_TAG}bool", _TRUTH)] if first in "tTfF" else [])
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        is_alias, before = self.check_event(yaml.AliasEvent), self._nodes
        self._depth += 1
        if self._depth > _DEPTH:
            raise yaml.MarkedYAMLError(problem=f"values lie in one another {_DEPTH} deep", problem_mark=mark)
        node = super().compose_node(parent, index)
        self._depth -= 1
        if not is_alias:
            self._check(node)
            self._sizes[id(node)] = self._nodes - before + 1
        elif id(node) not in self._sizes:
            raise yaml.MarkedYAMLError(problem="an alias stands for what it is part of", problem_mark=mark)
        self._nodes = before + self._sizes[id(node)]
        if self._nodes > _NODES:
            raise yaml.MarkedYAMLError(
                problem=f"it holds more than {_NODES:,} values, aliases written out", problem_mark=mark
            )
        return node

    def _check(self, node: Any) -> None:
        if node.tag not in _PLAIN:
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not read here", problem_mark=node.start_mark)
        if not isinstance(node, yaml.MappingNode):
            return
        seen: dict[str, int] = {}
        for key, _ in node.value:
            if key.tag not in {f"{_TAG}str", f"{_TAG}merge"}:
                shown = f" ({brief(key.value)})" if isinstance(key, yaml.ScalarNode) else ""
                raise yaml.MarkedYAMLError(
                    problem=f"the name of a field is text, and this is a {_kind(key)}{shown}",
                    problem_mark=key.start_mark,
                )
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{brief(key.value)!r} stands in line {seen[key.value]} already",
                    problem_mark=key.start_mark,
                )
            seen[key.value] = key.start_mark.line + 1


_NUMBER = list("-+.0123456789")
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"[-+]?(0|[1-9][0-9]{0,99})$"), _NUMBER)
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|[-+]?\.(inf|Inf|INF)$|\.(nan|NaN|NAN)$"),
    _NUMBER,
)


def _kind(node: yaml.Node) -> str:
    names = {"seq": "list", "map": "mapping", "str": "text", "null": "nothing", "int": "number", "float": "number"}
    kind = node.tag.removeprefix(_TAG)
    return names.get(kind, kind)


def _lines(node: yaml.Node, way: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """After construction: merged keys are in their mapping by then, the later of a name counting."""
    if isinstance(node, yaml.MappingNode):
        inner = [(key.value, key.start_mark.line + 1, value) for key, value in node.value]
    else:
        inner = [(n, value.start_mark.line + 1, value) for n, value in enumerate(node.value)]
    for name, line, value in inner:
        yield (*way, name), line
        if not isinstance(value, yaml.ScalarNode):
            yield from _lines(value, (*way, name))
