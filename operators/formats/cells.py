"""What stands in one column of a line: an id, a number, a text."""

import math
import re

import numpy as np

from ray_rerank.operators.formats.lines import Unusable

BLANKS = re.compile("[ \t]+")
"""What parts columns, besides a tab, and nothing else: a no-break space belongs to its id."""
ITERATION = frozenset({"0", "Q0", "q0"})
"""What stands in TREC's second column, as a rule."""

LONGEST_ID = 1 << 16
"""Bytes of an id."""

_FLOAT32_MAX = float(np.finfo(np.float32).max)
_INT64_MAX = 2**63 - 1


def number(text: str, what: str) -> float:
    """A finite number that 32 bits can hold.

    Raises:
        Unusable: it is none.
    """
    try:
        score = float(text)
    except ValueError:
        score = None
    if score is None or "_" in text or not text.isascii():  # Python reads 1_0 and digits of other scripts
        raise Unusable(f"{what} is {text[:40]!r}")
    if not math.isfinite(score) or abs(score) > _FLOAT32_MAX:
        raise Unusable(f"{what} is {text[:40]!r}, not a finite 32-bit number")
    return score


def whole(text: str, what: str) -> int:
    """A whole number, also where a tool wrote it as `1.0`.

    Raises:
        Unusable: it is none, or beyond 64 bits.
    """
    try:
        value = int(text) if text.isdecimal() and text.isascii() else number(text, what)
    except Unusable:
        raise Unusable(f"{what} is {text[:40]!r}, not a whole number") from None
    if value != int(value):
        raise Unusable(f"{what} is {text[:40]!r}, not a whole number")
    if abs(value) > _INT64_MAX:
        raise Unusable(f"{what} has more than 64 bits")
    return int(value)


def identifier(text: str, what: str) -> str:
    """An id as it stands.

    Raises:
        Unusable: it is empty, or longer than LONGEST_ID.
    """
    if not text:
        raise Unusable(f"{what} is empty")
    if len(text) > LONGEST_ID // 4 and len(text.encode("utf-8", "replace")) > LONGEST_ID:
        raise Unusable(f"{what} has more than {LONGEST_ID:,} bytes")
    return text


def iteration(text: str, what: str) -> str:
    """The column of TREC files that says nothing: 0 or Q0.

    Raises:
        Unusable: it is something else.
    """
    if text not in ITERATION:
        raise Unusable(f"{what} is {text[:40]!r}, neither 0 nor Q0")
    return text


def is_text(column: str) -> bool:
    """Whether a column holds several words, as an id seldom does."""
    return " " in column.strip(" ")


def is_number(column: str) -> bool:
    """Whether a column holds a number and nothing else."""
    try:
        number(column, "the column")
    except Unusable:
        return False
    return True


def shown(text: str) -> str:
    """A line, or its beginning, as messages quote it."""
    return repr(text if len(text) <= 80 else f"{text[:80]}…")
