"""Files by URI, local or remote: list, read, and write so that a file is whole or absent.

Remote storage fails now and then: every call of a filesystem that `filesystem` gives is tried again a few times
while the fault may pass (5xx, throttling, a lost connection, no answer), and at once given up where it will not
(no such bucket, access denied). What is raised then names the URI in one line.
"""

import errno
import functools
import glob
import io
import os
import posixpath
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from operator import itemgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fsspec
import xxhash
from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential, wait_random

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage.disk import NO_FILE, fault_at, files_below, files_matching, is_hidden

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

READ_AHEAD = 2 << 20  # bytes of one request for a part of a remote file

_TRIES = 7
_TRY_FOR = 60.0  # seconds after which a failed try is the last one
_SLOWEST_UPLOAD = 256 << 10  # bytes a second: an upload that is slower counts as stalled
_PART = 16 << 20  # bytes of one request where a whole remote file is read
_MANY = 1000  # small files read at once

_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"total_max_attempts": 1},  # that is none: see `filesystem`
    "response_checksum_validation": "when_required",  # some stores send the whole object's with a part of it
}

_PASSING_ERRNO = frozenset({errno.EBUSY, errno.EIO, errno.EREMOTEIO, errno.EAGAIN, errno.EHOSTUNREACH, errno.ENETDOWN})
_PASSING_STATUS = frozenset({408, 409, 425, 429})  # and 5xx
_PASSING_KINDS = frozenset(  # by name, since the packages that raise them need not be installed
    {
        "ConnectionError", "TimeoutError", "Timeout",  # Python's, botocore's, requests'
        "HTTPClientError", "ResponseParserError", "IncompleteRead", "IncompleteReadError",  # botocore's
        "ClientConnectionError", "ClientPayloadError",  # aiohttp's
        "ChunkedEncodingError", "TransportError", "ServiceRequestError", "ServiceResponseError",  # Google's, Azure's
    }
)  # fmt: skip


class UnavailableError(StorageError):
    """Storage that did not answer properly in any of several tries; later it may."""


@dataclass(frozen=True, slots=True)
class StoredFile:
    """One file as a listing shows it.

    Attributes:
        version: the etag or the modification time, whichever there is.
        fault: why it cannot be read as a file: it is a link that leads nowhere, a pipe, a device.
    """

    path: str
    size: int
    version: str
    fault: str | None = None


def filesystem(uri: str) -> tuple[Any, str]:
    """The fsspec filesystem of a URI and the path on it.

    Its calls are tried again while a fault may pass, and raise FileNotFoundError or StorageError, nothing else.
    It forgets earlier listings: other processes write too.

    Raises:
        StorageError: the scheme is unknown, its package is not installed, or URIs are chained.
    """
    if "::" in uri:
        raise StorageError(f"{uri}: names with `::`, which chain URIs (zip::, simplecache::), are not read")
    try:
        system, path = fsspec.core.url_to_fs(uri, **_options(uri))
        system.invalidate_cache()
        if hasattr(system, "retries"):
            system.retries = 1  # s3fs's would multiply with those that are made here, as botocore's
    except (ValueError, ImportError, OSError) as error:
        raise StorageError(f"{uri}: no way to reach it: {_reason(error)}") from None
    return _Patient(system, uri), path


def absolute(uri: str) -> str:
    """A URI that means the same on a worker that runs in another directory."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))  # noqa: PTH100, PTH111


def place(uri: str) -> str:
    """One name of what may be called in several ways: to see whether two paths are the same. Links are followed."""
    system, path = filesystem(uri)
    return os.path.realpath(path) if _is_local(system) else uri


def join(uri: str, *names: str) -> str:
    """A path below a URI."""
    return posixpath.join(uri.rstrip("/") or "/", *names)


def list_files(uri: str, suffixes: tuple[str, ...]) -> list[StoredFile]:
    """The files with one of the endings below a folder, or the one file that is meant; sorted by path.

    The URI is literal: `*`, `?` and `[` are characters like others. Links are followed. Below a folder, names that
    begin with `_` or `.`, and everything in folders named so, are left out, as Parquet readers do. Paths come back as
    URIs that `open_read` takes.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    found = _below(system, path) if system.isdir(path) else [_one(system, path, uri)]
    return [_as_given(file, uri) for file in found if file.path.endswith(suffixes)]


def find_files(uri: str) -> list[StoredFile]:
    """All files as `list_files`; where nothing is called so, those that the URI matches as a glob, folders opened.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    if not glob.has_magic(path) or system.exists(path):
        return list_files(uri, ("",))
    root = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0]
    with _listing(uri):
        found = _matching(system, path)
    shown = {name: file for name, file in found.items() if not is_hidden(name[len(root) :])}
    if not shown:
        raise StorageError(f"{uri}: there is no such file or folder, and nothing that matches it")
    return [_as_given(file, uri) for _, file in sorted(shown.items())]


def names_below(uri: str) -> list[str]:
    """The paths of all files in a folder, relative to it, hidden ones too; none where nothing is there.

    Raises:
        StorageError: they cannot be listed.
    """
    system, path = filesystem(uri)
    if not system.isdir(path):
        return []
    if _is_local(system):
        with _listing(uri):
            return sorted(os.path.relpath(name, path) for name, _ in files_below(path, hidden=True))
    return [name[len(path) :].lstrip("/") for name in sorted(system.find(path))]


def stored_file(uri: str) -> StoredFile:
    """One file as it is now.

    Raises:
        StorageError: it is not there.
    """
    system, path = filesystem(uri)
    try:
        info = system.info(path)
    except FileNotFoundError:
        raise StorageError(f"{uri}: {fault_of(uri) or 'there is no such file'}") from None
    return StoredFile(uri, int(info["size"] or 0), _version(info))


def check_unchanged(file: StoredFile) -> None:
    """See that a file still is what a listing showed. What one of the two listings does not say is not compared.

    Raises:
        StorageError: it is gone, or another by now; the message says what differs.
    """
    now = stored_file(file.path)
    told = [("size", f"{file.size:,} bytes", f"{now.size:,}")] if 0 < file.size != now.size > 0 else []
    before, after = _moment(file.version), _moment(now.version)
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
        if _is_local(system):
            return system.open(path, "rb")  # type: ignore[no-any-return]
        info = system.info(path)
        if info["type"] == "directory":
            raise StorageError(f"{uri}: cannot be read: it is a folder")
        if info["size"] is None:  # a server that does not say
            return io.BytesIO(system.cat_file(path))
        return io.BufferedReader(_RemoteFile(system, path, info["size"]), READ_AHEAD)
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
    if not _is_local(system):
        system.pipe_file(path, data, **_upload_limit(system, len(data)))
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
        if _is_local(system):
            with _placing(Path(path)) as file:
                yield file
        else:
            with tempfile.NamedTemporaryFile() as file:
                yield file
                file.flush()
                system.put_file(file.name, path)
    except OSError as error:
        raise StorageError(f"{uri}: cannot be written: {_reason(error)}") from None


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


def fault_of(uri: str) -> str | None:
    """What to say of a path that is there, and leads to no file and no folder: a broken link, a pipe."""
    system, path = filesystem(uri)
    return fault_at(path) if _is_local(system) else None


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
        raise StorageError(f"{uri}: cannot be read: {_reason(error)}") from None
    return size, told.hexdigest()


def remove(uri: str) -> None:
    """Remove a file, if it is there.

    Raises:
        StorageError: it cannot be removed.
    """
    system, path = filesystem(uri)
    with suppress(FileNotFoundError):  # also where it was removed by a try whose answer was lost
        system.rm_file(path)


class _Patient:
    """A filesystem whose calls are tried again: the one place where storage's faults are met."""

    def __init__(self, system: Any, uri: str) -> None:
        self._system = system
        self._uri = uri

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._system, name)
        return functools.partial(self._try, name, found) if callable(found) else found

    def exists(self, path: str) -> bool:
        """fsspec's own says of a store that does not answer that nothing is there."""
        try:
            return bool(self.info(path))
        except FileNotFoundError:
            return False

    def isfile(self, path: str) -> bool:
        """As `exists`."""
        return self.exists(path) and not self.isdir(path)

    def cat_some(self, paths: list[str]) -> dict[str, bytes]:
        """The contents of those files that are there. Only what did not come is asked for again."""
        contents: dict[str, bytes] = {}
        left = list(paths)
        if _is_local(self._system):
            for path in left:
                self._check_readable(path)

        def ask() -> None:
            answers = dict(zip(left, self._system.cat_ranges(left, None, None, on_error="return"), strict=True))
            contents.update({path: data for path, data in answers.items() if isinstance(data, bytes)})
            wrong = {path: e for path, e in answers.items() if isinstance(e, Exception)}
            left[:] = [path for path, error in wrong.items() if not isinstance(error, FileNotFoundError)]
            for path in left:
                raise wrong[path]

        if left:
            self._try("cat_ranges", ask)
        return contents

    def _check_readable(self, path: str) -> None:
        """A pipe is waited for, and a device may have no end."""
        if (fault := fault_at(path)) and fault.startswith(NO_FILE):
            raise StorageError(f"{path}: cannot be read: it {fault}")
        if os.path.isdir(path):  # noqa: PTH112
            raise StorageError(f"{path}: cannot be read: it is a folder")

    def _try(self, name: str, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if name in _OPENED and _is_local(self._system):
            self._check_readable(args[0])
        try:
            return _again()(call, *args, **kwargs)
        except Exception as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and name not in _WRITES:
                raise FileNotFoundError(*error.args) from None  # also what lies below a file is not there
            kind = UnavailableError if _may_pass(error) and not _is_local(self._system) else StorageError
            raise kind(f"{self._uri}: {_FAILED.get(name, 'cannot be read')}: {_reason(error)}") from None


_OPENED = ("open", "cat_file")
_WRITES = ("pipe_file", "put_file")  # to them a missing bucket is a fault; to the others, an answer
_FAILED = {
    **dict.fromkeys(("ls", "find", "glob", "isdir"), "cannot be listed"),
    **dict.fromkeys(_WRITES, "cannot be written"),
    "rm_file": "cannot be removed",
}


class _RemoteFile(io.RawIOBase):
    """A remote file, read by ranges."""

    def __init__(self, system: _Patient, path: str, size: int) -> None:
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


def _again() -> Retrying:
    return Retrying(
        retry=retry_if_exception(_may_pass),
        stop=stop_after_attempt(_TRIES) | stop_after_delay(_TRY_FOR),
        wait=wait_exponential(multiplier=0.25, max=8) + wait_random(0, 0.5),
        reraise=True,
    )


def _may_pass(error: BaseException) -> bool:
    if any(kind.__name__ in _PASSING_KINDS for kind in type(error).__mro__):
        return True
    status = _http_status(error) or _http_status(error.__cause__)
    if status is not None:
        return status >= 500 or status in _PASSING_STATUS
    return isinstance(error, OSError) and error.errno in _PASSING_ERRNO


def _http_status(error: BaseException | None) -> int | None:
    """As botocore, gcsfs, aiohttp and Azure's client keep it."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = next((s for n in ("status_code", "status", "code") if (s := getattr(error, n, None))), None)
    return int(status) if isinstance(status, int) or (isinstance(status, str) and status.isdigit()) else None


def _reason(error: BaseException) -> str:
    if isinstance(error, IsADirectoryError):
        return f"a folder is where a file belongs ({error.filename2 or error.filename}); move it away"
    return " ".join(str(error).split()) or type(error).__name__


def _options(uri: str) -> dict[str, Any]:
    """What fsspec is told of S3, below what the user's own fsspec config says."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    own: dict[str, Any] = {}
    for scheme in ("s3", "s3a"):
        own |= fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    return {"config_kwargs": _S3_CONFIG | own}


def _upload_limit(system: Any, size: int) -> dict[str, float]:
    """Seconds for one try: timeouts of sockets do not see a peer that stops reading."""
    return {"timeout": 60 + size / _SLOWEST_UPLOAD} if getattr(system, "async_impl", False) else {}


def _below(system: Any, folder: str) -> list[StoredFile]:
    """What is not hidden below a folder, sorted by path."""
    if _is_local(system):
        with _listing(folder):
            return [_on_disk(path, seen) for path, seen in sorted(files_below(folder, hidden=False), key=itemgetter(0))]
    entries = system.find(folder, detail=True)
    return [_entry(system, info) for name, info in sorted(entries.items()) if not is_hidden(name[len(folder) :])]


def _one(system: Any, path: str, uri: str) -> StoredFile:
    try:
        return _entry(system, system.info(path))
    except FileNotFoundError:
        raise StorageError(f"{uri}: {fault_of(uri) or 'there is no such file or folder'}") from None


def _entry(system: Any, info: dict[str, Any]) -> StoredFile:
    path = system.unstrip_protocol(info["name"])
    if info["type"] != "file":
        return StoredFile(path, 0, "", NO_FILE)
    return StoredFile(path, int(info["size"] or 0), _version(info))


def _on_disk(path: str, seen: os.stat_result | str) -> StoredFile:
    path = f"file://{path}"
    try:
        path.encode()
    except UnicodeEncodeError:
        seen = "has a name that is no UTF-8"
    return (
        StoredFile(path, 0, "", seen) if isinstance(seen, str) else StoredFile(path, seen.st_size, str(seen.st_mtime))
    )


def _matching(system: Any, pattern: str) -> dict[str, StoredFile]:
    """What a glob matches by path, and what lies below the folders that it matches."""
    if _is_local(system):
        return {path: _on_disk(path, seen) for path, seen in files_matching(pattern)}
    files: dict[str, StoredFile] = {}
    for name, info in system.glob(pattern, detail=True).items():
        below = system.find(name, detail=True) if info["type"] == "directory" else {name: info}
        files |= {path: _entry(system, own) for path, own in below.items()}
    return files


@contextmanager
def _listing(uri: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        raise StorageError(f"{uri}: cannot be listed: {_reason(error)}") from None


def _as_given(file: StoredFile, uri: str) -> StoredFile:
    """Local paths without `file://`, as people write them."""
    if "://" in uri or not file.path.startswith("file://"):
        return file
    return replace(file, path=file.path.removeprefix("file://"))


def _moment(version: str) -> datetime | None:
    """A version that is a time. A listing and a look at one file may write it in two ways."""
    try:
        return datetime.fromtimestamp(float(version)).astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return datetime.fromisoformat(version).astimezone()
    except ValueError:
        return None


def _version(info: dict[str, Any]) -> str:
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


def _is_local(system: Any) -> bool:
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))


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
