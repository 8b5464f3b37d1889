"""Parquet files that are not trusted: footers, and columns read within bounds; and how our own are written."""

import io
import itertools
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import StorageError, UnavailableError, first_line
from ray_rerank.cluster.storage import READ_AHEAD, StoredFile, open_read, unchanged

BATCH_ROWS = 256  # rows decoded at a time: a file may have one huge row group
_IDS = 65_536  # as many where they are ids alone
_BATCH_BYTES = 256 << 20  # of a batch, if every row were all that a dictionary holds
HELD_BYTES = 256 << 20  # of a unit, once decoded: a job holds it some ten times
_READ_BYTES = 1 << 30  # of a file, once decoded
MOST_UNPACKED = 1000  # of a file's own bytes: so much comes of it at most
_ROWS = 10_000_000  # that any file may have
_ROWS_A_BYTE = 10  # of the file, beyond them
_CONTAINER = 200_000  # columns, or row groups
_DICTIONARY = re.compile(rb"\x15\x04\x15([\x80-\xff]*[\x00-\x7f])")  # how a dictionary's page begins, and its size
DAMAGE = (pa.ArrowException, OSError, KeyError, UnicodeDecodeError)  # what reading a damaged or changed file raises


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
    shards, damaged = list[ParquetShard](), list[str]()
    with ThreadPoolExecutor(16) as pool:
        footers = [pool.submit(_read_footer, stored, item_column) for stored in files]
        for footer in footers:
            try:
                shards.append(footer.result())
            except UnavailableError:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
            except StorageError as error:
                damaged.append(str(error))
    return shards, damaged


def _read_footer(stored: StoredFile, item_column: str | None) -> ParquetShard:
    """Raises StorageError where the file cannot be read, or is not a whole Parquet file."""
    try:
        with open_read(stored.path) as handle:
            parquet = pq.ParquetFile(handle, thrift_container_size_limit=_CONTAINER)
            _check_footer(parquet.metadata, item_column, stored.size)
            return ParquetShard(stored, parquet.schema_arrow, parquet.metadata)
    except DAMAGE as error:
        raise StorageError(f"{stored.path}: not a whole Parquet file: {first_line(error)}") from None


def has_every_value(metadata: pq.FileMetaData, item_column: str) -> bool:
    """Whether the footer tells that no list of this column is null or empty, and no item null."""
    leaf = leaf_of(metadata.schema, item_column)
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    found = (None if leaf is None else group.column(leaf).statistics for group in groups)
    return all(known is not None and known.has_null_count and not known.null_count for known in found)


def bytes_of(group: pq.RowGroupMetaData, shard: ParquetShard) -> int:
    """Of a row group as the footer has it, which may claim too much."""
    size: int = group.total_byte_size
    return min(size, MOST_UNPACKED * shard.stored.size) if shard.stored.size else size


def rows_within(shard: ParquetShard, size: int) -> int:
    """How many rows have so many bytes, on average."""
    rows: int = shard.metadata.num_rows
    held = sum(bytes_of(shard.metadata.row_group(number), shard) for number in range(shard.metadata.num_row_groups))
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
    leaf = None if item_column is None else leaf_of(metadata.schema, item_column)
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
            [(parquet, _)] = open_columns(handle, [column])
            groups = list(range(parquet.metadata.num_row_groups))
            read = read_batches(OpenFile(parquet, handle, shard.stored.size), [column], groups, _IDS)
            pieces = [batch.column(column) for batch in read]
            values = pa.chunked_array(pieces, parquet.schema_arrow.field(column).type).combine_chunks()
    except DAMAGE as error:
        raise StorageError(f"{shard.stored.path}: column {column!r} cannot be read: {first_line(error)}") from None
    if isinstance(values, pa.ChunkedArray):
        values = pa.concat_arrays(values.chunks) if values.num_chunks else pa.array([], values.type)
    if len(values) != shard.metadata.num_rows:
        raise StorageError(
            f"{shard.stored.path}: column {column!r} holds {len(values)} rows of {shard.metadata.num_rows}; the file "
            "is damaged"
        )
    return values


def open_columns(handle: IO[bytes], columns: list[str]) -> list[tuple[pq.ParquetFile, list[str]]]:
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


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A Parquet file that is read from a handle; `size` in bytes, 0 where it is not known."""

    parquet: pq.ParquetFile
    handle: IO[bytes]
    size: int


def read_batches(file: OpenFile, columns: list[str], groups: list[int], most: int) -> Iterator[pa.RecordBatch]:
    """Decode at most `most` rows at a time, and fewer where a dictionary or a text is long."""
    parquet, handle, size = file.parquet, file.handle, file.size
    footer = pq.ParquetFile(_NoData(), metadata=parquet.metadata, pre_buffer=False)
    leaves = [leaf for name in columns for leaf in _leaves_of(footer.schema, name)]
    rows = most
    for group, leaf in itertools.product(groups, leaves):
        chunk = _chunk(footer, group, leaf)
        unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
        if unpacked > max(HELD_BYTES, MOST_UNPACKED * packed):
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
        if size and decoded > max(_READ_BYTES, MOST_UNPACKED * size):
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


def leaf_of(schema: pq.ParquetSchema, column: str) -> int | None:
    """The first leaf of a top-level column, whose name may hold dots."""
    return next(_leaves_of(schema, column), None)


def _leaves_of(schema: pq.ParquetSchema, column: str) -> Iterator[int]:
    return (index for index in range(len(schema)) if f"{schema.column(index).path}.".startswith(f"{column}."))


def parquet_bytes(table: pa.Table, row_group_size: int | None = None) -> bytes:
    """One Parquet file, zstd, in row groups of so many rows; None leaves that to Arrow."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", row_group_size=row_group_size)
    return sink.getvalue()
