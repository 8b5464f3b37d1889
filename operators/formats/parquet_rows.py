"""Rows of a Parquet file: in batches that fit into memory, whatever a row group or a dictionary holds; as mappings."""

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.operators.errors import InputError, listed, reason_of
from ray_rerank.operators.formats.content import is_parquet

PARQUET_DAMAGE = (pa.ArrowException, OSError, UnicodeDecodeError)
"""What reading a damaged Parquet file raises."""

_BATCH = 4096  # rows at most
_BATCH_SIZE = 64 << 20  # bytes of a batch, by what is known before it is read
_DICTIONARY_SIZE = 256 << 20  # bytes of a batch if every row were all that a dictionary holds
_UNPACKED = 512 << 20  # bytes that may come of any few
_RATIO = 1000  # of those in the file, beyond them
_ROWS = 10_000_000  # that any file may have
_ROWS_A_BYTE = 10  # of the file, beyond them
_CONTAINER = 200_000  # columns, or row groups
_MOST_COLUMNS = 1000  # where all are read
_DICTIONARY = re.compile(rb"\x15\x04\x15([\x80-\xff]*[\x00-\x7f])")  # how a dictionary's page begins, and its size

Row = tuple[int, Mapping[str, Any]]
"""The number of a row in its file, from 1, and its values by column."""


def is_parquet_file(stream: IO[bytes], name: str) -> bool:
    """Whether a file is to be read as Parquet: it is by its bytes, or says so by its name."""
    return is_parquet(stream) or name.lower().endswith((".parquet", ".pq"))


def open_parquet(stream: IO[bytes], name: str) -> pq.ParquetFile:
    """Open a file to be read with `batches`.

    Raises:
        InputError: it is none, or its footer claims what cannot be.
    """
    try:
        file = pq.ParquetFile(
            stream, buffer_size=1 << 20, pre_buffer=False, page_checksum_verification=True,
            thrift_container_size_limit=_CONTAINER,
        )  # fmt: skip
    except PARQUET_DAMAGE as error:
        raise InputError(f"{name}: cannot be read as Parquet: {reason_of(error)}") from None
    size = stream.seek(0, os.SEEK_END)
    groups = [file.metadata.row_group(number).num_rows for number in range(file.metadata.num_row_groups)]
    if min(groups, default=0) < 0 or sum(groups) > max(_ROWS, _ROWS_A_BYTE * size):
        raise InputError(f"{name}: its footer claims {sum(groups):,} rows in {size:,} bytes: it is damaged")
    return file


def batches(file: pq.ParquetFile, stream: IO[bytes], name: str, columns: list[str]) -> Iterator[pa.RecordBatch]:
    """The rows of what `open_parquet` opened.

    Raises:
        InputError: they cannot be read, or are out of proportion to the file.
    """
    size = stream.seek(0, os.SEEK_END)
    read = held = 0
    try:
        rows = _rows_at_once(file, stream, columns)
        for batch in file.iter_batches(rows, columns=columns, use_threads=False):
            yield batch
            read += batch.num_rows
            held += batch.nbytes
            if held > max(_UNPACKED, _RATIO * size):
                raise pa.ArrowInvalid(f"more than {held >> 20:,} MiB come out of a file of {size:,} bytes")
    except PARQUET_DAMAGE as error:
        raise InputError(f"{name}: cannot be read as Parquet beyond row {read}: {reason_of(error)}") from None


def parquet_rows(stream: IO[bytes], name: str, wanted: tuple[str, ...] | None = None) -> Iterator[Row]:
    """The rows of a Parquet file, with the columns that are wanted of those it has; all where None.

    Raises:
        InputError: it is none, cannot be read, or names a column twice.
    """
    file = open_parquet(stream, name)
    names = file.schema_arrow.names
    if len({*names}) < len(names):
        twice = [column for column in dict.fromkeys(names) if names.count(column) > 1][:1]
        raise InputError(f"{name}: column {listed(twice)} stands there twice")
    columns = names if wanted is None else [column for column in names if column in wanted] or names
    if len(columns) > _MOST_COLUMNS:
        raise InputError(f"{name}: has {len(columns):,} columns, and none that is known here: {listed(columns)}")
    read = 0
    for batch in batches(file, stream, name, columns):
        try:
            rows = batch.to_pylist()
        except (*PARQUET_DAMAGE, ValueError, OverflowError) as error:
            raise InputError(f"{name}: cannot be read as Parquet beyond row {read}: {reason_of(error)}") from None
        yield from enumerate(rows, read + 1)
        read += batch.num_rows


def _rows_at_once(file: pq.ParquetFile, stream: IO[bytes], columns: list[str]) -> int:
    """How many rows are decoded together.

    Raises:
        One of PARQUET_DAMAGE: the description of a column is damaged, or promises more than its bytes can hold.
    """
    footer = pq.ParquetFile(_NoData(), metadata=file.metadata, pre_buffer=False)
    rows, leaves = _BATCH, _leaves(file.schema, columns)
    for group in range(file.metadata.num_row_groups):
        described, total, dictionary = file.metadata.row_group(group), 0, 0
        for leaf in leaves:
            with suppress(_ReachedDataError):  # only here is a bad description an exception, and not the process's end
                footer.read_row_group(group, columns=[file.schema.column(leaf).path], use_threads=False)
            chunk = described.column(leaf)
            unpacked, packed = chunk.total_uncompressed_size, chunk.total_compressed_size
            if unpacked > max(_UNPACKED, _RATIO * packed):
                raise pa.ArrowInvalid(f"column {chunk.path_in_schema} unpacks from {packed:,} bytes to {unpacked:,}")
            total += unpacked
            if chunk.has_dictionary_page and chunk.physical_type == "BYTE_ARRAY" and unpacked * rows > _DICTIONARY_SIZE:
                stream.seek(min(chunk.dictionary_page_offset, chunk.data_page_offset))
                if begins := _DICTIONARY.match(stream.read(16)):
                    size = sum((byte & 127) << 7 * at for at, byte in enumerate(begins[1])) >> 1
                    dictionary = max(dictionary, size)
        average = max(total // max(described.num_rows, 1), 1)
        rows = max(1, min(rows, _BATCH_SIZE // average, _DICTIONARY_SIZE // max(dictionary, 1)))
    return rows


def _leaves(schema: pq.ParquetSchema, columns: list[str]) -> list[int]:
    paths = (f"{schema.column(leaf).path}." for leaf in range(len(schema)))
    return [leaf for leaf, path in enumerate(paths) if any(path.startswith(f"{name}.") for name in columns)]


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
