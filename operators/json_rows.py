"""Objects of a JSON file: one a line, or those of one array."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from operators.content import DAMAGE, bare_name, beginning, whole_text
from operators.errors import InputError
from operators.faults import FaultSink
from operators.lines import Unusable, read_lines

_NAMES = (".jsonl", ".json", ".ndjson")
_BEGINNING = re.compile(rb'\s*(\{\s*"|\[\s*\{)')

Source = str | dict[str, Any]
"""A line that should hold an object, or an object of an array."""


def is_json(stream: IO[bytes], name: str) -> bool:
    """Whether a text file is JSON: by its name, or by its beginning whatever the name.

    Raises:
        InputError: it is no text file, or damaged.
    """
    return bare_name(name).endswith(_NAMES) or bool(_BEGINNING.match(beginning(stream, name)))


def json_rows(stream: IO[bytes], name: str, faults: FaultSink) -> Iterator[tuple[int, Source]]:
    """Lines with their numbers; where the file is one array, which is read as a whole, its objects with theirs.

    Raises:
        InputError: it is an array that cannot be read, or not of objects.
    """
    if not beginning(stream, name).lstrip().startswith(b"["):
        yield from read_lines(stream, name, faults)
        return
    try:
        rows = json.load(whole_text(stream, name))
    except (ValueError, RecursionError, *DAMAGE) as error:
        raise InputError(f"{name}: begins as a JSON array and is none: {error}") from None
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise InputError(f"{name}: row {number} of the array is a JSON {type(row).__name__}, not an object")
        yield number, row


def json_object(source: Source) -> dict[str, Any]:
    """The object of a row.

    Raises:
        Unusable: the line holds none.
    """
    if isinstance(source, dict):
        return source
    try:
        value = json.loads(source)
    except (ValueError, RecursionError) as error:
        raise Unusable(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise Unusable(f"a JSON {type(value).__name__}, not an object")
    return value
