"""Candidate shards as bytes: Parquet in small row groups, the same bytes for the same candidates."""

import io
import re
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ray_rerank.operators.arrow import to_lists
from ray_rerank.operators.candidates.join import CandidateList
from ray_rerank.operators.candidates.schema import CANDIDATE, CANDIDATE_SCHEMA

GROUP_QUERIES = 256
GROUP_CANDIDATES = 2048  # a fraction of a minute of one CPU actor: units can be cut to any size above it
GROUP_BYTES = 64 << 20

SHARD_NAME = re.compile(r"candidates-\d{5,}-of-\d{5,}\.parquet")
"""What prepare calls its shards, and nothing else."""


def shard_name(index: int, count: int) -> str:
    """The name of shard `index`, from 0, of `count`: a glob of them shows whether all are there."""
    return f"candidates-{index:05d}-of-{count:05d}.parquet"


def shard_bytes(selections: Sequence[CandidateList], texts: pa.Array) -> bytes:
    """One shard: CANDIDATE_SCHEMA, zstd; a row group ends at 256 queries, 2,048 candidates or 64 MiB."""
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, CANDIDATE_SCHEMA, compression="zstd") as writer:
        for group in row_groups(selections, texts):
            writer.write_table(candidate_table(group, texts))
    return sink.getvalue()


class _OfPassages(Protocol):
    """One query's passages by their rows of the texts."""

    @property
    def rows(self) -> np.ndarray:
        """int64 of n."""


Q = TypeVar("Q", bound=_OfPassages)


def row_groups(selections: Sequence[Q], texts: pa.Array) -> Iterator[list[Q]]:
    """Cut queries into row groups, never a query across two; each holds at least one."""
    group: list[Q] = []
    candidates = size = 0
    length = pc.binary_length(texts).to_numpy(zero_copy_only=False)
    for selection in selections:
        more = int(length[selection.rows].sum())
        full = len(group) >= GROUP_QUERIES or candidates >= GROUP_CANDIDATES or size + more > GROUP_BYTES
        if group and full:
            yield group
            group, candidates, size = [], 0, 0
        group.append(selection)
        candidates += len(selection.rows)
        size += more
    if group:
        yield group


def candidate_table(selections: Sequence[CandidateList], texts: pa.Array) -> pa.Table:
    """Selections and their texts as one table of CANDIDATE_SCHEMA; a score that is NaN becomes null."""
    rows = np.concatenate([selection.rows for selection in selections])
    scores = np.concatenate([selection.scores for selection in selections])
    sizes = np.array([len(selection.rows) for selection in selections], np.int64)
    taken = texts.take(pa.array(rows)).cast(pa.string())
    doc_ids = [doc_id for selection in selections for doc_id in selection.doc_ids]
    candidates = pa.StructArray.from_arrays(
        [pa.array(doc_ids, pa.string()), taken, pa.array(scores, pa.float32(), mask=np.isnan(scores))],
        fields=list(CANDIDATE),
    )
    columns = [
        pa.array([selection.query_id for selection in selections], pa.string()),
        pa.array([selection.query for selection in selections], pa.string()),
        to_lists(sizes, candidates),
    ]
    return pa.Table.from_arrays(columns, schema=CANDIDATE_SCHEMA)
