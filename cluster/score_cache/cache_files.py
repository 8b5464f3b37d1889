"""One file of the score cache: sorted Parquet with small row groups."""

import io
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import ClusterError, StorageError, first_line
from ray_rerank.cluster.storage import (
    StoredFile,
    fingerprint,
    join,
    open_read,
    write_whole,
)

FORMAT = "2"
SCHEMA = pa.schema([("query", pa.binary(16)), ("document", pa.binary(16)), ("score", pa.float32())])
GROUP_ROWS = 2048  # rows of a row group: what one query costs to look up
_GROUPS_AT_A_TIME = 256  # row groups in memory during a lookup
_TAIL = 1 << 16  # bytes read at first where a footer is expected
_NAME = re.compile(r"[0-9a-f]{32}-([0-9a-f]{32})\.parquet")
Keys = np.ndarray
"""uint8 of (n, 16)."""


class BadRunError(ClusterError):
    """A file in the cache that is no run of this format and scorer, with the reason."""


@dataclass(frozen=True, slots=True)
class CacheFile:
    """A run's footer.

    Attributes:
        file: where it lies.
        firsts: uint64, the first eight bytes of each row group's first query.
        last: the first eight bytes of the last query.
        rows: entries.
        seconds: what computing them took, in actor-seconds.
        footer: decoded, where it is worth its memory.
    """

    file: StoredFile
    firsts: np.ndarray
    last: int
    rows: int
    seconds: float
    footer: pq.FileMetaData | None = None


def prefixes(keys: Keys) -> np.ndarray:
    """uint64 of n: the first eight bytes of each key, in the order of the keys."""
    return np.ascontiguousarray(keys[:, :8]).view(">u8").ravel().astype(np.uint64)


def to_table(query: Keys, document: Keys, score: np.ndarray) -> pa.Table:
    """A table of SCHEMA."""

    def column(keys: Keys) -> pa.Array:
        buffer = pa.py_buffer(np.ascontiguousarray(keys))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(keys), [None, buffer])

    return pa.Table.from_arrays([column(query), column(document), pa.array(score, pa.float32())], schema=SCHEMA)


def from_table(table: pa.Table) -> tuple[Keys, Keys, np.ndarray]:
    """The inverse of `to_table`."""

    def keys(name: str) -> Keys:
        array = table[name].combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
        flat = np.frombuffer(array.buffers()[1] or b"", dtype=np.uint8)
        return flat[16 * array.offset : 16 * (array.offset + len(array))].reshape(-1, 16)

    return keys("query"), keys("document"), table["score"].to_numpy()


def write_run(folder: str, table: pa.Table, seconds: float) -> str | None:
    """Write entries as one run: sorted, the first of each key kept, scores that are not finite left out.

    Args:
        folder: the namespace's.
        table: of SCHEMA, in any order.
        seconds: what computing the entries took.

    Returns:
        The run's URI; None where nothing is left to write.

    Raises:
        StorageError: it cannot be written.
    """
    query, document, score = from_table(table)
    joined = np.concatenate([query, document], axis=1).view("S32").ravel()
    order = np.argsort(joined, kind="stable")
    fresh = np.ones(len(order), dtype=bool)
    fresh[1:] = joined[order][1:] != joined[order][:-1]
    order = order[fresh & np.isfinite(score[order])]
    if not len(order):
        return None
    told = {"ray-rerank-cache": FORMAT, "namespace": folder.rstrip("/").rpartition("/")[2], "seconds": repr(seconds)}
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression="none",  # hashes do not compress
        use_dictionary=False,
        write_statistics=["query"],
        write_page_checksum=True,
        store_schema=False,
    ) as writer:
        writer.write_table(to_table(query[order], document[order], score[order]), row_group_size=GROUP_ROWS)
        writer.add_key_value_metadata(told)
    data = sink.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    uri = join(folder, f"{fingerprint(data)}-{fingerprint(footer)}.parquet")
    write_whole(uri, data)
    return uri


def open_run(file: StoredFile, namespace: str, keep_footer: bool = False) -> CacheFile:
    """Read a run's footer.

    Raises:
        BadRunError: it is no run of this format and scorer, or is gone.
    """
    metadata = _footer(file)
    told = metadata.metadata or {}
    version = told.get(b"ray-rerank-cache", b"").decode(errors="replace")
    if version != FORMAT:
        raise BadRunError(f"format {version[:20]}, this version reads {FORMAT}" if version else "not a cache file")
    if told.get(b"namespace", b"").decode(errors="replace") != namespace:
        raise BadRunError("made for another scorer")
    try:
        return _run(file, metadata, float(told.get(b"seconds", b"nan")), keep_footer)
    except (ValueError, AttributeError, TypeError, IndexError, pa.ArrowException) as error:
        raise BadRunError(f"not a cache file of format {FORMAT}: {error}") from None


def _run(file: StoredFile, metadata: pq.FileMetaData, seconds: float, keep_footer: bool) -> CacheFile:
    """Raises what a footer of another form leads to."""
    if not metadata.schema.to_arrow_schema().equals(SCHEMA) or not 0 <= seconds < math.inf:
        raise ValueError("its columns or its figures are others")
    groups = [metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups)]
    firsts = prefixes(np.frombuffer(b"".join(group.min for group in groups), dtype=np.uint8).reshape(len(groups), 16))
    last = int.from_bytes(groups[-1].max[:8], "big")
    return CacheFile(file, firsts, last, metadata.num_rows, seconds, metadata if keep_footer else None)


def _footer(file: StoredFile) -> pq.FileMetaData:
    """A run's footer, checked before it is decoded: a damaged one can end the process that decodes it."""
    if file.fault:
        raise BadRunError(file.fault)
    name = _NAME.fullmatch(file.path.rpartition("/")[2])
    if name is None:
        raise BadRunError(f"not a cache file of format {FORMAT}")
    try:
        with open_read(file.path) as source:
            tail = _last(source, file.size, _TAIL)
            size = 8 + int.from_bytes(tail[-8:-4], "little")
            tail = tail[-size:] if size <= len(tail) else _last(source, file.size, size)
        if fingerprint(tail) != name[1]:
            raise BadRunError("not whole, or its footer is damaged")
        return pq.read_metadata(io.BytesIO(b"PAR1" + tail))
    except (pa.ArrowException, OSError, StorageError) as error:
        raise BadRunError(f"cannot be read: {first_line(error)}") from None


def _last(source: IO[bytes], size: int, most: int) -> bytes:
    source.seek(max(size - most, 0))
    return source.read()


def read_groups(run: CacheFile, groups: np.ndarray) -> Iterator[tuple[Keys, Keys, np.ndarray]]:
    """Read some row groups, a bounded number at a time, checksums verified.

    Raises:
        BadRunError: they are damaged, or the run is gone.
    """
    try:
        with (
            open_read(run.file.path) as source,
            pq.ParquetFile(
                source, metadata=run.footer or _footer(run.file), page_checksum_verification=True, pre_buffer=True
            ) as parquet,
        ):
            for start in range(0, len(groups), _GROUPS_AT_A_TIME):
                chosen = groups[start : start + _GROUPS_AT_A_TIME].tolist()
                yield from_table(parquet.read_row_groups(chosen, use_threads=False))
    except (pa.ArrowException, OSError, StorageError) as error:
        raise BadRunError(f"damaged: {first_line(error)}") from None


def groups_of(run: CacheFile, wanted: np.ndarray) -> np.ndarray:
    """int64: the row groups of a run that may hold one of the wanted prefixes (sorted uint64)."""
    inside = wanted[(wanted >= run.firsts[0]) & (wanted <= np.uint64(run.last))]
    low = np.maximum(np.searchsorted(run.firsts, inside, side="left") - 1, 0)
    high = np.searchsorted(run.firsts, inside, side="right") - 1
    spread = [np.arange(start, stop + 1) for start, stop in set(zip(low.tolist(), high.tolist(), strict=True))]
    return np.unique(np.concatenate(spread)) if spread else np.zeros(0, dtype=np.int64)
