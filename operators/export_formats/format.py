"""What a form of training data is: its files, and how a query's labelled documents become their rows."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery

Rows = Iterable[tuple[str, dict[str, Any]]]
"""(file, row) pairs."""


@dataclass(frozen=True, slots=True)
class File:
    """One file of a form; its ending says what it is: .parquet, .jsonl or .tsv (with a header line).

    Attributes:
        name: of the file.
        schema: its columns.
        once: a column whose value stands in one row only; the first is kept.
    """

    name: str
    schema: Callable[[ExportOptions], pa.Schema]
    once: str | None = None


@dataclass(frozen=True, slots=True)
class Export:
    """One form, declared as a value.

    Attributes:
        name: what `--format` calls it.
        meaning: one line.
        files: what is written.
        rows: a query's rows; what is left out is counted by its reason.
        options: fields of ExportOptions that this form takes besides those that all take.
    """

    name: str
    meaning: str
    files: tuple[File, ...]
    rows: Callable[[LabelledQuery, ExportOptions, Counter[str]], Rows]
    options: tuple[str, ...] = ()


def fixed(**columns: pa.DataType) -> Callable[[ExportOptions], pa.Schema]:
    """A schema that no option changes."""
    schema = pa.schema(list(columns.items()))
    return lambda _: schema
