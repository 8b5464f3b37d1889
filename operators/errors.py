"""The errors of the operators: each message says what is wrong, where, and what to do."""

_LONGEST = 500  # characters of a reason


def reason_of(error: Exception) -> str:
    """The first line of what another package raised, with the next where it announces that, or its kind where it says
    nothing."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, KeyError):
        first = f"{first} is not known"
    if first.endswith("(") and more:  # a module that is named by all that is in it
        first = f"{first[:-1]} {more[-1].lstrip(') ')}"
    reason = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
    return reason if len(reason) <= _LONGEST else f"{reason[:_LONGEST]}…"


class RerankError(Exception):
    """A fault that the user can mend; the command line shows its message without a traceback."""


class InputError(RerankError):
    """A file, a column or a value is not what its format asks for."""


class ModelError(RerankError):
    """A model directory or identifier cannot be loaded as the scorer that was asked for."""
