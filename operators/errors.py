"""The errors of the operators; each message says what is wrong, where, and what to do.

UserError
├── InputError
│   ├── ConfigError
│   └── MissingExtraError
└── ModelError
"""

from collections.abc import Iterable

_LONGEST = 4000  # characters of a message
_REASON = 500
_NAMED = 8


def shortened(text: str, most: int = _LONGEST) -> str:
    """A text of at most so many characters and a few: the middle is left out of a longer one, and that is said."""
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail]} … ({len(text) - most:,} more characters) … {text[-tail:]}"


def listed(names: Iterable[object], most: int = _NAMED) -> str:
    """Names as messages list them: a handful, and how many more there are."""
    every = list(names)
    told = ", ".join(shortened(str(name), 80) for name in every[:most])
    return told + (f" and {len(every) - most:,} more" if len(every) > most else "")


def reason_of(error: BaseException) -> str:
    """The first line of what another package raised, with the next where it announces that, or its kind where it says
    nothing."""
    first, *more = str(error).strip().splitlines() or [type(error).__name__]
    if isinstance(error, KeyError):
        first = f"{first} is not known"
    if first.endswith("(") and more:  # a module that is named by all that is in it
        first = f"{first[:-1]} {more[-1].lstrip(') ')}"
    reason = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
    return shortened(reason, _REASON)


class UserError(Exception):
    """A fault that the user can mend; the command line shows its message without a traceback."""

    def __str__(self) -> str:
        """However much of what a user gave stands in it, a person can read it."""
        return shortened(super().__str__())


class InputError(UserError):
    """A file, a column or a value is not what its format asks for."""


class ConfigError(InputError):
    """A flag or a field of a config is unknown, missing or of the wrong type."""


class MissingExtraError(InputError):
    """A package that an optional part needs is not installed; the message says which extra brings it."""


class ModelError(UserError):
    """A model directory or identifier cannot be loaded as the scorer that was asked for."""
