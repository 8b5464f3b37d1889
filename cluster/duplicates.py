"""Which values of a column stood before, over many files: ids that should be there once."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xxhash


@dataclass(frozen=True, slots=True)
class Repeats:
    """Rows whose value stood before.

    Attributes:
        rows: int64 by file, rising.
        example: one of them: its file and row, and those of the row with the same value before it.
    """

    rows: dict[str, np.ndarray]
    example: tuple[str, int, str, int] | None


@dataclass(slots=True)
class Values:
    """The values that were seen, as 128-bit hashes: 24 bytes each."""

    _files: list[str] = field(default_factory=list)
    _rows: list[np.ndarray] = field(default_factory=list)
    _hashes: list[bytes] = field(default_factory=list)

    def add(self, file: str, rows: np.ndarray, values: pa.Array) -> None:
        """See some values of a file.

        Args:
            rows: int64 of n, where they stand.
            values: n strings, bytes or integers; nulls are passed over.
        """
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if pa.types.is_integer(values.type):
            values = values.cast(pa.string())
        self._files.append(file)
        self._rows.append(rows[values.is_valid().to_numpy(zero_copy_only=False)])
        seen = values.cast(pa.large_binary()).drop_null().to_pylist()  # views have no filter
        self._hashes.append(b"".join(xxhash.xxh3_128_digest(value) for value in seen))

    def repeats(self) -> Repeats:
        """Of what was seen so far."""
        hashes = np.frombuffer(b"".join(self._hashes), dtype=np.uint64).reshape(-1, 2)
        order = np.lexsort((hashes[:, 0], hashes[:, 1]))  # stable: of equals, the one that was seen first leads
        same = (hashes[order[1:]] == hashes[order[:-1]]).all(axis=1)
        again = np.sort(order[1:][same])
        if not len(again):
            return Repeats({}, None)
        rows = np.concatenate(self._rows)
        files = np.repeat(np.arange(len(self._files)), [len(own) for own in self._rows])
        by_file = {self._files[number]: rows[again[files[again] == number]] for number in np.unique(files[again])}
        first = int(np.flatnonzero((hashes == hashes[again[0]]).all(axis=1))[0])
        found = [(self._files[files[place]], int(rows[place])) for place in (again[0], first)]
        return Repeats(by_file, (*found[0], *found[1]))
