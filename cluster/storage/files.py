"""Reading files, and writing them so that each is whole or absent."""

import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import xxhash

from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.storage.listing import StoredFile, stored_file
from ray_rerank.cluster.storage.paths import fault_of, filesystem, join
from ray_rerank.cluster.storage.remote_file import RemoteFile
from ray_rerank.cluster.storage.retries import describe
from ray_rerank.cluster.storage.stores import is_local, upload_limit, version_time

READ_AHEAD = 2 << 20  # bytes of one request for a part of a remote file
_MANY = 1000  # small files read at once


def check_unchanged(file: StoredFile) -> None:
    """See that a file still is what a listing showed. What one of the two listings does not say is not compared.

    Raises:
        StorageError: it is gone, or another by now; the message says what differs.
    """
    now = stored_file(file.path)
    told = [("size", f"{file.size:,} bytes", f"{now.size:,}")] if 0 < file.size != now.size > 0 else []
    before, after = version_time(file.version), version_time(now.version)
    if before and after and before != after:
        told.append(("modification time", before.isoformat(" "), after.isoformat(" ")))
    elif not (before and after) and file.version and now.version and file.version != now.version:
        told.append(("version", file.version, now.version))
    if told:
        differs = "; ".join(f"{what} was {then}, is now {later}" for what, then, later in told)
        raise StorageError(
            f"{file.path}: has changed since the job first looked at it ({differs}); run the job again on "
            "files that stay as they are"
        )


@contextmanager
def unchanged(file: StoredFile) -> Iterator[None]:
    """See before and after a with-block, which reads a file, that it is what a listing showed.

    Raises:
        StorageError: as `check_unchanged`; also in place of what reading a changed file raised.
    """
    check_unchanged(file)
    try:
        yield
    except UnavailableError:
        raise
    except StorageError:
        check_unchanged(file)
        raise
    check_unchanged(file)


def open_read(uri: str) -> IO[bytes]:
    """Open a file for reading, seekable. A remote one is read in parts, and each part is tried again if need be.

    Raises:
        StorageError: it cannot be opened; later reads of a remote file raise it too.
    """
    system, path = filesystem(uri)
    try:
        if is_local(system):
            return system.open(path, "rb")  # type: ignore[no-any-return]
        info = system.info(path)
        if info["type"] == "directory":
            raise StorageError(f"{uri}: cannot be read: it is a folder")
        if info["size"] is None:  # a server that does not say
            return io.BytesIO(system.cat_file(path))
        return io.BufferedReader(RemoteFile(system, path, info["size"]), READ_AHEAD)
    except FileNotFoundError:
        raise StorageError(f"{uri}: cannot be read: {fault_of(uri) or 'there is no such file'}") from None


def read_bytes(uri: str) -> bytes | None:
    """The whole of a small file, or None where there is none."""
    system, path = filesystem(uri)
    try:
        return system.cat_file(path)  # type: ignore[no-any-return]
    except FileNotFoundError:
        return None


def read_folder(uri: str, suffix: str) -> dict[str, bytes]:
    """The contents of the small files directly in a folder by name, the ending left off; none where it is not there.

    Raises:
        StorageError: they cannot be read.
    """
    system, folder = filesystem(uri)
    try:
        paths = [path for path in system.ls(folder, detail=False) if path.endswith(suffix)]
    except FileNotFoundError:
        return {}
    contents: dict[str, bytes] = {}
    for start in range(0, len(paths), _MANY):
        contents |= system.cat_some(paths[start : start + _MANY])
    return {path.rpartition("/")[2].removesuffix(suffix): data for path, data in contents.items()}


def write_whole(uri: str, data: bytes) -> None:
    """Write a file so that a reader sees all of it or none, and a later write replaces it whole.

    Local disk: a temporary file beside it, fsync, rename, fsync of the folder. Elsewhere: one PUT,
    since object stores show an object only when it is complete and have no rename to rely on.

    Raises:
        StorageError: it cannot be written.
    """
    system, path = filesystem(uri)
    if not is_local(system):
        system.pipe_file(path, data, **upload_limit(system, len(data)))
        return
    with writing_whole(uri) as file:
        file.write(data)


@contextmanager
def writing_whole(uri: str) -> Iterator[IO[bytes]]:
    """As `write_whole`, for what is too large for memory: what the with-block writes is put in place at its end.

    Elsewhere than on a local disk it passes through a temporary file here.

    Raises:
        StorageError: it cannot be written; nothing is left where it was to stand.
    """
    system, path = filesystem(uri)
    try:
        if is_local(system):
            with _placing(Path(path)) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                system.put_file(file.name, path)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {describe(error)}") from None


def check_writable(uri: str, called: str = "output") -> None:
    """Fail now, not after hours of work, where a folder cannot be written.

    Args:
        called: what the message calls it.

    Raises:
        StorageError: a probe file could not be written and removed.
    """
    probe = join(uri, f".probe-{uuid.uuid4().hex}")
    try:
        write_whole(probe, b"ray-rerank")
        remove(probe)
    except StorageError as error:
        reason = str(error).removeprefix(f"{probe}: ").removeprefix("cannot be written: ")
        raise type(error)(f"{uri}: the {called} cannot be written: {reason}") from None


def fingerprint(data: bytes) -> str:
    """128-bit xxh3 of bytes, as 32 hexadecimal digits."""
    return xxhash.xxh3_128_hexdigest(data)


def fingerprint_of(uri: str) -> tuple[int, str]:
    """The size and the fingerprint of a file, which need not fit into memory.

    Raises:
        StorageError: it is not there, or cannot be read.
    """
    told, size = xxhash.xxh3_128(), 0
    try:
        with open_read(uri) as file:
            while piece := file.read(READ_AHEAD):
                told.update(piece)
                size += len(piece)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be read: {describe(error)}") from None
    return size, told.hexdigest()


def remove(uri: str) -> None:
    """Remove a file, if it is there.

    Raises:
        StorageError: it cannot be removed.
    """
    system, path = filesystem(uri)
    with suppress(FileNotFoundError):  # also where it was removed by a try whose answer was lost
        system.rm_file(path)


@contextmanager
def _placing(path: Path) -> Iterator[IO[bytes]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
