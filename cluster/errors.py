"""The errors of the cluster side; each message says what is wrong, where, and what to do.

ClusterError
├── StorageError
│   └── UnavailableError
├── OutputConflictError
├── OutputBusyError
├── ClusterLostError
└── WorkerDiedError
"""

from ray_rerank.cluster.secrets import shown

_LONGEST = 4000


def first_line(error: BaseException) -> str:
    """The first line of what another library raised, or its type where it has no message."""
    return _lines(error)[0]


def last_line(error: BaseException) -> str:
    """The last line of an error of Ray's, which ends a remote traceback with what happened."""
    return _lines(error)[-1]


def _lines(error: BaseException) -> list[str]:
    lines = [line.strip() for line in str(error).splitlines()]
    return list(filter(None, lines)) or [type(error).__name__]


class ClusterError(Exception):
    """A fault that the user can mend; the command line shows its message without a traceback.

    What storage and libraries say may repeat a URI with its secrets: these are hidden in every message.
    """

    def __init__(self, message: str) -> None:
        super().__init__(shown(message))

    def __str__(self) -> str:
        """However much of what a user gave stands in it, a person can read it."""
        text = super().__str__()
        if len(text) <= _LONGEST:
            return text
        tail = _LONGEST // 4
        return f"{text[: _LONGEST - tail]} … ({len(text) - _LONGEST:,} more characters) … {text[-tail:]}"


class StorageError(ClusterError):
    """A path cannot be read or written."""


class UnavailableError(StorageError):
    """Storage that did not answer properly in any of several tries; later it may."""


class OutputConflictError(ClusterError):
    """An output folder holds the output of other settings, inputs or of another job, or files of unknown origin."""


class WorkerDiedError(ClusterError):
    """A unit took several workers with it and is left out."""


class ClusterLostError(ClusterError):
    """The cluster does not answer any more."""


class OutputBusyError(ClusterError):
    """Another process is at work on the output."""
