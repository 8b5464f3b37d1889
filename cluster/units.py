"""Work units: row ranges of Parquet files, cut the same way every time, that one actor does in minutes."""

import io
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cluster.errors import StorageError
from cluster.storage import StoredFile, fingerprint, open_read, read_bytes, write_whole

GroupStarts = Callable[[pa.Array], np.ndarray]
"""bool of n: where a column's rows begin another group that must stay in one unit."""

_BATCH = 256  # rows decoded at a time: a file may have one huge row group


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows [start, stop) of one file.

    Attributes:
        name: its place in the plan and its id; the names of all its files begin so.
        file: URI of the Parquet file.
        start, stop: rows of the file, from 0.
        items: how many items (leaf values) these rows hold, as the footer says.
    """

    name: str
    file: str
    start: int
    stop: int
    items: int


@dataclass(frozen=True, slots=True)
class ParquetShard:
    """A Parquet file with its footer read."""

    stored: StoredFile
    schema: pa.Schema
    metadata: pq.FileMetaData


def read_footers(files: list[StoredFile]) -> tuple[list[ParquetShard], list[str]]:
    """Read all footers, a few at a time; the second list says what is wrong with which file."""

    def one(stored: StoredFile) -> ParquetShard | str:
        try:
            with open_read(stored.path) as handle:
                parquet = pq.ParquetFile(handle)
                return ParquetShard(stored, parquet.schema_arrow, parquet.metadata)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, StorageError) as error:
            return f"{stored.path}: not a whole Parquet file: {str(error).splitlines()[0]}"

    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(one, files))
    return [r for r in results if isinstance(r, ParquetShard)], [r for r in results if isinstance(r, str)]


def plan_by_rows(shards: list[ParquetShard], item_column: str, target: int) -> list[Unit]:
    """Cut files whose rows stand alone, from footers only.

    Args:
        shards: in order.
        item_column: the list column whose leaf values are the items to count.
        target: items a unit should have; a single row may exceed it.
    """
    ranges: list[tuple[ParquetShard, int, int, int]] = []
    for shard in shards:
        start, row, held = 0, 0, 0
        for group in range(shard.metadata.num_row_groups):
            rows, items = _group_size(shard.metadata.row_group(group), item_column)
            if held and held + items > target:
                ranges.append((shard, start, row, held))
                start, held = row, 0
            if items > target and rows > 1:
                pieces = min(-(-items // target), rows)
                cuts = [row + rows * piece // pieces for piece in range(pieces + 1)]
                ranges += [(shard, a, b, items * (b - a) // rows) for a, b in itertools.pairwise(cuts)]
                start = row + rows
            else:
                held += items
            row += rows
        if row > start:
            ranges.append((shard, start, row, held))
    return _named(ranges)


def plan_by_group(shards: list[ParquetShard], column: str, starts: GroupStarts, target: int) -> list[Unit]:
    """Cut files whose rows belong together while `column` stays the same, which is read for it.

    Raises:
        StorageError: a group is not contiguous; the message names file, rows and value.
    """
    ranges: list[tuple[ParquetShard, int, int, int]] = []
    last: object = None
    for shard in shards:
        with open_read(shard.stored.path) as handle:
            values = pq.read_table(handle, columns=[column])[column].combine_chunks()
        if isinstance(values, pa.ChunkedArray):
            values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
        if len(values) == 0:
            continue
        if not pa.types.is_integer(values.type):  # bytes: an id need not be valid UTF-8 to be told from the next
            values = (values.dictionary_decode() if pa.types.is_dictionary(values.type) else values).cast(
                pa.large_binary()
            )
        begins = np.flatnonzero(starts(values))
        _check_contiguous(shard.stored.path, column, values, begins, last)
        last = values[-1].as_py()
        start = 0
        for begin in [*begins[1:].tolist(), len(values)]:
            if begin - start >= target or begin == len(values):
                ranges.append((shard, start, begin, begin - start))
                start = begin
    return _named(ranges)


def read_rows(unit: Unit, columns: list[str]) -> pa.Table:
    """Read a unit's rows, decoding few at a time so that one huge row group costs time, not memory.

    Raises:
        StorageError: the file is gone or its data are damaged.
    """
    pieces: list[pa.RecordBatch] = []
    with open_read(unit.file) as handle:
        try:
            parquet = pq.ParquetFile(handle, buffer_size=1 << 20, pre_buffer=False)
            schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
            groups: list[int] = []
            at = first = 0
            for group in range(parquet.metadata.num_row_groups):
                rows = parquet.metadata.row_group(group).num_rows
                if at < unit.stop and at + rows > unit.start:
                    first = at if not groups else first
                    groups.append(group)
                at += rows
            row = first
            for batch in parquet.iter_batches(_BATCH, row_groups=groups, columns=columns, use_threads=False):
                begin, end = max(unit.start - row, 0), min(unit.stop - row, batch.num_rows)
                if begin < end:
                    pieces.append(batch.slice(begin, end - begin))
                row += batch.num_rows
                if row >= unit.stop:
                    break
        except (pa.ArrowException, OSError) as error:
            raise StorageError(f"{unit.file}: rows {unit.start} to {unit.stop}: {error}") from None
    return pa.Table.from_batches(pieces, schema=schema)


def save_plan(uri: str, units: list[Unit]) -> None:
    """Keep a plan as Parquet, one row a unit, so that it can be looked at without its input."""
    sink = io.BytesIO()
    rows = [asdict(unit) for unit in units]
    schema = pa.schema(
        [
            ("name", pa.string()),
            ("file", pa.string()),
            ("start", pa.int64()),
            ("stop", pa.int64()),
            ("items", pa.int64()),
        ]
    )
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), sink)
    write_whole(uri, sink.getvalue())


def load_plan(uri: str) -> list[Unit]:
    """Read a kept plan.

    Raises:
        StorageError: there is none.
    """
    data = read_bytes(uri)
    if data is None:
        raise StorageError(f"{uri}: there is no such plan")
    return [Unit(**row) for row in pq.read_table(io.BytesIO(data)).to_pylist()]


def _group_size(group: pq.RowGroupMetaData, item_column: str) -> tuple[int, int]:
    for index in range(group.num_columns):
        column = group.column(index)
        if column.path_in_schema.split(".")[0] == item_column:
            return group.num_rows, column.num_values
    return group.num_rows, group.num_rows


def _named(ranges: list[tuple[ParquetShard, int, int, int]]) -> list[Unit]:
    return [
        Unit(f"{index:06d}-{_unit_id(shard.stored, start, stop)}", shard.stored.path, start, stop, items)
        for index, (shard, start, stop, items) in enumerate(ranges)
    ]


def _unit_id(stored: StoredFile, start: int, stop: int) -> str:
    return fingerprint(f"{stored.path}\0{stored.size}\0{stored.version}\0{start}\0{stop}".encode())[:16]


def _check_contiguous(file: str, column: str, values: pa.Array, begins: np.ndarray, last: object) -> None:
    firsts = values.take(pa.array(begins))
    if firsts[0].as_py() is not None and firsts[0].as_py() == last:
        raise StorageError(
            f"{file}: {column} {_readable(last)} goes on from the file before; a query must stand in one file"
        )
    seen: dict[object, int] = {}
    for row, value in zip(begins.tolist(), firsts.to_pylist(), strict=True):
        if value is not None and value in seen:
            raise StorageError(
                f"{file}: row {row}: {column} {_readable(value)} stood at row {seen[value]} already; flat rows must be "
                "contiguous by query (`ray-rerank prepare --pairs` sorts them)"
            )
        seen[value] = row


def _readable(value: object) -> str:
    return repr(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)
