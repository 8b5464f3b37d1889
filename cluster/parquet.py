"""A table as the bytes of one Parquet file."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """One Parquet file, zstd, in row groups of so many rows; None leaves that to Arrow."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()
