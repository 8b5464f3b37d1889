"""Work units: row ranges of Parquet files, cut the same way every time, that one actor does in minutes."""

import io
import itertools
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.duplicates import Values
from ray_rerank.cluster.errors import StorageError, first_line
from ray_rerank.cluster.parquet import (
    BATCH_ROWS,
    DAMAGE,
    HELD_BYTES,
    OpenFile,
    ParquetShard,
    bytes_of,
    leaf_of,
    open_columns,
    parquet_bytes,
    read_batches,
    rows_within,
    whole_column,
)
from ray_rerank.cluster.storage import StoredFile, fingerprint, open_read, read_bytes, unchanged, write_whole

GroupStarts = Callable[[pa.Array], np.ndarray]
"""bool of n: where a column's rows begin another group that must stay in one unit."""

_UNIT_BYTES = 64 << 20  # of a unit as the footer has it; a single row may exceed it


@dataclass(frozen=True, slots=True)
class Unit:
    """Rows [start, stop) of one file.

    Attributes:
        name: its place in the plan and its id; the names of all its files begin so.
        file: URI of the Parquet file.
        start, stop: rows of the file, from 0.
        items: how many items (leaf values) these rows hold, as the footer says; of a row group that is cut, each
            unit has its share by rows.
        size, version: of the file, as it was planned; nothing where an older plan does not say. They are in the name.
    """

    name: str
    file: str
    start: int
    stop: int
    items: int = field(compare=False)
    size: int = field(default=0, compare=False)
    version: str = field(default="", compare=False)


def plan_by_rows(shards: list[ParquetShard], item_column: str, target: int) -> list[Unit]:
    """Cut files whose rows stand alone, from footers only.

    Args:
        shards: in order.
        item_column: the list column whose leaf values are the items to count.
        target: items a unit should have; a single row may exceed it.
    """
    ranges: list[tuple[ParquetShard, int, int, int]] = []
    for shard in shards:
        leaf = leaf_of(shard.metadata.schema, item_column)
        start, row, held = 0, 0, 0
        for number in range(shard.metadata.num_row_groups):
            group = shard.metadata.row_group(number)
            rows = group.num_rows
            items = rows if leaf is None else group.column(leaf).num_values
            if row > start and held + items > target:
                ranges.append((shard, start, row, held))
                start, held = row, 0
            size = bytes_of(group, shard)
            if (items > target or size > _UNIT_BYTES) and rows > 1:
                pieces = min(max(-(-items // target), -(-size // _UNIT_BYTES)), rows)
                cuts = [row + rows * piece // pieces for piece in range(pieces + 1)]
                shares = [items * (cut - row) // rows for cut in cuts]
                ranges += [
                    (shard, *ends, after - before)
                    for ends, (before, after) in zip(itertools.pairwise(cuts), itertools.pairwise(shares), strict=True)
                ]
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
        StorageError: a group is not contiguous, or the column is damaged; the message names files and rows.
    """
    ranges: list[tuple[ParquetShard, int, int, int]] = []
    seen = Values()
    asked = target
    for shard in shards:
        target = min(asked, rows_within(shard, _UNIT_BYTES))
        values = whole_column(shard, column)
        if len(values) == 0:
            continue
        if not pa.types.is_integer(values.type):  # bytes: an id need not be valid UTF-8 to be told from the next
            values = (values.dictionary_decode() if pa.types.is_dictionary(values.type) else values).cast(
                pa.large_binary()
            )
        begins = np.flatnonzero(starts(values))
        seen.add(shard.stored.path, begins, values.take(pa.array(begins)))
        start = 0
        for begin in [*begins[1:].tolist(), len(values)]:
            if begin - start >= target or begin == len(values):
                ranges.append((shard, start, begin, begin - start))
                start = begin
    if (example := seen.repeats().example) is not None:
        file, row, before, row_before = example
        value = _readable(whole_column(next(shard for shard in shards if shard.stored.path == file), column)[row])
        raise StorageError(
            f"{file}: row {row}: {column} {value} stood in {before} at row {row_before} already; flat rows must be "
            "contiguous by query, each query in one file (`ray-rerank prepare --pairs` sorts them)"
        )
    return _named(ranges)


def read_rows(unit: Unit, columns: list[str]) -> pa.Table:
    """Read a unit's rows, decoding few at a time so that one huge row group costs time, not memory.

    Raises:
        StorageError: the file is gone or not the one that was planned, its data are damaged, or it does not hold
            these rows.
    """
    with unchanged(StoredFile(unit.file, unit.size, unit.version)):
        return _read_rows(unit, columns)


def _read_rows(unit: Unit, columns: list[str]) -> pa.Table:
    with open_read(unit.file) as handle:
        try:
            content: dict[str, pa.ChunkedArray] = {}
            for parquet, own in open_columns(handle, columns):
                content |= _cut(parquet, handle, own, unit)
        except DAMAGE as error:
            raise StorageError(f"{unit.file}: rows {unit.start} to {unit.stop}: {first_line(error)}") from None
    found = min(len(values) for values in content.values())
    if found != unit.stop - unit.start:
        raise StorageError(
            f"{unit.file}: rows {unit.start} to {unit.stop}: there are only {found}; the file is damaged, or "
            "it has changed since the job first looked at it"
        )
    return pa.table({name: content[name] for name in columns})


def save_plan(uri: str, units: list[Unit]) -> None:
    """Keep a plan as Parquet, one row a unit, so that it can be looked at without its input."""
    rows = [asdict(unit) for unit in units]
    write_whole(uri, parquet_bytes(pa.Table.from_pylist(rows, schema=_PLAN_SCHEMA)))


def load_plan(uri: str) -> list[Unit]:
    """Read a kept plan.

    Raises:
        StorageError: there is none, or it is damaged.
    """
    data = read_bytes(uri)
    if data is None:
        raise StorageError(f"{uri}: there is no such plan; use another output, or remove this one")
    try:
        units = _planned(data)
    except (*DAMAGE, TypeError, ValueError) as error:
        raise StorageError(f"{uri}: is damaged: {first_line(error)}; use another output, or remove this one") from None
    return list(units.values())


def _planned(data: bytes) -> dict[str, Unit]:
    """Units by name; a file that claims many rows is given up at the first that is there twice."""
    parquet = pq.ParquetFile(io.BytesIO(data))
    units: dict[str, Unit] = {}
    for batch in parquet.iter_batches(BATCH_ROWS):
        for row in batch.to_pylist():
            unit = Unit(**row)
            whole = all(isinstance(value, _PLAN_TYPES[name]) for name, value in row.items())
            if not whole or unit.name in units or not 0 <= unit.start < unit.stop:
                raise ValueError(f"row {len(units)} is no unit")
            units[unit.name] = unit
    return units


_PLAN_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("file", pa.string()),
        ("start", pa.int64()),
        ("stop", pa.int64()),
        ("items", pa.int64()),
        ("size", pa.int64()),
        ("version", pa.string()),
    ]
)
_PLAN_TYPES = {field.name: str if pa.types.is_string(field.type) else int for field in _PLAN_SCHEMA}


def _cut(parquet: pq.ParquetFile, handle: IO[bytes], columns: list[str], unit: Unit) -> dict[str, pa.ChunkedArray]:
    schema = pa.schema([parquet.schema_arrow.field(name) for name in columns])
    pieces: list[pa.RecordBatch] = []
    groups: list[int] = []
    at = first = 0
    for group in range(parquet.metadata.num_row_groups):
        rows = parquet.metadata.row_group(group).num_rows
        if at < unit.stop and at + rows > unit.start:
            first = at if not groups else first
            groups.append(group)
        at += rows
    row = first
    held = 0
    for batch in read_batches(OpenFile(parquet, handle, unit.size), columns, groups, BATCH_ROWS):
        begin, end = max(unit.start - row, 0), min(unit.stop - row, batch.num_rows)
        if begin < end:
            pieces.append(batch.slice(begin, end - begin).select(columns))  # `a` also reads a column `a.b`
            held += pieces[-1].nbytes
            if held > HELD_BYTES:
                raise pa.ArrowInvalid(
                    f"hold more than {HELD_BYTES >> 20} MiB, which is the most of a unit: lower `unit_pairs`, or give "
                    "fewer candidates a query or shorter texts"
                )
        row += batch.num_rows
        if row >= unit.stop:
            break
    table = pa.Table.from_batches(pieces, schema=schema)
    return dict(zip(columns, table.columns, strict=True))


def _readable(value: pa.Scalar) -> str:
    return repr(
        value.as_py() if pa.types.is_integer(value.type) else value.cast(pa.binary()).as_py().decode("utf-8", "replace")
    )


def _named(ranges: list[tuple[ParquetShard, int, int, int]]) -> list[Unit]:
    return [_unit(index, shard.stored, *more) for index, (shard, *more) in enumerate(ranges)]


def _unit(index: int, file: StoredFile, start: int, stop: int, items: int) -> Unit:
    name = f"{index:06d}-{_unit_id(file, start, stop)}"
    return Unit(name, file.path, start, stop, items, file.size, file.version)


def _unit_id(stored: StoredFile, start: int, stop: int) -> str:
    return fingerprint(f"{stored.path}\0{stored.size}\0{stored.version}\0{start}\0{stop}".encode())[:16]
