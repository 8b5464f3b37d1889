"""Lines and rows that cannot be used: each costs itself, is counted by its reason, and is written down."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import pyarrow as pa

from ray_rerank.operators.errors import InputError, shortened

_LONGEST = 1000  # characters of a fault's id or detail
KEPT_PER_REASON = 100_000  # a run against the wrong corpus must not fill the memory with its faults

LINE_FAULT_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("query_id", pa.string()),
        ("doc_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row a fault; `line` is the line of a text file or the row of a Parquet file, counted from 1."""


class Reason(StrEnum):
    """Why a line or a row was left out."""

    NOT_UTF8 = "not valid UTF-8"
    MALFORMED = "malformed line"
    UNKNOWN_QUERY = "unknown query_id"
    UNKNOWN_DOC = "unknown doc_id"
    DUPLICATE_DOC = "duplicate doc_id in a query"
    DUPLICATE_ID = "id given twice"
    EMPTY_TEXT = "empty text"
    OTHER_QUERY = "another query for the same query_id"
    NO_HIT = "no passage shares a word with the query"
    NO_POSITIVE = "query without a positive"
    UNSCORED = "the guard's teacher gave no score"
    UNFIT_ID = "id that a line cannot hold: empty, or with white space, a NUL or a mark at its beginning"


@dataclass(frozen=True, slots=True)
class Fault:
    """One line that was left out: where it stands (line 0: no line of its own) and why."""

    file: str
    line: int
    reason: Reason
    detail: str = ""
    query_id: str | None = None
    doc_id: str | None = None

    def __post_init__(self) -> None:
        """What is kept of 100,000 of them must fit into memory, and be written down, whatever is taken for an id."""
        for name in ("detail", "query_id", "doc_id"):
            text = getattr(self, name)
            if text is not None and not (text.isascii() and len(text) <= _LONGEST):
                object.__setattr__(self, name, _writable(shortened(text, _LONGEST)))

    def __str__(self) -> str:
        place = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{place}: {self.reason}" + (f": {self.detail}" if self.detail else "")


class FaultSink(Protocol):
    """What a reader tells of a line that it cannot use."""

    def add(self, fault: Fault) -> None:
        """Take note of the fault, or raise."""


class Refuse:
    """For files where a line left out would change a figure: the first fault ends the job."""

    def add(self, fault: Fault) -> None:
        """Raise InputError with the file and the line."""
        raise InputError(str(fault))


@dataclass(slots=True)
class FaultLog:
    """For files where a bad line costs the line: all are counted, the first 100,000 of a reason are kept."""

    counts: Counter[Reason] = field(default_factory=Counter)
    kept: list[Fault] = field(default_factory=list)

    def add(self, fault: Fault) -> None:
        """Count the fault, and keep it while there is room."""
        self.counts[fault.reason] += 1
        if self.counts[fault.reason] <= KEPT_PER_REASON:
            self.kept.append(fault)

    def first(self, reason: Reason, count: int = 3) -> list[Fault]:
        """The first few faults of a reason."""
        return [fault for fault in self.kept if fault.reason is reason][:count]

    def table(self) -> pa.Table:
        """The kept faults, as LINE_FAULT_SCHEMA."""
        rows = [
            {
                "file": fault.file,
                "line": fault.line or None,
                "query_id": fault.query_id,
                "doc_id": fault.doc_id,
                "reason": str(fault.reason),
                "detail": fault.detail,
            }
            for fault in self.kept
        ]
        return pa.Table.from_pylist(rows, schema=LINE_FAULT_SCHEMA)


def _writable(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
