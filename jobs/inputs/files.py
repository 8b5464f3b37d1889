"""Which files of an input a job reads: one rule for all jobs, by which no file is passed over without a word."""

import glob
from pathlib import PurePosixPath

from ray_rerank.cluster.storage import StoredFile, filesystem, find_files, join
from ray_rerank.operators.errors import InputError

PARQUET = (".parquet",)

_TABLES = {".parquet", ".pq", ".csv", ".tsv", ".jsonl", ".ndjson", ".avro", ".orc", ".arrow", ".feather", ".xlsx"}
_PACKED = {".gz", ".bz2", ".zst", ".xz", ".lz4", ".lzo", ".snappy", ".br", ".z", ".zip", ".tar", ".tgz", ".7z", ".rar"}
_NAMED = 5


def input_files(uri: str, endings: tuple[str, ...], hint: str) -> list[StoredFile]:
    """The files with one of the endings: the one that the URI names, those below a folder, or what a glob matches.

    Hidden ones (`_SUCCESS`, `.crc`) are left out, as Parquet readers do. Others that are there too are named in a
    note, or refused where they look like data: beside the output of a run, whose files are known, they are named.

    Args:
        hint: where files as they are needed come from, for the message.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
        InputError: there is none, a link leads nowhere, or a file is there that seems to be data and is not read.
    """
    found = find_files(uri)
    for file in found:
        if file.fault:
            raise InputError(f"{file.path}: {file.fault}; mend or remove it")
    taken = [file for file in found if file.path.endswith(endings)]
    others = [file.path for file in found if not file.path.endswith(endings)]
    kinds = ", ".join(f"*{ending}" for ending in endings)
    if not taken:
        raise InputError(f"{uri}: holds no {kinds} file{f' (it has {_listed(others)})' if others else ''}; {hint}")
    if (data := [path for path in others if is_data(path)]) and not _is_output(uri):
        raise InputError(
            f"{uri}: also holds {_listed(data)}: data, it seems, that cannot be read here ({kinds} can); convert it, "
            f"move it away, or name what to read: {_beside(taken[0].path, endings)}"
        )
    if others:
        print(f"note: {uri}: not read: {_listed(others)}")
    return taken


def input_folders(uri: str) -> list[str]:
    """The folders that an input is the whole of, or whose files a glob matches; none for a single file.

    Raises:
        StorageError: nothing is there, or it cannot be listed.
    """
    system, path = filesystem(uri)
    if system.isdir(path):
        return [uri]
    return [] if system.exists(path) else sorted({file.path.rpartition("/")[0] for file in find_files(uri)})


def is_data(path: str) -> bool:
    """Whether a name has an ending of tables or of packed files, wherever in it: `a.parquet.part` is half of one."""
    return not (_TABLES | _PACKED).isdisjoint(suffix.lower() for suffix in PurePosixPath(path).suffixes)


def _is_output(uri: str) -> bool:
    system, path = filesystem(uri)
    return bool(system.isfile(join(path, "_run", "manifest.json")))


def _beside(path: str, endings: tuple[str, ...]) -> str:
    """The glob of a file and those beside it that end as it does."""
    ending = next(own for own in endings if path.endswith(own))
    return join(glob.escape(path.rpartition("/")[0]), f"*{ending}")


def _listed(paths: list[str]) -> str:
    names = [PurePosixPath(path).name for path in paths]
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
