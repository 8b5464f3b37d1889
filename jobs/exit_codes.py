"""The exit codes of all jobs."""

from enum import IntEnum


class ExitCode(IntEnum):
    """What the shell is told."""

    DONE = 0
    FAILED = 1
    REFUSED = 2
    DONE_WITH_ERRORS = 3
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143
