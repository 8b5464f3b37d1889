"""A score cache as a whole: what it holds, whether it is sound, and its runs merged into few."""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.records import DamagedRecordError, parsed
from ray_rerank.cluster.score_cache.cache_files import (
    BadRunError,
    CacheFile,
    from_table,
    open_run,
    prefixes,
    read_groups,
    to_table,
    write_run,
)
from ray_rerank.cluster.storage import StoredFile, filesystem, fingerprint, join, list_files, read_bytes

_FINGERPRINT = re.compile("[0-9a-f]{32}")

FILE_ROWS = 1 << 22  # entries of a merged run: some 150 MB, and a few times that in memory while merging


@dataclass(frozen=True, slots=True)
class Namespace:
    """One scorer's part of a cache.

    Attributes:
        name: the fingerprint of `scorer`.
        scorer: all that decides its scores; empty where the description is missing or damaged.
        runs: those that can be read, by name.
        bad: other files, with the reason.
    """

    uri: str
    name: str
    scorer: dict[str, Any]
    runs: tuple[CacheFile, ...]
    bad: tuple[tuple[str, str], ...]

    @property
    def folder(self) -> str:
        """Where its runs lie."""
        return join(self.uri, self.name)


@dataclass(frozen=True, slots=True)
class Merged:
    """What a compaction did to a namespace: runs and entries before and after."""

    runs_before: int
    runs_after: int
    entries_before: int
    entries_after: int


def namespaces(uri: str) -> tuple[list[Namespace], list[str]]:
    """All scorers of a cache by name, footers read; and files that belong to none.

    Raises:
        StorageError: there is nothing, or what is there is no cache, or it cannot be listed.
    """
    below: dict[str, list[StoredFile]] = {}
    strangers = []
    files = list_files(uri, ("",))
    root = _root(uri)
    for file in files:
        name, _, rest = _path(file.path)[len(root) :].lstrip("/").partition("/")
        if _FINGERPRINT.fullmatch(name) and rest and "/" not in rest:
            below.setdefault(name, []).append(file)
        else:
            strangers.append(file.path)
    if strangers and not below:
        raise StorageError(f"{uri}: is no score cache: it holds {len(strangers)} files and no scorer's folder")
    return [_namespace(uri, name, found) for name, found in sorted(below.items())], strangers


def check(namespace: Namespace) -> list[tuple[str, str]]:
    """Read every entry: the files that are no sound run, each with the reason.

    Memory does not grow with the cache: a bounded number of row groups is read at a time.
    """
    faults = list(namespace.bad)
    for run in namespace.runs:
        last = b""
        try:
            for query, document, score in read_groups(run, np.arange(len(run.firsts))):
                keys = np.concatenate([query, document], axis=1).view("S32").ravel()
                if not (keys[1:] > keys[:-1]).all() or not keys[0] > last:
                    raise BadRunError("its entries are not sorted, or a key is there twice")
                if not np.isfinite(score).all():
                    raise BadRunError("a score is not a finite number")
                last = keys[-1]
        except BadRunError as error:
            faults.append((run.file.path, str(error)))
    return faults


def sound(namespace: Namespace) -> Namespace:
    """The same without the runs that are damaged: they are among `bad`."""
    bad = tuple(check(namespace))
    damaged = {path for path, _ in bad}
    return replace(namespace, runs=tuple(run for run in namespace.runs if run.file.path not in damaged), bad=bad)


def merged(namespace: Namespace) -> Iterator[tuple[pa.Table, float]]:
    """All entries in ranges of their query hash, ascending, each about FILE_ROWS; and the seconds they took.

    A key may be there twice; the first is the one that a lookup finds.

    Raises:
        BadRunError: a run cannot be read to its end.
    """
    parts = max(math.ceil(sum(run.rows for run in namespace.runs) / FILE_ROWS), 1)
    edges = [part * 2**64 // parts for part in range(parts + 1)]
    for start, stop in itertools.pairwise(edges):
        tables, seconds = [], 0.0
        for run in namespace.runs:
            low = max(int(np.searchsorted(run.firsts, np.uint64(start), side="left")) - 1, 0)
            high = int(np.searchsorted(run.firsts, np.uint64(stop - 1), side="right"))
            for query, document, score in read_groups(run, np.arange(low, high)):
                own = prefixes(query)
                inside = (own >= np.uint64(start)) & (own <= np.uint64(stop - 1))
                tables.append(to_table(query[inside], document[inside], score[inside]))
                seconds += run.seconds * int(inside.sum()) / run.rows
        if tables:
            yield pa.concat_tables(tables), seconds


def compact(namespace: Namespace) -> Merged:
    """Merge the runs of a `sound` namespace into few that do not overlap; readers and writers may go on meanwhile.

    The old runs are removed only when all their entries stand in new ones. Other files are left alone.

    Raises:
        BadRunError: a run went away while it was read: another compaction is at work; nothing is removed.
        StorageError: a run cannot be written; nothing is removed.
    """
    before = sum(run.rows for run in namespace.runs)
    if _is_compact(namespace):
        return Merged(len(namespace.runs), len(namespace.runs), before, before)
    written = {write_run(namespace.folder, table, seconds) for table, seconds in merged(namespace)} - {None}
    names = {str(uri).rpartition("/")[2] for uri in written}
    system, _ = filesystem(namespace.uri)
    for run in namespace.runs:
        if run.file.path.rpartition("/")[2] not in names:
            try:
                system.rm_file(_path(run.file.path))
            except FileNotFoundError:  # another compaction removed it
                continue
    after = _namespace(namespace.uri, namespace.name, list_files(namespace.folder, (".parquet",)))
    kept = [run for run in after.runs if run.file.path.rpartition("/")[2] in names]
    return Merged(len(namespace.runs), len(kept), before, sum(run.rows for run in kept))


def _is_compact(namespace: Namespace) -> bool:
    runs = sorted(namespace.runs, key=lambda run: int(run.firsts[0]))
    apart = all(one.last < int(other.firsts[0]) for one, other in itertools.pairwise(runs))
    return apart and len(runs) <= 2 * max(math.ceil(sum(run.rows for run in runs) / FILE_ROWS), 1)


def _namespace(uri: str, name: str, files: list[StoredFile]) -> Namespace:
    runs, bad = [], []
    described = _described(join(uri, name, "scorer.json"))
    is_own = fingerprint(described) == name  # then it is what a job wrote
    for file in files:
        if file.path.endswith("/scorer.json"):
            if not is_own:
                bad.append((file.path, "is not what this scorer is; the next job with it writes it again"))
            continue
        try:
            if not file.path.endswith(".parquet"):
                raise BadRunError("not a cache file")
            runs.append(open_run(file, name))
        except BadRunError as error:
            bad.append((file.path, str(error)))
    return Namespace(uri, name, _scorer(described) if is_own else {}, tuple(runs), tuple(bad))


def _described(place: str) -> bytes:
    try:
        return read_bytes(place) or b""
    except StorageError:
        return b""


def _scorer(described: bytes) -> dict[str, Any]:
    try:
        return parsed("", described, dict[str, Any])
    except DamagedRecordError:
        return {}


def _path(uri: str) -> str:
    return str(filesystem(uri)[1])


def _root(uri: str) -> str:
    return _path(uri).rstrip("/")


def hashes(table: pa.Table) -> pa.Table:
    """Entries for people: query_hash and document_hash as 32 hexadecimal digits, score; each key once, sorted."""
    query, document, score = from_table(table)
    keys = np.concatenate([query, document], axis=1)
    _, first = np.unique(keys.view("S32").ravel(), return_index=True)
    digits = [keys[row].tobytes().hex() for row in first]
    return pa.table(
        {
            "query_hash": pa.array([key[:32] for key in digits], pa.string()),
            "document_hash": pa.array([key[32:] for key in digits], pa.string()),
            "score": pa.array(score[first], pa.float32()),
        }
    )
