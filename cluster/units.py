"""Work units: row ranges of Parquet files, cut the same way every time, that one actor does in minutes."""

import io
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.duplicates import Values
from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.parquet import parquet_bytes
from ray_rerank.cluster.storage.files import (
    READ_AHEAD,
    StoredFile,
    UnavailableError,
    fingerprint,
    open_read,
    read_bytes,
    unchanged,
    write_whole,
)

GroupStarts = Callable[[pa.Array], np.ndarray]
"""bool of n: where a column's rows begin another group that must stay in one unit."""

_BATCH = 256  # rows decoded at a time: a file may have one huge row group
_IDS = 65_536  # as many where they are ids alone
_BATCH_BYTES = 256 << 20  # of a batch, if every row were all that a dictionary holds
_UNIT_BYTES = 64 << 20  # of a unit as the footer has it; a single row may exceed it
_HELD_BYTES = 256 << 20  # of a unit, once decoded: a job holds it some ten times
_READ_BYTES = 1 << 30  # of a file, once decoded
_RATIO = 1000  # of a file's own bytes: so much comes of it at most
_ROWS = 10_000_000  # that any file may have
_ROWS_A_BYTE = 10  # of the file, beyond them
_CONTAINER = 200_000  # columns, or row groups
_DICTIONARY = re.compile(rb"\x15\x04\x15([\x80-\xff]*[\x00-\x7f])")  # how a dictionary's page begins, and its size
_DAMAGE = (pa.ArrowException, OSError, KeyError, UnicodeDecodeError)  # what reading a damaged or changed file raises


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


@dataclass(frozen=True, slots=True)
class ParquetShard:
    """A Parquet file with its footer read."""

    stored: StoredFile
    schema: pa.Schema
    metadata: pq.FileMetaData


def read_footers(files: list[StoredFile], item_column: str | None = None) -> tuple[list[ParquetShard], list[str]]:
    """Read all footers, a few at a time; the second list says what is wrong with which file.

    Args:
        files: in order.
        item_column: as `plan_by_rows` will be told: whether the values of this one can be counted is looked at too.

    Raises:
        UnavailableError: the storage does not answer: nothing is known of the files.
    """

    def one(stored: StoredFile) -> ParquetShard | str:
        try:
            with open_read(stored.path) as handle:
                parquet = pq.ParquetFile(handle, thrift_container_size_limit=_CONTAINER)
                _check_footer(parquet.metadata, item_column, stored.size)
                return ParquetShard(stored, parquet.schema_arrow, parquet.metadata)
        except UnavailableError:
            raise
        except StorageError as error:
            return str(error)
        except _DAMAGE as error:
            return f"{stored.path}: not a whole Parquet file: {_first_line(error)}"

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
        leaf = _leaf_of(shard.metadata.schema, item_column)
        start, row, held = 0, 0, 0
        for number in range(shard.metadata.num_row_groups):
            group = shard.metadata.row_group(number)
            rows = group.num_rows
            items = rows if leaf is None else group.column(leaf).num_values
            if row > start and held + items > target:
                ranges.append((shard, start, row, held))
                start, held = row, 0
            size = _bytes_of(group, shard)
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


def has_every_value(metadata: pq.FileMetaData, item_column: str) -> bool:
    """Whether the footer tells that no list of this column is null or empty, and no item null."""
    leaf = _leaf_of(metadata.schema, item_column)
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    found = (None if leaf is None else group.column(leaf).statistics for group in groups)
    return all(known is not None and known.has_null_count and not known.null_count for known in found)


def plan_by_group(shards: list[ParquetShard], column: str, starts: GroupStarts, target: int) -> list[Unit]:
    """Cut files whose rows belong together while `column` stays the same, which is read for it.

    Raises:
        StorageError: a group is not contiguous, or the column is damaged; the message names files and rows.
    """
    ranges: list[tuple[ParquetShard, int, int, int]] = []
    seen = Values()
    asked = target
    for shard in shards:
        target = min(asked, _rows_of(shard, _UNIT_BYTES))
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
            for parquet, own in _open_columns(handle, columns):
                content |= _cut(parquet, handle, own, unit)
        except _DAMAGE as error:
            raise StorageError(f"{unit.file}: rows {unit.start} to {unit.stop}: {_first_line(error)}") from None
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
    except (*_DAMAGE, TypeError, ValueError) as error:
        raise StorageError(f"{uri}: is damaged: {_first_line(error)}; use another output, or remove this one") from None
    return list(units.values())


def _planned(data: bytes) -> dict[str, Unit]:
    """Units by name; a file that claims many rows is given up at the first that is there twice."""
    parquet = pq.ParquetFile(io.BytesIO(data))
    units: dict[str, Unit] = {}
    for batch in parquet.iter_batches(_BATCH):
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


def _bytes_of(group: pq.RowGroupMetaData, shard: ParquetShard) -> int:
    """Of a row group as the footer has it, which may claim too much."""
    size: int = group.total_byte_size
    return min(size, _RATIO * shard.stored.size) if shard.stored.size else size


def _rows_of(shard: ParquetShard, size: int) -> int:
    """How many rows have so many bytes, on average."""
    rows: int = shard.metadata.num_rows
    held = sum(_bytes_of(shard.metadata.row_group(number), shard) for number in range(shard.metadata.num_row_groups))
    return max(1, rows * size // max(held, 1)) if rows else 1


class _ReachedDataError(Exception):
    """Parquet came as far as to ask for data."""


class _NoData(io.RawIOBase):
    """Stands for a file of which only the footer is wanted, and that is read already."""

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return offset

    def tell(self) -> int:
        return 1 << 50

    def read(self, size: int = -1) -> bytes:
        raise _ReachedDataError


def _check_footer(metadata: pq.FileMetaData, item_column: str | None, size: int) -> None:
    """Raise where a footer contradicts itself, or claims more rows than the file's bytes can hold."""
    rows = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
    if min(rows, default=0) < 0 or sum(rows) != metadata.num_rows:
        raise pa.ArrowInvalid(f"its footer counts {metadata.num_rows} rows and its row groups {sum(rows)}")
    most = max(_ROWS, _ROWS_A_BYTE * size)
    if size and sum(rows) > most:
        raise pa.ArrowInvalid(f"its footer claims {sum(rows):,} rows in {size:,} bytes")
    leaf = None if item_column is None else _leaf_of(metadata.schema, item_column)
    if leaf is None:
        return
    footer = pq.ParquetFile(_NoData(), metadata=metadata, pre_buffer=False)
    claimed = 0
    for number in range(len(rows)):
        values = _chunk(footer, number, leaf).num_values
        claimed += values
        if size and claimed > most:
            raise pa.ArrowInvalid(f"its footer claims {claimed:,} values of {item_column!r} in {size:,} bytes")
        if values < rows[number]:
            raise pa.ArrowInvalid(
                f"its footer counts {rows[number]} rows and {values} values of {item_column!r} in them"
            )


def whole_column(shard: ParquetShard, column: str) -> pa.Array:
    """All values of a top-level column.

    Raises:
        StorageError: it is damaged, or the file is not the one that was listed.
    """
    with unchanged(shard.stored):
        return _whole_column(shard, column)


def _whole_column(shard: ParquetShard, column: str) -> pa.Array:
    try:
        with open_read(shard.stored.path) as handle:
            [(parquet, _)] = _open_columns(handle, [column])
            groups = list(range(parquet.metadata.num_row_groups))
            read = _batches(parquet, handle, [column], shard.stored.size, groups, _IDS)
            pieces = [batch.column(column) for batch in read]
            values = pa.chunked_array(pieces, parquet.schema_arrow.field(column).type).combine_chunks()
    except _DAMAGE as error:
        raise StorageError(f"{shard.stored.path}: column {column!r} cannot be read: {_first_line(error)}") from None
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if len(values) != shard.metadata.num_rows:
        raise StorageError(
            f"{shard.stored.path}: column {column!r} holds {len(values)} rows of {shard.metadata.num_rows}; the file "
            "is damaged"
        )
    return values


def _open_columns(handle: IO[bytes], columns: list[str]) -> list[tuple[pq.ParquetFile, list[str]]]:
    """Open a file to read these columns, some of them in another way than the rest.

    Dictionaries are read as the plain values that Parquet holds, by hiding the Arrow schema that says otherwise: Arrow
    cannot read one inside a list over several row groups, nor one of strings that are not all valid UTF-8.
    """
    options: dict[str, Any] = {
        "thrift_container_size_limit": _CONTAINER,
        "buffer_size": READ_AHEAD,
        "pre_buffer": False,
        "page_checksum_verification": True,
    }
    parquet = pq.ParquetFile(handle, **options)
    coded = [name for name in columns if _holds_dictionary(parquet.schema_arrow.field(name).type)]
    if not coded:
        return [(parquet, columns)]
    footer = io.BytesIO()
    parquet.metadata.write_metadata_file(footer)
    bare = pq.read_metadata(io.BytesIO(footer.getvalue().replace(b"ARROW:schema", b"-----:schema")))
    as_is = [name for name in columns if name not in coded]
    return [(pq.ParquetFile(handle, metadata=bare, **options), coded), *([(parquet, as_is)] if as_is else [])]


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
    for batch in _batches(parquet, handle, columns, unit.size, groups, _BATCH):
        begin, end = max(unit.start - row, 0), min(unit.stop - row, batch.num_rows)
        if begin < end:
            pieces.append(batch.slice(begin, end - begin).select(columns))  # `a` also reads a column `a.b`
            held += pieces[-1].nbytes
            if held > _HELD_BYTES:
                raise pa.ArrowInvalid(
                    f"hold more than {_HELD_BYTES >> 20} MiB, which is the most of a unit: lower `unit_pairs`, or give "
                    "fewer candidates a query or shorter texts"
                )
        row += batch.num_rows
        if row >= unit.stop:
            break
    table = pa.Table.from_batches(pieces, schema=schema)
    return dict(zip(columns, table.columns, strict=True))


def _batches(
    parquet: pq.ParquetFile, handle: IO[bytes], columns: list[str], size: int, groups: list[int], most: int
) -> Iterator[pa.RecordBatch]:
    """Decode few rows at a time, and fewer where a dictionary or a text is long.

    Args:
        size: of the file in bytes; 0 where it is not known.
        most: rows at a time.
    """
    footer = pq.ParquetFile(_NoData(), metadata=parquet.metadata, pre_buffer=False)
    leaves = [leaf for name in columns for leaf in _leaves_of(footer.schema, name)]
    rows = most
    for group, leaf in itertools.product(groups, leaves):
        chunk = _chunk(footer, group, leaf)
        unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if unpacked > max(_HELD_BYTES, _RATIO * packed):
            raise pa.ArrowInvalid(f"column {chunk.path_in_schema} unpacks from {packed:,} bytes to {unpacked:,}")
        longest = unpacked // max(footer.metadata.row_group(group).num_rows, 1)
        if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY" and unpacked * rows > _BATCH_BYTES:
            handle.seek(min(chunk.dictionary_page_offset, chunk.data_page_offset))
            if begins := _DICTIONARY.match(handle.read(16)):
                longest = max(longest, sum((byte & 127) << 7 * at for at, byte in enumerate(begins[1])) >> 1)
        rows = max(1, min(rows, _BATCH_BYTES // max(longest, 1)))
    decoded = 0
    for batch in parquet.iter_batches(rows, row_groups=groups, columns=columns, use_threads=False):
        yield batch
        decoded += batch.nbytes
        if size and decoded > max(_READ_BYTES, _RATIO * size):
            raise pa.ArrowInvalid(f"more than {decoded >> 20:,} MiB come out of a file of {size:,} bytes")


def _chunk(footer: pq.ParquetFile, group: int, leaf: int) -> pq.ColumnChunkMetaData:
    """The description of a column chunk, whatever the footer holds.

    A bad one (or an encrypted one) ends the process where pyarrow is asked for it by `RowGroupMetaData.column`, and is
    an exception where the column is about to be read.

    Args:
        footer: of `_NoData`.
    """
    with suppress(_ReachedDataError):
        footer.read_row_group(group, columns=[footer.schema.column(leaf).path], use_threads=False)
    return footer.metadata.row_group(group).column(leaf)


def _holds_dictionary(kind: pa.DataType) -> bool:
    inner = (kind.field(index).type for index in range(kind.num_fields))
    return bool(pa.types.is_dictionary(kind)) or any(map(_holds_dictionary, inner))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _readable(value: pa.Scalar) -> str:
    return repr(
        value.as_py() if pa.types.is_integer(value.type) else value.cast(pa.binary()).as_py().decode("utf-8", "replace")
    )


def _leaf_of(schema: pq.ParquetSchema, column: str) -> int | None:
    """The first leaf of a top-level column, whose name may hold dots."""
    return next(_leaves_of(schema, column), None)


def _leaves_of(schema: pq.ParquetSchema, column: str) -> Iterator[int]:
    return (index for index in range(len(schema)) if f"{schema.column(index).path}.".startswith(f"{column}."))


def _named(ranges: list[tuple[ParquetShard, int, int, int]]) -> list[Unit]:
    return [_unit(index, shard.stored, *more) for index, (shard, *more) in enumerate(ranges)]


def _unit(index: int, file: StoredFile, start: int, stop: int, items: int) -> Unit:
    name = f"{index:06d}-{_unit_id(file, start, stop)}"
    return Unit(name, file.path, start, stop, items, file.size, file.version)


def _unit_id(stored: StoredFile, start: int, stop: int) -> str:
    return fingerprint(f"{stored.path}\0{stored.size}\0{stored.version}\0{start}\0{stop}".encode())[:16]
