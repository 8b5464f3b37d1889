"""What is peculiar to each store: options, status codes, kinds of errors, versions of files."""

import errno
from datetime import datetime
from typing import Any

import fsspec

_S3_CONFIG: dict[str, Any] = {
    "connect_timeout": 5,
    "read_timeout": 15,
    "retries": {"total_max_attempts": 1},  # that is none: see `filesystem`
    "response_checksum_validation": "when_required",  # some stores send the whole object's with a part of it
}
_SLOWEST_UPLOAD = 256 << 10  # bytes a second: an upload that is slower counts as stalled
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


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
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


def store_options(uri: str) -> dict[str, Any]:
    """Options of fsspec for the store of a URI, below what the user's own fsspec config says."""
    if not uri.startswith(("s3://", "s3a://")):
        return {}
    own: dict[str, Any] = {}
    for scheme in ("s3", "s3a"):
        own |= fsspec.config.conf.get(scheme, {}).get("config_kwargs", {})
    return {"config_kwargs": _S3_CONFIG | own}


def upload_limit(system: Any, size: int) -> dict[str, float]:
    """Seconds for one try: timeouts of sockets do not see a peer that stops reading."""
    return {"timeout": 60 + size / _SLOWEST_UPLOAD} if getattr(system, "async_impl", False) else {}


def version_time(version: str) -> datetime | None:
    """A version that is a time. A listing and a look at one file may write it in two ways."""
    try:
        return datetime.fromtimestamp(float(version)).astimezone()
    except (ValueError, OverflowError, OSError):
        pass
    try:
        return datetime.fromisoformat(version).astimezone()
    except ValueError:
        return None


def file_version(info: dict[str, Any]) -> str:
    """The etag or the modification time in a listing's entry, empty where there is neither."""
    for key in ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created"):
        if info.get(key):
            return str(info[key]).strip('"')
    return ""


def is_local(system: Any) -> bool:
    """Whether a filesystem is this machine's own."""
    return "file" in (system.protocol if isinstance(system.protocol, tuple) else (system.protocol,))
