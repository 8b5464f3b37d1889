"""Scores that were computed once: sorted Parquet runs on any storage, looked up by (query hash, document hash).

    CACHE/NAMESPACE/scorer.json     what the scorer is; NAMESPACE is the fingerprint of that
    CACHE/NAMESPACE/RUN.parquet     query: 16 bytes, document: 16 bytes, score: float32; sorted, no key twice

A run is written whole, under a name made of its content and its footer's, and never changed: writers need not know of
each other. A lookup reads the row groups whose statistics admit a query that was asked for, and nothing else. What is
not a run of this format is noted and left alone; the footer is held against the name before it is decoded, and pages
against their checksums, so that a damaged byte costs the file, never a wrong score or the process.
"""

import io
import json
import math
import re
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ray_rerank.cluster.errors import ClusterError, StorageError
from ray_rerank.cluster.storage.files import (
    StoredFile,
    fingerprint,
    join,
    list_files,
    open_read,
    read_bytes,
    write_whole,
)

FORMAT = "2"
SCHEMA = pa.schema([("query", pa.binary(16)), ("document", pa.binary(16)), ("score", pa.float32())])

GROUP_ROWS = 2048  # rows of a row group: what one query costs to look up
_GROUPS_AT_A_TIME = 256  # row groups in memory during a lookup
_OPENERS = 8  # runs opened at a time
_TAIL = 1 << 16  # bytes read at first where a footer is expected
_NAME = re.compile(r"[0-9a-f]{32}-([0-9a-f]{32})\.parquet")
_KEPT_GROUPS = 1 << 15  # row groups whose footers a worker keeps decoded: some 30 MB

Keys = np.ndarray
"""uint8 of (n, 16)."""


class BadRunError(ClusterError):
    """A file in the cache that is no run of this format and scorer, with the reason."""


@dataclass(frozen=True, slots=True)
class Run:
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


def entries(query: Keys, document: Keys, score: np.ndarray) -> pa.Table:
    """A table of SCHEMA."""

    def column(keys: Keys) -> pa.Array:
        buffer = pa.py_buffer(np.ascontiguousarray(keys))
        return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(keys), [None, buffer])

    return pa.Table.from_arrays([column(query), column(document), pa.array(score, pa.float32())], schema=SCHEMA)


def columns(table: pa.Table) -> tuple[Keys, Keys, np.ndarray]:
    """The inverse of `entries`."""

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
    query, document, score = columns(table)
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
        writer.write_table(entries(query[order], document[order], score[order]), row_group_size=GROUP_ROWS)
        writer.add_key_value_metadata(told)
    data = sink.getvalue()
    footer = data[-8 - int.from_bytes(data[-8:-4], "little") :]
    uri = join(folder, f"{fingerprint(data)}-{fingerprint(footer)}.parquet")
    write_whole(uri, data)
    return uri


def open_run(file: StoredFile, namespace: str, keep_footer: bool = False) -> Run:
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


def _run(file: StoredFile, metadata: pq.FileMetaData, seconds: float, keep_footer: bool) -> Run:
    """Raises what a footer of another form leads to."""
    if not metadata.schema.to_arrow_schema().equals(SCHEMA) or not 0 <= seconds < math.inf:
        raise ValueError("its columns or its figures are others")
    groups = [metadata.row_group(number).column(0).statistics for number in range(metadata.num_row_groups)]
    firsts = prefixes(np.frombuffer(b"".join(group.min for group in groups), dtype=np.uint8).reshape(len(groups), 16))
    last = int.from_bytes(groups[-1].max[:8], "big")
    return Run(file, firsts, last, metadata.num_rows, seconds, metadata if keep_footer else None)


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
        raise BadRunError(f"cannot be read: {str(error).splitlines()[0]}") from None


def _last(source: IO[bytes], size: int, most: int) -> bytes:
    source.seek(max(size - most, 0))
    return source.read()


def read_groups(run: Run, groups: np.ndarray) -> Iterator[tuple[Keys, Keys, np.ndarray]]:
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
                yield columns(parquet.read_row_groups(chosen, use_threads=False))
    except (pa.ArrowException, OSError, StorageError) as error:
        raise BadRunError(f"damaged: {str(error).splitlines()[0]}") from None


class ScoreCache:
    """One scorer's entries, as a worker sees them: footers are read once, entries when they are asked for.

    Attributes:
        notes: what was found that is no run, and storage that did not answer; one line each.
    """

    def __init__(self, uri: str, namespace: str) -> None:
        """Look at no file yet.

        Args:
            uri: the cache, shared by all scorers.
            namespace: the fingerprint of the scorer.
        """
        self.namespace = namespace
        self.folder = join(uri, namespace)
        self.notes: list[str] = []
        self._runs: dict[StoredFile, Run | None] = {}
        self._kept_groups = 0

    @classmethod
    def of(cls, uri: str, identity: dict[str, Any]) -> "ScoreCache":
        """The part of a cache that belongs to a scorer, there or not; nothing is read or written yet."""
        return cls(uri, fingerprint(_described(identity)))

    @classmethod
    def open(cls, uri: str, identity: dict[str, Any]) -> "ScoreCache":
        """The part of a cache that belongs to a scorer; what the scorer is is written down if that is not there.

        Args:
            uri: the cache, shared by all scorers.
            identity: all that decides a score.
        """
        described = _described(identity)
        cache = cls.of(uri, identity)
        place = join(cache.folder, "scorer.json")
        try:
            if read_bytes(place) != described:
                write_whole(place, described)
        except StorageError as error:
            cache._note(str(error))
        return cache

    def lookup(self, query: Keys, document: Keys) -> tuple[np.ndarray, float]:
        """Look entries up; what cannot be read counts as not there.

        Args:
            query, document: n keys each.

        Returns:
            float32 of n, NaN where there is no entry; and the seconds that computing the others took.
        """
        for _ in range(3):  # a compaction may remove runs while they are read; what was in them is in another then
            try:
                return self._look(query, document)
            except FileNotFoundError:
                continue
        self._note(f"{self.folder}: changes faster than it can be read; nothing was taken from it")
        return np.full(len(query), np.nan, dtype=np.float32), 0.0

    def _look(self, query: Keys, document: Keys) -> tuple[np.ndarray, float]:
        scores = np.full(len(query), np.nan, dtype=np.float32)
        saved = 0.0
        if not len(query):
            return scores, saved
        joined = np.concatenate([query, document], axis=1).view("S32").ravel()
        asked, inverse = np.unique(joined, return_inverse=True)
        found = np.full(len(asked), np.nan, dtype=np.float32)
        wanted = np.unique(prefixes(query))
        for run in self._known_runs():
            hits = 0
            try:
                for keys, values in _matches(run, wanted):
                    at = np.searchsorted(asked, keys)
                    at[at == len(asked)] = 0
                    new = (asked[at] == keys) & np.isnan(found[at])
                    found[at[new]] = values[new]
                    hits += int(new.sum())
            except BadRunError as error:
                if run.file not in self._files():
                    raise FileNotFoundError(run.file.path) from None
                self._runs[run.file] = None
                self._note(f"{run.file.path}: {error}; left alone")
            saved += run.seconds * hits / run.rows
        found[~np.isfinite(found)] = np.nan
        return found[inverse], saved

    def _known_runs(self) -> list[Run]:
        """All runs that are there now, by name; the footers of those that are new are read."""
        files = self._files()
        self._runs = {file: self._runs[file] for file in files if file in self._runs}
        self._kept_groups = sum(len(run.firsts) for run in self._runs.values() if run and run.footer)
        new = [file for file in files if file not in self._runs]
        with ThreadPoolExecutor(_OPENERS) as openers:
            for file, opened in zip(new, openers.map(self._open, new), strict=True):
                self._runs[file] = opened
        return [run for file in files if (run := self._runs[file]) is not None]

    def _files(self) -> list[StoredFile]:
        try:
            return list_files(self.folder, (".parquet",))
        except StorageError:
            return []  # no entry yet, or no answer: either way there is nothing to take

    def _open(self, file: StoredFile) -> Run | None:
        try:
            run = open_run(file, self.namespace, self._kept_groups < _KEPT_GROUPS)
            self._kept_groups += len(run.firsts) if run.footer else 0
            return run
        except BadRunError as error:
            if file in self._files():  # else it has been merged into another
                self._note(f"{file.path}: {error}; left alone")
            return None

    def _note(self, line: str) -> None:
        if line not in self.notes:
            self.notes.append(line)


def _described(identity: dict[str, Any]) -> bytes:
    return json.dumps(identity, indent=2, sort_keys=True).encode()


def groups_of(run: Run, wanted: np.ndarray) -> np.ndarray:
    """int64: the row groups of a run that may hold one of the wanted prefixes (sorted uint64)."""
    inside = wanted[(wanted >= run.firsts[0]) & (wanted <= np.uint64(run.last))]
    low = np.maximum(np.searchsorted(run.firsts, inside, side="left") - 1, 0)
    high = np.searchsorted(run.firsts, inside, side="right") - 1
    spread = [np.arange(start, stop + 1) for start, stop in set(zip(low.tolist(), high.tolist(), strict=True))]
    return np.unique(np.concatenate(spread)) if spread else np.zeros(0, dtype=np.int64)


def _matches(run: Run, wanted: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Keys (S32, query and document) and scores of the entries whose query's prefix is wanted."""
    for query, document, score in read_groups(run, groups_of(run, wanted)):
        own = prefixes(query)
        start, stop = np.searchsorted(own, wanted, side="left"), np.searchsorted(own, wanted, side="right")
        size = stop - start
        rows = np.repeat(start - (np.cumsum(size) - size), size) + np.arange(size.sum())
        yield np.concatenate([query[rows], document[rows]], axis=1).view("S32").ravel(), score[rows]
