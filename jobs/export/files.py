"""The files of one export, written row by row, each whole or absent."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from ray_rerank.cluster.storage import join, writing_whole
from ray_rerank.operators.export_formats.format import Export, File
from ray_rerank.operators.export_formats.selection import ExportOptions

SECOND = "text beside another of the same id: the first is kept"
_BATCH = 4096  # rows held before they are written: a row group


class ExportFiles:
    """Takes the rows of every file of an export.

    Of a column whose value stands once, two 16-byte digests are held in memory for each value.

    Attributes:
        rows: how many were written, by file.
        refused: how many were not, by reason.
    """

    def __init__(self, export: Export, choice: ExportOptions, sinks: dict[str, IO[bytes]]) -> None:
        self.rows = Counter({file.name: 0 for file in export.files})
        self._files = {file.name: file for file in export.files}
        self._schemas = {file.name: file.schema(choice) for file in export.files}
        self._sinks = sinks
        self._parquet: dict[str, pq.ParquetWriter] = {}
        for name, schema in self._schemas.items():
            if name.endswith(".parquet"):
                self._parquet[name] = pq.ParquetWriter(sinks[name], schema, compression="zstd")
            elif name.endswith(".tsv"):
                sinks[name].write("\t".join(schema.names).encode() + b"\n")
        self._held: dict[str, list[dict[str, Any]]] = {name: [] for name in self._files}
        self.refused: Counter[str] = Counter()
        self._met: dict[str, dict[bytes, bytes]] = {name: {} for name, file in self._files.items() if file.once}

    def write(self, name: str, row: dict[str, Any]) -> None:
        """Add a row to a file."""
        if self._is_met(self._files[name], row):
            return
        self.rows[name] += 1
        self._held[name].append(row)
        if len(self._held[name]) >= _BATCH:
            self._flush(name)

    def close(self) -> None:
        """Write what is held, and the footers."""
        for name in self._files:
            self._flush(name)
        for writer in self._parquet.values():
            writer.close()

    def _is_met(self, file: File, row: dict[str, Any]) -> bool:
        if file.once is None:
            return False
        value, whole = (xxhash.xxh3_128_digest(repr(part).encode()) for part in (row[file.once], row))
        met = self._met[file.name]
        if value not in met:
            met[value] = whole
            return False
        if met[value] != whole:
            self.refused[SECOND] += 1
        return True

    def _flush(self, name: str) -> None:
        rows, self._held[name] = self._held[name], []
        if not rows:
            return
        if name in self._parquet:
            self._parquet[name].write_table(pa.Table.from_pylist(rows, schema=self._schemas[name]))
            return
        lines = io.StringIO()
        for row in rows:
            tabs = name.endswith(".tsv")
            line = "\t".join(str(value) for value in row.values()) if tabs else json.dumps(row, ensure_ascii=False)
            lines.write(line + "\n")
        self._sinks[name].write(lines.getvalue().encode())


@contextmanager
def export_files(output: str, export: Export, choice: ExportOptions) -> Iterator[ExportFiles]:
    """Open all files of an export; they are put in place when the with-block ends well.

    Raises:
        StorageError: one cannot be written.
    """
    with ExitStack() as stack:
        sinks = {file.name: stack.enter_context(writing_whole(join(output, file.name))) for file in export.files}
        files = ExportFiles(export, choice, sinks)
        try:
            yield files
        finally:
            files.close()
