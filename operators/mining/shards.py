"""What mining writes: flat rows of a query's positives and negatives, which rerank, label and train read."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.operators.arrow import parents
from ray_rerank.operators.candidates.shards import row_groups

MINED_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("score", pa.float32()),
        ("label", pa.float32()),
        ("source", pa.string()),
    ]
)
"""`score` is the source's own (null where it has none); `label` is 1 for a positive, 0 for a negative, null where
no positives were given; `source` is `positive` or the kind of the source."""

POSITIVE = "positive"


@dataclass(frozen=True, slots=True)
class MinedQuery:
    """One query with its passages, positives first.

    Attributes:
        rows: int64 of n, rows of the corpus.
        scores: float32 of n, NaN where there is none.
        labels: float32 of n, NaN where nothing is known.
        sources: n kinds.
    """

    query_id: str
    query: str
    rows: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    sources: Sequence[str]


def mined_shard(mined: Sequence[MinedQuery], doc_ids: Sequence[str], texts: pa.Array) -> bytes:
    """One shard of MINED_SCHEMA, zstd; no row group cuts a query.

    Args:
        doc_ids, texts: the corpus, row by row.
    """
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, MINED_SCHEMA, compression="zstd") as writer:
        for group in row_groups(mined, texts):
            writer.write_table(_table(group, doc_ids, texts))
    return sink.getvalue()


def _table(mined: Sequence[MinedQuery], doc_ids: Sequence[str], texts: pa.Array) -> pa.Table:
    rows = np.concatenate([query.rows for query in mined])
    sizes = np.array([len(query.rows) for query in mined], np.int64)

    def spread(values: Sequence[str]) -> pa.Array:
        return pa.array(values, pa.string()).take(pa.array(parents(sizes)))

    def numbers(name: str) -> pa.Array:
        values = np.concatenate([getattr(query, name) for query in mined])
        return pa.array(values, pa.float32(), mask=np.isnan(values))

    columns = [
        spread([query.query_id for query in mined]),
        spread([query.query for query in mined]),
        pa.array([doc_ids[row] for row in rows.tolist()], pa.string()),
        texts.take(pa.array(rows)).cast(pa.string()),
        numbers("scores"),
        numbers("labels"),
        pa.array([source for query in mined for source in query.sources], pa.string()),
    ]
    return pa.Table.from_arrays(columns, schema=MINED_SCHEMA)
