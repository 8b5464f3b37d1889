"""A table as bytes: an Arrow stream between processes, a Parquet file where it is kept."""

import io

import pyarrow as pa
import pyarrow.parquet as pq


def stream_bytes(table: pa.Table) -> bytes:
    """One Arrow stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """One Parquet file, zstd, in row groups of so many rows; None leaves that to Arrow."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()
