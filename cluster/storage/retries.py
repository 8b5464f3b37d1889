"""Requests that are sent again while a storage may still answer."""

import functools
import os
from collections.abc import Callable
from typing import Any

from tenacity import Retrying, retry_if_exception, stop_after_attempt, stop_after_delay, wait_exponential, wait_random

from ray_rerank.cluster.errors import StorageError, UnavailableError
from ray_rerank.cluster.storage.disk import NO_FILE, fault_at
from ray_rerank.cluster.storage.stores import is_local, may_pass

_TRIES = 7
_TRY_FOR = 60.0  # seconds after which a failed try is the last one


class RetryingFilesystem:
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
        if is_local(self._system):
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
        if name in _OPENED and is_local(self._system):
            self._check_readable(args[0])
        try:
            return _again()(call, *args, **kwargs)
        except Exception as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError) and name not in _WRITES:
                raise FileNotFoundError(*error.args) from None  # also what lies below a file is not there
            kind = UnavailableError if may_pass(error) and not is_local(self._system) else StorageError
            raise kind(f"{self._uri}: {_FAILED.get(name, 'cannot be read')}: {describe(error)}") from None


_OPENED = ("open", "cat_file")
_WRITES = ("pipe_file", "put_file")  # to them a missing bucket is a fault; to the others, an answer

_FAILED = {
    **dict.fromkeys(("ls", "find", "glob", "isdir"), "cannot be listed"),
    **dict.fromkeys(_WRITES, "cannot be written"),
    "rm_file": "cannot be removed",
}


def _again() -> Retrying:
    return Retrying(
        retry=retry_if_exception(may_pass),
        stop=stop_after_attempt(_TRIES) | stop_after_delay(_TRY_FOR),
        wait=wait_exponential(multiplier=0.25, max=8) + wait_random(0, 0.5),
        reraise=True,
    )


def describe(error: BaseException) -> str:
    """An error of the storage in one line."""
    if isinstance(error, IsADirectoryError):
        return f"a folder is where a file belongs ({error.filename2 or error.filename}); move it away"
    return " ".join(str(error).split()) or type(error).__name__
