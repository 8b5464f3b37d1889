"""Files of training pairs: Parquet, TSV, CSV, JSON lines."""

from typing import IO, Any, Literal

import pyarrow as pa

from ray_rerank.operators.arrow import list_sizes, one_array, parents
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.formats.cells import number, shown
from ray_rerank.operators.formats.content import with_compressed
from ray_rerank.operators.formats.file_kinds import what_they_are
from ray_rerank.operators.formats.json_rows import Source, is_json, json_object, json_rows
from ray_rerank.operators.formats.lines import Unusable, parse_lines
from ray_rerank.operators.formats.parquet_rows import batches, is_parquet_file, open_parquet
from ray_rerank.operators.formats.tables import read_table
from ray_rerank.operators.formats.texts import json_id, json_text, named_fields
from ray_rerank.operators.rejects import RejectLog

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


def read_file(file: str, content: IO[bytes], target: Target | None, torn: RejectLog) -> pa.Table:
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
    rankings = one_array(table["ranking"])
    owners, documents = parents(list_sizes(rankings)), pa.Table.from_struct_array(rankings.flatten())
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


def _read_text(file: str, content: IO[bytes], torn: RejectLog) -> pa.Table:
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
