"""Training data: (query, document, label) rows from Parquet, TSV, JSONL or a re-ranking with its texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.rejects import RejectLog
from ray_rerank.operators.training.pair_files import Target, read_file


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Usable pairs, and how many rows were left out for which reason.

    `table` is of SCHEMA, without empty texts, with finite labels.
    """

    table: pa.Table
    left_out: dict[str, int]


def read_training_pairs(
    files: Iterable[tuple[str, IO[bytes]]], source: str, target: Target | None = None
) -> TrainingPairs:
    """Read pairs from Parquet, JSON, TSV and CSV files, all but the first plain or compressed.

    Columns are `query`, `document` (or `text`, `passage`) and `label` or `score`, and `query_id` where there is one:
    what `mine` and `label` write, and any table of pairs. A re-ranking written with its texts (`query`,
    `ranking: list<struct<text, score, ...>>`) is taken as it is, its raw scores as labels, which are a teacher's
    logits. A table has a header line. A line that is no such row costs itself.

    Args:
        files: each's name, which ends with one of READABLE, and its content.
        source: what messages call all of them together.
        target: the column that is learnt; None: `score` where a `rank` stands beside it (a teacher's), else
            `label` where there is one, else `score`.

    Raises:
        InputError: a file cannot be read, a column is missing or of the wrong type, or no row is usable.
    """
    torn = RejectLog()
    tables = [read_file(name, content, target, torn) for name, content in files]
    found = usable_pairs(pa.concat_tables(tables), source)
    return TrainingPairs(found.table, {str(reason): many for reason, many in torn.counts.items()} | found.left_out)


def usable_pairs(table: pa.Table, source: str) -> TrainingPairs:
    """Leave out rows that teach nothing: a null or blank query or document, a null or non-finite label."""
    reasons = {
        "empty query": _blank(table["query"]),
        "empty document": _blank(table["document"]),
        "label is no finite number": ~np.isfinite(table["label"].to_numpy()),
    }
    usable, found = np.ones(table.num_rows, dtype=np.bool_), dict[str, int]()
    for reason, mask in reasons.items():
        if many := int((mask & usable).sum()):
            found[reason] = many
        usable &= ~mask
    if not usable.any():
        told = ", ".join(f"{many} x {reason}" for reason, many in found.items())
        raise InputError(f"{source}: none of the {table.num_rows} rows can be trained on ({told or 'no rows'})")
    return TrainingPairs(table.filter(pa.array(usable)).combine_chunks(), found)


def _blank(texts: "pa.ChunkedArray[Any]") -> NDArray[np.bool_]:
    return np.array([text is None or not text.strip() for text in texts.to_pylist()], dtype=np.bool_)
