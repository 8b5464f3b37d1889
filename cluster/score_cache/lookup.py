"""Scores that were computed once: sorted Parquet runs on any storage, looked up by (query hash, document hash).

    CACHE/NAMESPACE/scorer.json     what the scorer is; NAMESPACE is the fingerprint of that
    CACHE/NAMESPACE/RUN.parquet     query: 16 bytes, document: 16 bytes, score: float32; sorted, no key twice

A run is written whole, under a name made of its content and its footer's, and never changed: writers need not know of
each other. A lookup reads the row groups whose statistics admit a query that was asked for, and nothing else. What is
not a run of this format is noted and left alone; the footer is held against the name before it is decoded, and pages
against their checksums, so that a damaged byte costs the file, never a wrong score or the process.
"""

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.score_cache.cache_files import (
    BadRunError,
    CacheFile,
    Keys,
    groups_of,
    open_run,
    prefixes,
    read_groups,
)
from ray_rerank.cluster.storage import StoredFile, fingerprint, join, list_files, read_bytes, write_whole

_OPENERS = 8  # runs opened at a time
_KEPT_GROUPS = 1 << 15  # row groups whose footers a worker keeps decoded: some 30 MB


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
        self._runs: dict[StoredFile, CacheFile | None] = {}
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

    def _known_runs(self) -> list[CacheFile]:
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

    def _open(self, file: StoredFile) -> CacheFile | None:
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


def _matches(run: CacheFile, wanted: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    """Keys (S32, query and document) and scores of the entries whose query's prefix is wanted."""
    for query, document, score in read_groups(run, groups_of(run, wanted)):
        own = prefixes(query)
        start, stop = np.searchsorted(own, wanted, side="left"), np.searchsorted(own, wanted, side="right")
        size = stop - start
        rows = np.repeat(start - (np.cumsum(size) - size), size) + np.arange(size.sum())
        yield np.concatenate([query[rows], document[rows]], axis=1).view("S32").ravel(), score[rows]
