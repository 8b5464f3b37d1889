"""The standard streams of the command: a reader that goes away, or that knows no UTF-8, is no fault of the job's."""

import errno
import io
import os
import sys
from typing import Any

_STDOUT, _STDERR = 1, 2
_NO_READER = {errno.EPIPE, errno.EBADF}


class StandardStreams:
    """Those of this process, whatever they are: a job does its work and then says what could not be written."""

    def __init__(self) -> None:
        for number in (0, _STDOUT, _STDERR):
            _occupy(number)
        self._out = _Stream(_STDOUT)
        sys.stdout = _text(self._out, sys.stdout)
        sys.stderr = _text(_Stream(_STDERR), sys.stderr)

    def fault(self) -> str | None:
        """Why standard output is not whole; a reader that has read enough is no fault."""
        sys.stdout.flush()
        sys.stderr.flush()
        fault = self._out.fault
        return fault.strerror if fault and fault.errno not in _NO_READER else None


class _Stream(io.FileIO):
    """A descriptor that takes everything, and remembers the first fault."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.fault: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.fault = self.fault or error
            return memoryview(data).nbytes


def _text(stream: _Stream, before: Any) -> io.TextIOWrapper:
    """What the encoding does not have is written as an escape."""
    return io.TextIOWrapper(
        io.BufferedWriter(stream),
        encoding=getattr(before, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=stream.isatty() or stream.fileno() == _STDERR,
        write_through=getattr(before, "write_through", False),
    )


def _occupy(number: int) -> None:
    """A closed descriptor would be given to the next file that is opened, and what is said be written into it."""
    try:
        os.fstat(number)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_RDONLY), number)
