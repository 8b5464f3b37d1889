"""What must not be told: passwords, tokens and signatures in paths, URIs and messages.

One rule for what is refused and what is hidden. In a URI these may be secrets: user info before the host, and all from
the first `?`, `;` or `#` on, unless it is a query of nothing but keys that are known to be harmless. A list of the
dangerous keys would never be whole. Local paths are literal and hold no URI.
"""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

HIDDEN = "***"


def _written(signs: str) -> str:
    """A pattern of these characters, as they are or percent-encoded, once or several times."""
    codes = "|".join(f"{ord(sign):02x}" for sign in signs)
    return f"(?:[{re.escape(signs)}]|%(?:25)*(?:{codes}))"


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_URI = _pattern(rf"{_written(':')}{_written('/')}{{2,}}")
_SCHEME = _pattern(rf"{_URI.pattern}|(?<![\w/+.-])[a-z][a-z0-9+.-]*:/(?!/)")  # pathlib makes one slash of two
_AT, _COLON, _PATH = (_pattern(_written(signs)) for signs in ("@", ":", "/?;#"))
_TAIL = _pattern(rf"{_written('?;#')}|&(?=[^/&=]*=)")
_HARMLESS = _pattern(r"\?(?:(?:versionId|generation|snapshot|download)=[\w.:-]*(?:&|$))*")
_CONTAINER = re.compile(r"[a-z0-9$-]{3,63}@[a-z0-9-]+\.(?:dfs|blob)\.[a-z0-9.-]+(?![^/])")
"""Azure's container@account, which is no user."""
_AZURE = ("abfs", "abfss", "wasb", "wasbs", "az")
_USER = re.compile(r"(?:^|(?<=[=,;('\"`<\[{|]))(?:[\w-]+(?:\.[\w-]+)+/)?[^\s/=@:,;('\"`<\[{|]+:")
"""The user of `user:password@host`, or of `host.name/user:password@`, where no scheme stands before it."""
_NAMED = _pattern(
    r"(?<![\w.%-])([\w.%-]{0,40}(?:secret|passw(?:or)?d|passphrase|pwd|signature|credentials?"
    r"|(?:api|access|account|private|secret|sas|shared)[-_.]?key(?:[-_.]?id)?"
    r"|(?:access|security|session|auth|refresh|bearer|api|sas|hf|hub)[-_.]?token)|token|sig)=([^\s&]+)"
)
"""`password=...` and its like outside URIs."""
_RELATIVE = _pattern(r"(\burl: /[^\s?;#]*[?;#])(\S+)")  # as urllib3 tells of them
_BEARER = re.compile(r"\b(Bearer|Authorization\W{1,4}Basic) [\w.~+/=-]{8,}")
_TOKEN = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=%[A-Fa-f0-9]{2}))(hf|api_org)_[A-Za-z0-9]{24,}")  # Hugging Face's
_CLOSING = ")]}>'\"`,.:"  # of the sentence around


def shown(text: str) -> str:
    """A message or a path without the secrets in it; all else as it is."""
    text = _TOKEN.sub(rf"\1_{HIDDEN}", _BEARER.sub(rf"\1 {HIDDEN}", text))
    text = _RELATIVE.sub(lambda found: found[1] + _hidden(found[2]), text)
    return re.sub(r"\S+", lambda run: _without(run[0]), text)


def has_secret(text: str) -> bool:
    """Whether a path, URI or name that a user gives may hold one; a local path may hold any characters."""
    if _TOKEN.search(text):
        return True
    if "://" in text:
        return _without(text) != text
    first = next(iter(text.split()), "")
    user = _USER.match(first)
    return bool(user and _AT.search(first, user.end()))


def _without(text: str) -> str:
    """A text without its secrets, where all after the scheme is one URI."""
    scheme = _SCHEME.search(text)
    if scheme is None:
        return _outside_uris(text)
    before, rest = text[: scheme.start()], text[scheme.end() :]
    tail = _TAIL.search(rest)
    signs = list(_AT.finditer(rest))
    if signs and not (len(signs) == 1 and before.endswith(_AZURE) and _CONTAINER.match(rest)):
        path, last = _PATH.search(rest), signs[-1]
        # A slash or a question mark may be part of a password, and an @ of a query.
        if signs[0].start() < (path.start() if path else len(rest)) or _COLON.search(rest, 0, last.start()):
            if tail and tail.start() < last.start():
                return _outside_uris(before) + scheme[0] + _hidden(rest)
            rest = f"{HIDDEN}@{rest[last.end() :]}"
            tail = _TAIL.search(rest)
    if tail and not _HARMLESS.fullmatch(rest, tail.start()):
        rest = rest[: tail.end()] + _hidden(rest[tail.end() :])
    return _outside_uris(before) + scheme[0] + rest


def _outside_uris(text: str) -> str:
    signs = list(_AT.finditer(text)) if not text.lstrip("'\"`([{<").startswith(("/", ".", "~")) else []
    user = _USER.search(text, 0, signs[-1].start()) if signs else None
    text = f"{text[: user.start()]}{HIDDEN}@{text[signs[-1].end() :]}" if user else text
    return _NAMED.sub(lambda found: f"{found[1]}={_hidden(found[2])}", text)


def _hidden(text: str) -> str:
    return HIDDEN + text[len(text.rstrip(_CLOSING)) :]


@contextmanager
def hiding_secrets() -> Iterator[None]:
    """For the length of a with-block, nothing is printed with its secrets, whoever prints it."""
    with redirect_stdout(_Hiding(sys.stdout)), redirect_stderr(_Hiding(sys.stderr)):
        yield


class _Hiding:
    """A text stream that writes what is `shown`. All else is the stream's own."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(shown(text))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
