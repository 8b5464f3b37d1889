"""Workers run the driver's own code, or refuse: never what another folder on their path has under the same names.

Ray puts the driver's current folder first on its workers' import path, and a node may have another version
installed. So whatever is handed to Ray goes as `carried`: bytes, and a function that is pickled by value, not by
name. In the worker that function looks for the packages whose sources are the driver's, sees that these are imported,
and only then unpickles the bytes.
"""

from __future__ import annotations  # in a worker nothing of this module is there to look an annotation up

import functools
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

NAMESPACE = "ray_rerank"
PACKAGES = ("jobs", "operators", "cluster")  # in the namespace
ROOT = Path(__file__).resolve().parents[1]


def carried(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, for a worker that is to run the driver's code.

    Calling it in a worker raises ImportError where the worker has other code; the message names both.
    """
    from ray import cloudpickle

    payload, root, sources = cloudpickle.dumps(function), str(ROOT), _sources()
    settle = _settle_function()
    opened: list[Any] = []

    def call(*args: Any) -> Any:
        if not opened:
            import pickle

            settle(root, sources)
            opened.append(pickle.loads(payload))
        return opened[0](*args)

    return call


@functools.cache
def _sources() -> Mapping[str, str]:
    """The fingerprint of each package of the driver."""
    fingerprint = _fingerprint_function()
    return {name: fingerprint(str(ROOT / name)) for name in PACKAGES}


def _fingerprint_function() -> Callable[[str], str]:
    """A function that takes nothing from this module, and so can run where this module is another."""

    def fingerprint(folder: str) -> str:
        """Of all Python sources below a folder: their paths and their bytes."""
        import hashlib
        from pathlib import Path

        told = hashlib.blake2b(digest_size=16)
        for path in sorted(Path(folder).rglob("*.py")):
            data = path.read_bytes()
            told.update(f"{path.relative_to(folder).as_posix()}\0{len(data)}\0".encode() + data)
        return told.hexdigest()

    return fingerprint


def _settle_function() -> Callable[[str, Mapping[str, str]], None]:
    """As `_fingerprint_function`."""
    fingerprint = _fingerprint_function()

    def settle(root: str, sources: Mapping[str, str]) -> None:
        """See that imports of the packages give those with these sources, wherever on the path they are.

        Raises:
            ImportError: one of them is not there, or another was imported already.
        """
        import importlib.util
        import platform
        import sys
        from contextlib import suppress
        from importlib.machinery import ModuleSpec, PathFinder
        from pathlib import Path

        settled = "_ray_rerank_sources"
        if getattr(sys, settled, None) == sources:
            return

        def installed(name: str) -> str:
            with suppress(Exception):
                spec = importlib.util.find_spec(f"ray_rerank.{name}")
                return str(spec.origin) if spec else ""
            return ""

        def places(name: str) -> Iterator[Path]:
            yield Path(root) / name
            for place in sys.path:
                yield Path(place) / "ray_rerank" / name
            yield Path(installed(name)).parent  # an editable install is on no path

        folders: dict[str, str] = {}
        for name, wanted in sources.items():
            loaded = getattr(sys.modules.get(f"ray_rerank.{name}"), "__file__", None)
            tried = [Path(loaded).parent] if loaded else places(name)
            folders[name] = next((str(place) for place in tried if fingerprint(str(place)) == wanted), "")
            if not folders[name]:
                raise ImportError(
                    f"the driver runs {Path(root) / name}, and a worker on {platform.node()} has other code under "
                    f"ray_rerank.{name} ({loaded or installed(name) or 'no such package'}); both must have the same "
                    "version of ray-rerank"
                )

        class Finder:
            """Goes before the path, for these packages alone."""

            @staticmethod
            def find_spec(name: str, path: Any = None, target: Any = None) -> Any:
                if name == "ray_rerank":
                    return ModuleSpec(name, None, is_package=True)
                parent, _, leaf = name.rpartition(".")
                if parent != "ray_rerank" or leaf not in folders:
                    return None
                return PathFinder.find_spec(name, [str(Path(folders[leaf]).parent)], target)

        if not any(name.startswith("ray_rerank.") for name in sys.modules):
            sys.modules.pop("ray_rerank", None)  # whatever was found under that name before
        sys.meta_path.insert(0, Finder)
        setattr(sys, settled, sources)

    return settle


def copy_code(folder: Path) -> Path:
    """Copy the Python sources of all packages below a folder, as one package that workers elsewhere can be sent."""
    for name in PACKAGES:
        for source in (ROOT / name).rglob("*.py"):
            copy = folder / NAMESPACE / name / source.relative_to(ROOT / name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)
    return folder / NAMESPACE
