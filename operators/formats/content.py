"""What a file is, told by its bytes and not by its name: what is compressed is unpacked, archives are refused."""

import gzip
import io
import lzma
import re
import tarfile
import zlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Any

import pyarrow as pa

from ray_rerank.operators.errors import InputError

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

COMPRESSED = (".gz", ".bz2", ".zst", ".xz")
"""How the names of compressed files end."""

SAMPLE = 1 << 20
"""So much is looked at before it is decided how a file is read."""

LONGEST = 32 << 20
"""Bytes of one line or row at most: six times the longest documents that are known."""

TOO_LONG = f"is longer than {LONGEST >> 20} MiB; cut its text, or end its lines in a line feed"

DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What reading a damaged compressed stream raises."""

_BLOCK = 512  # a tar header
_UNPACKED = 32 << 20  # bytes that may come of any few
_RATIO = 200  # of packed ones, beyond them; texts shrink to a tenth, columns of ids and ranks to a thirtieth
_XZ_MEMORY = 256 << 20  # bytes; xz -9 takes 65 MiB
_PRINTED = rb"[\t\n\r -~]"
_PARQUET = re.compile(rb"PAR1(?!%s)" % _PRINTED)
_FOREIGN = {
    re.compile(rb"PK(\x03\x04|\x05\x06|\x07\x08)"): "a ZIP archive: unpack it first and name the file that was in it",
    re.compile(rb"7z\xbc\xaf\x27\x1c|Rar!\x1a\x07"): "an archive: unpack it first and name the file that was in it",
    re.compile(rb"\x04\x22\x4d\x18|\x1f\x9d|\x5d\x00\x00"): "compressed, and not as is read here: unpack it first",
    _PARQUET: "a Parquet file, where a text file is asked for",
    re.compile(rb"\xff\xfe|\xfe\xff|(%s\0){2}|(\0%s){2}" % (_PRINTED, _PRINTED)): "UTF-16 or UTF-32: save it as UTF-8",
}


def with_compressed(endings: tuple[str, ...]) -> tuple[str, ...]:
    """The endings, and each with that of a compressed file behind it."""
    return (*endings, *(ending + packed for ending in endings for packed in COMPRESSED))


def bare_name(name: str) -> str:
    """A file's name in lower case, without the ending of a compressed one."""
    name = name.lower()
    return next((name.removesuffix(packed) for packed in COMPRESSED if name.endswith(packed)), name)


def is_parquet(stream: IO[bytes]) -> bool:
    """Whether a seekable stream at its beginning, where it stays, is a Parquet file."""
    return bool(_PARQUET.match(_opening(stream)))


def unpacked(stream: IO[bytes], name: str) -> IO[bytes]:
    """The content of a text file: the stream itself, or what unpacks it.

    Args:
        stream: seekable, at its beginning; plain, gzip, bzip2, zstd or xz, whatever its name says.

    Raises:
        InputError: it is an archive, a binary file, or text that is not UTF-8; while it is read, also where it unpacks
            to far more than any text does.
        One of DAMAGE: it is compressed and cannot be unpacked.
    """
    opening = _opening(stream)
    unpack = _unpacker(opening)
    if unpack is None:
        _refuse_foreign(opening, name)
        return stream
    inside = unpack(stream).read(_BLOCK)
    stream.seek(0)
    if _unpacker(inside):
        raise InputError(f"{name} is compressed twice: unpack it first")
    _refuse_foreign(inside, name)
    return io.BufferedReader(_Measured(unpack(stream), stream, name), SAMPLE)


def beginning(stream: IO[bytes], name: str) -> bytes:
    """The first MiB of a text file's content, without a byte-order mark; the stream stays at its beginning.

    Raises:
        InputError: as `unpacked`, or the file is damaged.
    """
    try:
        start = unpacked(stream, name).read(SAMPLE)
    except DAMAGE as error:
        raise InputError(f"{name}: cannot be read: {error}") from None
    stream.seek(0)
    return start.removeprefix(b"\xef\xbb\xbf")


def whole_text(stream: IO[bytes], name: str) -> IO[str]:
    """A text file's content as text, without a byte-order mark; line ends are as they stand there.

    Raises:
        InputError, one of DAMAGE: as `unpacked`; reading raises DAMAGE and UnicodeDecodeError.
    """
    content: Any = unpacked(stream, name)
    return io.TextIOWrapper(content, encoding="utf-8-sig", newline="\n")


def _opening(stream: IO[bytes]) -> bytes:
    opening = stream.read(_BLOCK)
    stream.seek(0)
    return opening


def _unpacker(opening: bytes) -> Callable[[IO[bytes]], IO[bytes]] | None:
    return next((unpack for magic, unpack in _UNPACKERS.items() if magic.match(opening)), None)


class _Measured(io.RawIOBase):
    """What is unpacked, as long as it is not out of proportion to what is packed."""

    def __init__(self, content: IO[bytes], packed: IO[bytes], name: str) -> None:
        self._content: Any = content
        self._packed = packed
        self._name = name
        self._read = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        found: int = self._content.readinto(buffer)
        self._read += found
        if self._read > max(_UNPACKED, _RATIO * self._packed.tell()):
            raise InputError(
                f"{self._name}: unpacks to more than {_UNPACKED >> 20} MiB and {_RATIO} times its size, as no text "
                "does; unpack it first where it is meant so"
            )
        return found


class _Lent(io.RawIOBase):
    """A stream for a reader that closes what it reads from when it is done."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._stream.read(size)


def _with_arrow(codec: str) -> Callable[[IO[bytes]], IO[bytes]]:
    """Arrow's reader refuses a damaged second stream of a file, where the module `bz2` passes over it."""
    return lambda stream: pa.CompressedInputStream(pa.PythonFile(_Lent(stream), "r"), codec)


class _XzReader(io.RawIOBase):
    """Streams of xz, one behind another; the module's own reader takes a damaged one for the end of the file."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        room, data = memoryview(buffer), b""
        while not data:
            packed = b""
            if self._decoder.eof:
                packed = self._decoder.unused_data.lstrip(b"\0") or self._stream.read(SAMPLE).lstrip(b"\0")
                if not packed:
                    return 0
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, _XZ_MEMORY)
            elif self._decoder.needs_input:
                packed = self._stream.read(SAMPLE)
                if not packed:
                    raise EOFError("the compressed file ends before its end-of-stream marker")
            data = self._decoder.decompress(packed, len(room))
        room[: len(data)] = data
        return len(data)


def _unxz(stream: IO[bytes]) -> IO[bytes]:
    return io.BufferedReader(_XzReader(stream), SAMPLE)


def _gunzip(stream: IO[bytes]) -> IO[bytes]:
    return gzip.GzipFile(fileobj=stream)  # type: ignore[return-value]


_UNPACKERS = {
    re.compile(rb"\x1f\x8b"): _gunzip,
    re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)"): _with_arrow("bz2"),
    re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"): _with_arrow("zstd"),
    re.compile(rb"\xfd7zXZ\x00"): _unxz,
}


def _refuse_foreign(opening: bytes, name: str) -> None:
    for magic, what in _FOREIGN.items():
        if magic.match(opening):
            raise InputError(f"{name} is {what}")
    if member := _tar_member(opening):
        raise InputError(f"{name} is a tar archive (first in it: {member}): unpack it first and name the file itself")
    if b"\0" in opening and not _is_text(opening):
        raise InputError(f"{name} is a binary file, where a text file is asked for")


def _tar_member(opening: bytes) -> str | None:
    try:
        return tarfile.TarInfo.frombuf(opening, "utf-8", "backslashreplace").name
    except tarfile.HeaderError:
        return None


def _is_text(opening: bytes) -> bool:
    try:
        opening.decode("utf-8")
    except UnicodeDecodeError as error:
        return len(opening) == _BLOCK and error.start > _BLOCK - 4  # the last character may be cut
    return True
