"""The type of every field that says where something lies: a path, a URI, or a model's hub id."""

from typing import Annotated

from pydantic import AfterValidator

_LONGEST = 4096  # characters: no path is longer


def _usable(location: str) -> str:
    if not location.strip():
        raise ValueError("is empty; name a place, or leave the field out")
    if len(location) > _LONGEST:
        raise ValueError(f"has {len(location):,} characters; a path or URI has at most {_LONGEST:,}")
    if "::" in location:
        raise ValueError(
            f"{location!r}: `::` chains URIs (zip::, simplecache::), which is not supported; name the folder or file "
            "itself, unpacked"
        )
    return location


Location = Annotated[str, AfterValidator(_usable)]
