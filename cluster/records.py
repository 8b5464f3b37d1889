"""Small JSON files that a job writes and reads back: one reader, which takes nothing on trust.

Bytes that are no JSON, too deep, of another type, without a field or with numbers out of their range are a
`DamagedRecordError` that names the file; so is a pipe in its place.
"""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from ray_rerank.cluster.errors import StorageError
from ray_rerank.cluster.storage import fault_of, read_bytes

_LONGEST = 300  # characters of a value in a message

Count = Annotated[int, Field(ge=0, lt=1 << 63)]
Checksum = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]


class DamagedRecordError(StorageError):
    """A record is there and cannot be read; `reason` says why, the message which."""

    def __init__(self, uri: str, reason: str) -> None:
        super().__init__(f"{uri}: is damaged: {reason}")
        self.reason = reason


class Record(BaseModel):
    """A JSON object with these fields; others are left alone, for older and newer versions."""

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", allow_inf_nan=False)


R = TypeVar("R")


def read_record(uri: str, kind: type[R]) -> R | None:
    """A record, or None where there is none.

    Raises:
        DamagedRecordError: it is not of this kind.
        StorageError: it cannot be read, or a folder has its name.
    """
    if fault := fault_of(uri):
        raise DamagedRecordError(uri, fault)
    data = read_bytes(uri)
    return None if data is None else parsed(uri, data, kind)


def parsed(uri: str, data: bytes, kind: type[R]) -> R:
    """A record out of its bytes.

    Raises:
        DamagedRecordError: they are not of this kind.
    """
    try:
        return TypeAdapter[R](kind).validate_json(data)
    except ValidationError as error:
        raise DamagedRecordError(uri, _reason(error.errors(include_url=False, include_input=False)[0])) from None


def _reason(fault: Any) -> str:
    at = ".".join(map(str, fault["loc"]))
    return brief(f"{at}: {fault['msg']}" if at else str(fault["msg"]))


def brief(text: str) -> str:
    """What may be long, without its middle."""
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
