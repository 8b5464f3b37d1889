"""The type of every field that says where something lies: a path, a URI, or a model's hub id."""

from typing import Annotated

from pydantic import AfterValidator


def _unchained(location: str) -> str:
    if "::" in location:
        raise ValueError(
            f"{location!r}: `::` chains URIs (zip::, simplecache::), which is not supported; name the folder or file "
            "itself, unpacked"
        )
    return location


Location = Annotated[str, AfterValidator(_unchained)]
