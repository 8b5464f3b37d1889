"""Training data: (query, document, label) rows from Parquet, TSV, JSONL or a re-ranking with its texts."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from operators.errors import InputError
from operators.leakage import Query, normalised

DOCUMENT_NAMES = ("document", "text", "passage")
_TEXT_COLUMNS = ("query_id", "query", *DOCUMENT_NAMES, "label", "score")  # of a TSV: none is guessed to be a number
Target = Literal["label", "score"]
SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("document", pa.string()),
        ("label", pa.float32()),
        ("relevant", pa.float32()),
    ]
)
"""`label` is what is learnt; `relevant` the hard label beside it, null where unknown, as is `query_id`."""


@dataclass(frozen=True, slots=True)
class TrainingPairs:
    """Usable pairs, and how many rows were left out for which reason.

    `table` is of SCHEMA, without empty texts, with finite labels.
    """

    table: pa.Table
    left_out: dict[str, int]

    @property
    def queries(self) -> int:
        """How many distinct query texts there are."""
        return len(pc.unique(self.table["query"]))


def read_training_pairs(
    files: Iterable[tuple[str, IO[bytes]]], source: str, target: Target | None = None
) -> TrainingPairs:
    """Read pairs from Parquet, TSV and JSONL files.

    Columns are `query`, `document` (or
    `text`, `passage`) and `label` or `score`, and `query_id` where there is one: what `mine` and `label` write,
    and any table of pairs. A re-ranking written with its texts (`query`, `ranking: list<struct<text, score,
    ...>>`) is taken as it is, its raw scores as labels, which are a teacher's logits. TSV has a header line.

    Args:
        files: each's name, which ends with one of READABLE, and its content.
        source: what messages call all of them together.
        target: the column that is learnt; None: `score` where a `rank` stands beside it (a teacher's), else
            `label` where there is one, else `score`.

    Raises:
        InputError: a file cannot be read, a column is missing or of the wrong type, or no row is usable.
    """
    return usable_pairs(pa.concat_tables([_read(name, content, target) for name, content in files]), source)


def usable_pairs(table: pa.Table, source: str) -> TrainingPairs:
    """Leave out rows that teach nothing: a null or blank query or document, a null or non-finite label."""
    unlabelled = ~np.isfinite(table["label"].to_numpy())
    query, document = _blank(table["query"]), _blank(table["document"])
    reasons = {
        "line that cannot be read": query & document & unlabelled,
        "empty query": query,
        "empty document": document,
        "label is no finite number": unlabelled,
    }
    usable, found = np.ones(table.num_rows, dtype=np.bool_), dict[str, int]()
    for reason, mask in reasons.items():
        if many := int((mask & usable).sum()):
            found[reason] = many
        usable &= ~mask
    if not usable.any():
        told = ", ".join(f"{many} x {reason}" for reason, many in found.items())
        raise InputError(f"{source}: none of the {table.num_rows} rows can be trained on ({told or 'no rows'})")
    return TrainingPairs(table.filter(pa.array(usable)).combine_chunks(), found)


def split_by_query(table: pa.Table, fraction: float, seed: int) -> tuple[pa.Table, pa.Table]:
    """Split pairs into (training, held out) so that no query is on both sides, not even spelled a little otherwise.

    Rows with the same id or the same text (as `leakage.normalised` has it) are of one query, also where only other
    rows link them. `fraction` of the queries, drawn from `seed`, are held out: at least one where the fraction is
    above zero, never all of them.

    Args:
        table: of SCHEMA.

    Raises:
        InputError: a held-out part is asked for and there is only one query.
    """
    if fraction <= 0:
        return table, table.slice(0, 0)
    owners = _owners(table)
    found = np.unique(owners)
    if len(found) < 2:
        raise InputError("there is only one query: nothing can be held out; use more queries or `held_out: 0`")
    many = min(len(found) - 1, max(1, round(fraction * len(found))))
    drawn = np.random.default_rng(seed).choice(len(found), many, replace=False)
    held_out = np.isin(owners, found[drawn])
    return table.filter(pa.array(~held_out)), table.filter(pa.array(held_out))


def queries(table: pa.Table) -> list[Query]:
    """Each query of a table of SCHEMA once."""
    distinct = table.group_by(["query_id", "query"]).aggregate([])
    return [Query(row["query_id"], row["query"]) for row in distinct.to_pylist()]


def _owners(table: pa.Table) -> NDArray[np.int32]:
    """int32 of the rows: which query each is of, whatever the order of the rows."""
    texts = table["query"].dictionary_encode().unify_dictionaries().combine_chunks()
    _, spelled = np.unique([normalised(text) for text in texts.dictionary.to_pylist()], return_inverse=True)
    text = spelled[texts.indices.to_numpy()]
    ids = table["query_id"].dictionary_encode().unify_dictionaries().combine_chunks().indices
    known = ids.is_valid().to_numpy(zero_copy_only=False)
    linked = ids.drop_null().to_numpy() + len(spelled)  # nodes of a graph: the texts, then the ids
    links = coo_array((np.ones(len(linked)), (text[known], linked)), shape=(len(spelled) + table.num_rows,) * 2)
    _, parts = connected_components(links, directed=False)
    return np.asarray(parts[text], np.int32)


def _read(file: str, content: IO[bytes], target: Target | None) -> pa.Table:
    kind = file.rpartition(".")[2]
    try:
        table = _READERS[kind](content)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{file}: cannot be read as {kind}: {error}") from None
    if "ranking" in table.column_names:
        table = _flatten(table, file)
    elif "candidates" in table.column_names:
        raise InputError(f"{file}: candidates without labels; `ray-rerank label` gives them a teacher's scores")
    taught = "score" in table.column_names and "rank" in table.column_names
    names = (target,) if target else ("score", "label") if taught else ("label", "score")
    known = "label" in table.column_names
    columns = [
        _column(table, ("query_id",), pa.string(), file)
        if "query_id" in table.column_names
        else pa.nulls(table.num_rows, pa.string()),
        _column(table, ("query",), pa.string(), file),
        _column(table, DOCUMENT_NAMES, pa.string(), file),
        _column(table, names, pa.float32(), file),
        _column(table, ("label",), pa.float32(), file) if known else pa.nulls(table.num_rows, pa.float32()),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _flatten(table: pa.Table, file: str) -> pa.Table:
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
    own = [name for name in ("query_id", "query") if name in table.column_names]
    return pa.Table.from_arrays(
        [*(table[name].take(owners) for name in own), documents["text"], documents["score"], owners],
        names=[*own, "text", "score", "rank"],
    )


def _column(table: pa.Table, names: tuple[str, ...], kind: pa.DataType, file: str) -> "pa.ChunkedArray[Any]":
    name = next((name for name in names if name in table.column_names), None)
    if name is None:
        raise InputError(f"{file}: no column {' or '.join(names)}; it has {table.column_names}")
    try:
        return table[name].cast(kind)
    except pa.ArrowException as error:
        raise InputError(f"{file}: column {name} cannot be read as {kind}: {error}") from None


def _blank(texts: "pa.ChunkedArray[Any]") -> NDArray[np.bool_]:
    return np.array([text is None or not text.strip() for text in texts.to_pylist()], dtype=np.bool_)


def _read_jsonl(content: IO[bytes]) -> pa.Table:
    """A line that is no JSON object is a row of nulls."""
    data = content.read()
    try:
        return pyarrow.json.read_json(pa.BufferReader(data))
    except pa.ArrowInvalid:
        lines = [line for line in data.split(b"\n") if line.strip()]
        whole = [line for line in lines if _is_object(line)]
        if not whole:
            raise
        return _with_nulls(pyarrow.json.read_json(pa.BufferReader(b"\n".join(whole))), len(lines) - len(whole))


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _read_tsv(content: IO[bytes]) -> pa.Table:
    """A line with more or fewer fields than the header is a row of nulls, and what is no number is none."""
    torn: list[Any] = []

    def tear(row: Any) -> str:
        torn.append(row)
        return "skip"

    table = pyarrow.csv.read_csv(
        content,
        parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False, invalid_row_handler=tear),
        convert_options=pyarrow.csv.ConvertOptions(column_types=dict.fromkeys(_TEXT_COLUMNS, pa.string())),
    )
    for name in {"label", "score"} & {*table.column_names}:
        table = table.set_column(table.column_names.index(name), name, _numbers(table[name]))
    return _with_nulls(table, len(torn))


def _with_nulls(table: pa.Table, rows: int) -> pa.Table:
    """The table, with rows of nulls behind: what was there could not be read."""
    nulls = [pa.nulls(rows, field.type) for field in table.schema]
    return pa.concat_tables([table, pa.Table.from_arrays(nulls, schema=table.schema)])


def _numbers(texts: "pa.ChunkedArray[Any]") -> pa.Array:
    def number(text: str | None) -> float | None:
        try:
            return None if text is None else float(text)
        except ValueError:
            return None

    return pa.array([number(text) for text in texts.to_pylist()], pa.float64())


_READERS: dict[str, Callable[[IO[bytes]], pa.Table]] = {
    "parquet": pyarrow.parquet.read_table,
    "tsv": _read_tsv,
    "jsonl": _read_jsonl,
}
READABLE = tuple(f".{kind}" for kind in _READERS)
"""How the names of such files end."""
