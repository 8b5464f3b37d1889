"""Where a Ray of the job's own keeps its sockets and logs: their path must be short, and the folder writable."""

import os
import tempfile
from pathlib import Path

from ray_rerank.cluster.errors import ClusterError

_LONGEST = 107  # bytes of a socket's path
_BELOW = len("/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store.1")


def ray_folder() -> dict[str, str]:
    """What `ray.init` is told of folders: nothing where its own choice (RAY_TMPDIR, else TMPDIR, else /tmp) will do.

    Else the first other folder that will do; what does not fit into memory still goes where the user said.

    Raises:
        ClusterError: none will do.
    """
    asked = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    faults: dict[Path, str] = {}
    for folder in dict.fromkeys(
        Path(place) / name for place in (asked, "/tmp") for name in ("ray", f"ray-{os.getuid()}")
    ):
        fault = _fault(folder)
        if fault is None and not faults:
            return {}
        if fault is None:
            spill = {} if _unwritable(Path(asked)) else {"object_spilling_directory": asked}
            return {"_temp_dir": str(folder)} | spill
        faults[folder] = fault
    told = "; ".join(f"{folder} {fault}" for folder, fault in faults.items())
    raise ClusterError(
        f"Ray finds no folder for its sockets: {told}. Set RAY_TMPDIR to a folder of at most "
        f"{_LONGEST - _BELOW - len('/ray')} bytes that can be written"
    )


def _fault(folder: Path) -> str | None:
    if len(os.fsencode(folder)) + _BELOW > _LONGEST:
        return "is too long a path for a socket"
    return _unwritable(folder)


def _unwritable(folder: Path) -> str | None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"cannot be made ({error.strerror})"
    try:
        tempfile.TemporaryFile(dir=folder).close()  # whatever its rights say: /proc takes no file of root either
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return None
