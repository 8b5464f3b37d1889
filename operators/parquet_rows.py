"""Rows of a Parquet file as mappings."""

from collections.abc import Iterator, Mapping
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from operators.content import is_parquet
from operators.errors import InputError

_BATCH = 4096

Row = tuple[int, Mapping[str, Any]]
"""The number of a row in its file, from 1, and its values by column."""


def is_parquet_file(stream: IO[bytes], name: str) -> bool:
    """Whether a file is to be read as Parquet: it is by its bytes, or says so by its name."""
    return is_parquet(stream) or name.lower().endswith((".parquet", ".pq"))


def parquet_rows(stream: IO[bytes], name: str, wanted: tuple[str, ...] | None = None) -> Iterator[Row]:
    """The rows of a Parquet file, with the columns that are wanted of those it has; all where None.

    Raises:
        InputError: it is none, cannot be read, or names a column twice.
    """
    read = 0
    try:
        file = pq.ParquetFile(stream)
        names = file.schema_arrow.names
        if twice := [column for column in dict.fromkeys(names) if names.count(column) > 1]:
            raise InputError(f"{name}: column {twice[0]} stands there twice")
        columns = None if wanted is None else [column for column in names if column in wanted] or None
        for batch in file.iter_batches(_BATCH, columns=columns):
            yield from enumerate(batch.to_pylist(), read + 1)
            read += batch.num_rows
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: cannot be read as Parquet beyond row {read}: {error}") from None
