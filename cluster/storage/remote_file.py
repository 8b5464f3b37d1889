"""A remote file, read in requests that are sent again from where they failed."""

import functools
import io
from typing import TYPE_CHECKING

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage.retries import RetryingFilesystem

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_PART = 16 << 20  # bytes of one request where a whole remote file is read


class RemoteFile(io.RawIOBase):
    """A remote file, read by ranges."""

    def __init__(self, system: RetryingFilesystem, path: str, size: int) -> None:
        self._system = system
        self._path = path
        self._size = size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._at = max({io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence] + offset, 0)
        return self._at

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        into = memoryview(buffer).cast("B")
        data = self._part(len(into))
        into[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        """Python's own asks for 8 KiB at a time."""
        return b"".join(iter(functools.partial(self._part, _PART), b""))

    def _part(self, most: int) -> bytes:
        asked = min(most, self._size - self._at)
        if asked <= 0:
            return b""
        data: bytes = self._system.cat_file(self._path, start=self._at, end=self._at + asked)
        if not 0 < len(data) <= asked:
            raise StorageError(f"{self._path}: was asked for {asked} bytes at {self._at} and gave {len(data)}")
        self._at += len(data)
        return data
