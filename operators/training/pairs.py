"""Training data: (query, document, label) rows from Parquet, TSV, JSONL or a re-ranking with its texts."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ray_rerank.operators.candidates.same_text import normalised
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.cells import number, shown
from ray_rerank.operators.formats.content import with_compressed
from ray_rerank.operators.formats.file_kinds import what_they_are
from ray_rerank.operators.formats.json_rows import Source, is_json, json_object, json_rows
from ray_rerank.operators.formats.lines import Unusable, parse_lines
from ray_rerank.operators.formats.parquet_rows import batches, is_parquet_file, open_parquet
from ray_rerank.operators.formats.tables import read_table
from ray_rerank.operators.formats.texts import json_id, json_text, named_fields
from ray_rerank.operators.rejects import FaultLog
from ray_rerank.operators.training.leakage import Query

DOCUMENT_NAMES = ("document", "text", "passage")
READABLE = (".parquet", *with_compressed((".tsv", ".csv", ".jsonl", ".json")))
"""How the names of files of pairs end."""
_TEXTS, _NUMBERS = ("query_id", "query", *DOCUMENT_NAMES), ("label", "score", "rank")
_MOST_COLUMNS = 1000
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


def read_training_pairs(
    files: Iterable[tuple[str, IO[bytes]]], source: str, target: Target | None = None
) -> TrainingPairs:
    """Read pairs from Parquet, JSON, TSV and CSV files, all but the first plain or compressed.

    Columns are `query`, `document` (or `text`, `passage`) and `label` or `score`, and `query_id` where there is one:
    what `mine` and `label` write, and any table of pairs. A re-ranking written with its texts (`query`,
    `ranking: list<struct<text, score, ...>>`) is taken as it is, its raw scores as labels, which are a teacher's
    logits. A table has a header line. A line that is no such row costs itself.

    Args:
        files: each's name, which ends with one of READABLE, and its content.
        source: what messages call all of them together.
        target: the column that is learnt; None: `score` where a `rank` stands beside it (a teacher's), else
            `label` where there is one, else `score`.

    Raises:
        InputError: a file cannot be read, a column is missing or of the wrong type, or no row is usable.
    """
    torn = FaultLog()
    tables = [_read(name, content, target, torn) for name, content in files]
    found = usable_pairs(pa.concat_tables(tables), source)
    return TrainingPairs(found.table, {str(reason): many for reason, many in torn.counts.items()} | found.left_out)


def usable_pairs(table: pa.Table, source: str) -> TrainingPairs:
    """Leave out rows that teach nothing: a null or blank query or document, a null or non-finite label."""
    reasons = {
        "empty query": _blank(table["query"]),
        "empty document": _blank(table["document"]),
        "label is no finite number": ~np.isfinite(table["label"].to_numpy()),
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

    Rows with the same id or the same text (as `same_text.normalised` has it) are of one query, also where only other
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


def _read(file: str, content: IO[bytes], target: Target | None, torn: FaultLog) -> pa.Table:
    table = read_parquet(file, content) if is_parquet_file(content, file) else _read_text(file, content, torn)
    if "ranking" in table.column_names:
        table = _flatten(table, file)
        target = target or "score"
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
        raise InputError(
            f"{file}: this ranking lacks its texts (it has {listed(sorted(inner))}); re-rank with --include-text"
        )
    lengths = pc.fill_null(pc.list_value_length(table["ranking"]), 0).to_numpy()
    owners = np.repeat(np.arange(table.num_rows), lengths)
    flat: Any = pc.list_flatten(table["ranking"])
    documents = pa.Table.from_struct_array(flat)
    own = [name for name in ("query_id", "query") if name in table.column_names]
    return pa.Table.from_arrays(
        [*(table[name].take(owners) for name in own), documents["text"], documents["score"]],
        names=[*own, "text", "score"],
    )


def _column(table: pa.Table, names: tuple[str, ...], kind: pa.DataType, file: str) -> "pa.ChunkedArray[Any]":
    name = next((name for name in names if name in table.column_names), None)
    if name is not None and table.column_names.count(name) > 1:
        raise InputError(f"{file}: column {name} stands there twice")
    if name is None:
        raise InputError(
            f"{file}: no column {' or '.join(names)}; it has {listed(table.column_names)}{_way_out(table)}"
        )
    if kind == pa.string() and pa.types.is_floating(table.schema.field(name).type):
        raise InputError(f"{file}: column {name} holds fractions; an id is a string or a whole number")
    try:
        return table[name].cast(kind, safe=False)
    except pa.ArrowException as error:
        raise InputError(f"{file}: column {name} cannot be read as {kind}: {error}") from None


def _way_out(table: pa.Table) -> str:
    triples = {"query", "positive", "negative"} <= {*table.column_names}
    return "; triples are read as a row for each pair: query, document and the label 1 or 0" if triples else ""


def _blank(texts: "pa.ChunkedArray[Any]") -> NDArray[np.bool_]:
    return np.array([text is None or not text.strip() for text in texts.to_pylist()], dtype=np.bool_)


def read_parquet(file: str, content: IO[bytes]) -> pa.Table:
    """A whole file.

    Raises:
        InputError: it is no Parquet file.
    """
    parquet = open_parquet(content, file)
    names = parquet.schema_arrow.names
    if len(names) > _MOST_COLUMNS:
        raise InputError(f"{file}: has {len(names):,} columns, more than {_MOST_COLUMNS:,}: {listed(names)}")
    return pa.Table.from_batches(batches(parquet, content, file, names), parquet.schema_arrow)


def _read_text(file: str, content: IO[bytes], torn: FaultLog) -> pa.Table:
    """The columns of a table or of JSON that are known here."""
    header: list[str] = []
    if is_json(content, file):
        parsed = parse_lines(json_rows(content, file, torn), _json_row, file, "JSON", torn)
    else:
        rows = read_table(content, file, torn).rows
        line, header = next(rows, (0, list[str]()))
        if header and not {"query", *DOCUMENT_NAMES} & {*header}:
            first = "\t".join(header)
            hint = what_they_are([first]) or "name the columns: query, document and label"
            raise InputError(f"{file}, line {line}: {shown(first)} is no header; {hint}")
        parsed = parse_lines(rows, lambda fields: _table_row(header, fields), file, "a table with a header line", torn)
    columns: dict[str, list[Any]] = {name: [] for name in (*_TEXTS, *_NUMBERS)}
    met = dict.fromkeys(header)
    for _, row in parsed:
        met |= dict.fromkeys(row)
        for name, values in columns.items():
            values.append(row.get(name))
    if not columns["query"]:
        return SCHEMA.empty_table()
    kinds = dict.fromkeys(_TEXTS, pa.string()) | dict.fromkeys(_NUMBERS, pa.float64())
    known = {name: pa.array(values, kinds[name]) for name, values in columns.items() if name in met}
    others = {name: pa.nulls(len(columns["query"])) for name in met if name not in kinds}
    return pa.table(known | others)


def _table_row(header: list[str], fields: list[str]) -> dict[str, Any]:
    row: dict[str, Any] = named_fields(header, fields)
    return row | {name: _number(row[name]) for name in _NUMBERS if name in row}


def _json_row(source: Source) -> dict[str, Any]:
    row = json_object(source)
    own = {name: json_text(row, name) for name in _TEXTS if row.get(name) is not None and name != "query_id"}
    if row.get("query_id") is not None:
        own["query_id"] = json_id(row, ("query_id",))
    return row | own | {name: _number(row[name]) for name in _NUMBERS if name in row}


def _number(value: Any) -> float | None:
    try:
        return number(value, "the number") if isinstance(value, str) else float(value)
    except (Unusable, TypeError, ValueError, OverflowError):
        return None
