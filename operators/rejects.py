"""Lines and rows that cannot be used: each costs itself, is counted by its reason, and is written down."""

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import pyarrow as pa

from ray_rerank.operators.errors import InputError, shortened

_LONGEST = 1000  # characters of a reject's id or detail
KEPT_PER_REASON = 100_000  # a run against the wrong corpus must not fill the memory with its rejects

LINE_REJECT_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("line", pa.int64()),
        ("query_id", pa.string()),
        ("doc_id", pa.string()),
        ("reason", pa.string()),
        ("detail", pa.string()),
    ]
)
"""One row a reject; `line` is the line of a text file or the row of a Parquet file, counted from 1."""


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
class Reject:
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


class RejectSink(Protocol):
    """What a reader tells of a line that it cannot use."""

    def add(self, reject: Reject) -> None:
        """Take note of the reject, or raise."""


class RaiseOnReject:
    """For files where a line left out would change a figure: the first reject ends the job."""

    def add(self, reject: Reject) -> None:
        """Raise InputError with the file and the line."""
        raise InputError(str(reject))


@dataclass(slots=True)
class RejectLog:
    """For files where a bad line costs the line: all are counted, the first 100,000 of a reason are kept."""

    counts: Counter[Reason] = field(default_factory=Counter)
    kept: list[Reject] = field(default_factory=list)

    def add(self, reject: Reject) -> None:
        """Count the reject, and keep it while there is room."""
        self.counts[reject.reason] += 1
        if self.counts[reject.reason] <= KEPT_PER_REASON:
            self.kept.append(reject)

    def first(self, reason: Reason, count: int = 3) -> list[Reject]:
        """The first few rejects of a reason."""
        return [reject for reject in self.kept if reject.reason is reason][:count]

    def table(self) -> pa.Table:
        """The kept rejects, as LINE_REJECT_SCHEMA."""
        rows = [
            {
                "file": reject.file,
                "line": reject.line or None,
                "query_id": reject.query_id,
                "doc_id": reject.doc_id,
                "reason": str(reject.reason),
                "detail": reject.detail,
            }
            for reject in self.kept
        ]
        return pa.Table.from_pylist(rows, schema=LINE_REJECT_SCHEMA)


@dataclass(frozen=True, slots=True)
class Report:
    """What a job reports of its input: the rows that it does not use, and notes for the user."""

    rejects: RejectLog = field(default_factory=RejectLog)
    notes: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For a summary in JSON: `left_out`, counts by reason; `first`, examples by reason; `notes`."""
        return {
            "left_out": {str(reason): count for reason, count in self.rejects.counts.items()},
            "first": {str(reason): list(map(str, self.rejects.first(reason))) for reason in self.rejects.counts},
            "notes": list(self.notes),
        }


def _writable(text: str) -> str:
    """Lone surrogates, which JSON can carry and UTF-8 cannot, as their escapes."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
