"""Training data: (query, document, label) rows from Parquet, TSV, JSONL or a re-ranking with its texts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.dataset
import pyarrow.json
from numpy.typing import NDArray

from operators.errors import InputError

DOCUMENT_NAMES = ("document", "text", "passage")
LABEL_NAMES = ("label", "score")


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Usable pairs, and how many rows were left out for which reason.

    `table` has `query: string, document: string, label: float32`, no nulls, no empty text, finite labels.
    """

    table: pa.Table
    left_out: dict[str, int]

    @property
    def queries(self) -> int:
        """How many distinct query texts there are."""
        return len(pc.unique(self.table["query"]))


def read_training_pairs(path: Path) -> TrainingPairs:
    """Read pairs from a file, or from all Parquet, TSV and JSONL files of a folder.

    Files and folders whose names begin with `_` or `.` are not data. Columns are `query`, `document` (or
    `text`, `passage`) and `label` (or `score`); a re-ranking written with its texts (`query`,
    `ranking: list<struct<text, score, ...>>`) is taken as it is, its raw scores as labels, which
    are a teacher's logits. TSV has a header line.

    Raises:
        InputError: nothing to read, a column is missing or of the wrong type, or no row is usable.
    """
    files = _data_files(path)
    return usable_pairs(pa.concat_tables([_read(file) for file in files]), path)


def usable_pairs(table: pa.Table, source: Path) -> TrainingPairs:
    """Leave out rows that teach nothing: a null or blank query or document, a null or non-finite label."""
    reasons = {
        "empty query": _blank(table["query"]),
        "empty document": _blank(table["document"]),
        "label is no finite number": ~np.isfinite(table["label"].to_numpy()),
    }
    usable = table.filter(pa.array(~np.logical_or.reduce(list(reasons.values()))))
    found = {reason: int(mask.sum()) for reason, mask in reasons.items() if mask.any()}
    if usable.num_rows == 0:
        raise InputError(f"{source}: none of the {table.num_rows} rows can be trained on ({found or 'no rows'})")
    return TrainingPairs(usable.combine_chunks(), found)


def split_by_query(table: pa.Table, fraction: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Split pairs into (training, held out) so that no query is on both sides.

    `fraction` of the distinct queries, drawn from `seed`, are held out: at least one where the fraction is
    above zero, never all of them.

    Raises:
        InputError: a held-out part is asked for and there is only one query.
    """
    if fraction <= 0:
        return table, table.slice(0, 0)
    queries = pc.unique(table["query"]).sort()
    if len(queries) < 2:
        raise InputError("there is only one query: nothing can be held out; use more queries or `held_out: 0`")
    many = min(len(queries) - 1, max(1, round(fraction * len(queries))))
    drawn = np.random.default_rng(seed).choice(len(queries), many, replace=False)
    held_out = pc.is_in(table["query"], value_set=queries.take(np.sort(drawn)))
    return table.filter(pc.invert(held_out)), table.filter(held_out)


def _data_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise InputError(f"{path}: there is no such file or folder of training pairs")
    inside = (file.relative_to(path) for file in path.rglob("*") if file.suffix in _READERS)
    files = [path / file for file in inside if not any(part.startswith(("_", ".")) for part in file.parts)]
    if not files:
        raise InputError(f"{path}: holds no {', '.join(_READERS)} file")
    return sorted(files)


def _read(file: Path) -> pa.Table:
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise InputError(f"{file}: training pairs are read from {', '.join(_READERS)} files")
    try:
        table = reader(file)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as {file.suffix[1:]}: {error}") from None
    if "ranking" in table.column_names:
        table = _flatten(table, file)
    return pa.Table.from_arrays(
        [
            _column(table, ("query",), pa.string(), file),
            _column(table, DOCUMENT_NAMES, pa.string(), file),
            _column(table, LABEL_NAMES, pa.float32(), file),
        ],
        names=["query", "document", "label"],
    )


def _flatten(table: pa.Table, file: Path) -> pa.Table:
    """One row a ranked document, out of one row a query."""
    table = table.combine_chunks()
    kind = table.schema.field("ranking").type
    inner = {field.name for field in kind.value_type} if pa.types.is_list(kind) else set()
    if not {"text", "score"} <= inner or "query" not in table.column_names:
        raise InputError(f"{file}: this ranking lacks its texts (it has {sorted(inner)}); re-rank with --include-text")
    lengths = pc.fill_null(pc.list_value_length(table["ranking"]), 0).to_numpy()
    owners = np.repeat(np.arange(table.num_rows), lengths)
    flat: Any = pc.list_flatten(table["ranking"])
    documents = pa.Table.from_struct_array(flat)
    return pa.Table.from_arrays(
        [table["query"].take(owners), documents["text"], documents["score"]],
        names=["query", "document", "label"],
    )


def _column(table: pa.Table, names: tuple[str, ...], kind: pa.DataType, file: Path) -> "pa.ChunkedArray[Any]":
    name = next((name for name in names if name in table.column_names), None)
    if name is None:
        raise InputError(f"{file}: no column {' or '.join(names)}; it has {table.column_names}")
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise InputError(f"{file}: column {name} cannot be read as {kind}: {error}") from None


def _blank(texts: "pa.ChunkedArray[Any]") -> NDArray[np.bool_]:
    return np.array([text is None or not text.strip() for text in texts.to_pylist()], dtype=np.bool_)


def _read_parquet(file: Path) -> pa.Table:
    return pyarrow.dataset.dataset(file, format="parquet").to_table()


def _read_tsv(file: Path) -> pa.Table:
    return pyarrow.csv.read_csv(
        file,
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
        convert_options=pyarrow.csv.ConvertOptions(column_types={"query": pa.string(), "document": pa.string()}),
    )


_READERS: dict[str, Callable[[Path], pa.Table]] = {
    ".parquet": _read_parquet,
    ".tsv": _read_tsv,
    ".jsonl": pyarrow.json.read_json,
}
