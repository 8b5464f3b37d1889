"""Objects of a JSON file: one a line, or those of one array."""

import json
import re
from collections.abc import Iterator
from typing import IO, Any

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.formats.content import DAMAGE, LONGEST, SAMPLE, TOO_LONG, bare_name, beginning, whole_text
from ray_rerank.operators.formats.lines import Unusable, read_lines
from ray_rerank.operators.rejects import RejectSink

_NAMES = (".jsonl", ".json", ".ndjson")
_SPACE = re.compile(r"[ \t\n\r]*")
_BEGINNING = re.compile(rb'\s*(\{\s*"|\[\s*\{)')

Source = str | dict[str, Any]
"""A line that should hold an object, or an object of an array."""


def is_json(stream: IO[bytes], name: str) -> bool:
    """Whether a text file is JSON: by its name, or by its beginning whatever the name.

    Raises:
        InputError: it is no text file, or damaged.
    """
    return bare_name(name).endswith(_NAMES) or bool(_BEGINNING.match(beginning(stream, name)))


def json_rows(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[tuple[int, Source]]:
    """Lines with their numbers; where the file is one array, its objects with theirs.

    Raises:
        InputError: it is an array that cannot be read, or not of objects.
    """
    if not beginning(stream, name).lstrip().startswith(b"["):
        yield from read_lines(stream, name, rejects)
        return
    number = 0
    try:
        for number, row in enumerate(_elements(whole_text(stream, name)), start=1):
            if not isinstance(row, dict):
                kind = type(row).__name__
                raise InputError(
                    f"{name}: begins as a JSON array and is none of objects: row {number} of the array is a JSON {kind}"
                )
            yield number, row
    except (ValueError, RecursionError, *DAMAGE) as error:
        after = f" after row {number}" if number else ""
        told = error.msg if isinstance(error, json.JSONDecodeError) else error
        raise InputError(f"{name}: begins as a JSON array and is none{after}: {told}") from None


def _elements(text: IO[str]) -> Iterator[Any]:
    """The elements of an array, one at a time, so that only they have to fit into memory.

    Raises:
        ValueError: it is none, or an element is longer than LONGEST.
    """
    decoder = json.JSONDecoder()
    left, at, whole = "", 0, False

    def more() -> None:
        nonlocal left, at, whole
        piece = text.read(max(SAMPLE, len(left) - at))  # as much again: a long element is tried few times
        left, at, whole = left[at:] + piece, 0, not piece

    def sign() -> str:
        """The next character that is no white space; the place is behind it. Nothing at the end of the file."""
        nonlocal at
        while (at := _SPACE.match(left, at).end()) == len(left) and not whole:  # type: ignore[union-attr]
            more()
        at += 1
        return left[at - 1 : at]

    sign()  # the bracket
    if sign() == "]":
        found = "]"
    else:
        found, at = ",", at - 1
    while found == ",":
        if sign() == "":
            raise ValueError("it has no end")
        at -= 1
        while True:
            try:
                value, end = decoder.raw_decode(left, at)
            except ValueError:
                if whole:
                    raise
            else:
                if end < len(left) or whole:
                    break
            if len(left) - at > LONGEST:
                raise ValueError(f"a row {TOO_LONG}")
            more()
        at = end
        yield value
        found = sign()
    if found != "]":
        raise ValueError(f"{found!r} stands where a comma should" if found else "it has no end")
    if after := sign():
        raise ValueError(f"{after!r} stands behind its end")


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
