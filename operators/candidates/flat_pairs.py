"""Flat pairs, one row a candidate (query_id, query, doc_id, text[, score]), gathered by query."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.operators.arrow import one_array
from ray_rerank.operators.candidates.join import CandidateList
from ray_rerank.operators.errors import InputError, listed, reason_of
from ray_rerank.operators.formats.cells import is_number, is_text, number, shown
from ray_rerank.operators.formats.column_files import DOC_ID, QUERY_ID
from ray_rerank.operators.formats.content import with_compressed
from ray_rerank.operators.formats.file_kinds import what_they_are
from ray_rerank.operators.formats.json_rows import Source, is_json, json_object, json_rows
from ray_rerank.operators.formats.lines import Unusable, opening, parse_lines
from ray_rerank.operators.formats.parquet_rows import PARQUET_DAMAGE, batches, is_parquet_file, open_parquet
from ray_rerank.operators.formats.tables import Row, check_headless, read_table, row_size
from ray_rerank.operators.formats.texts import checked_id, json_id, json_text, named_fields
from ray_rerank.operators.rejects import Reason, Reject, RejectSink

COLUMNS = ("query_id", "query", "doc_id", "text")
READABLE = (".parquet", *with_compressed((".tsv", ".csv", ".jsonl", ".json")))
"""How the names of files of pairs end."""
PAIR_SCHEMA = pa.schema(
    [
        ("query_id", pa.string()),
        ("query", pa.string()),
        ("doc_id", pa.string()),
        ("text", pa.large_string()),
        ("score", pa.float32()),
        ("file", pa.dictionary(pa.int32(), pa.string())),
        ("line", pa.int64()),
    ]
)
_CHUNK = 1 << 14
_MS_MARCO = ("query_id", "doc_id", "query", "text")  # its top-1000 files
_COLUMN_NAMES = dict.fromkeys(QUERY_ID, "query_id") | dict.fromkeys(DOC_ID, "doc_id") | {"passage": "text"}
_FORM = f"TSV of {'<TAB>'.join(COLUMNS)}[<TAB>score]"

Pair = tuple[str, str, str, str, float | None]


@dataclass(frozen=True, slots=True)
class GroupedPairs:
    """Candidates by query, in order of the queries' first appearance, and the texts that they refer to."""

    selections: list[CandidateList]
    texts: pa.Array


def read_pairs(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[pa.Table]:
    """Read Parquet, JSON or a table as tables of PAIR_SCHEMA; a table with a line that names its columns, or without
    one in the order of COLUMNS or of MS MARCO's top-1000 files (qid, pid, query, passage).

    Raises:
        InputError: the file is none of these, or lacks a column.
    """
    if is_parquet_file(stream, name):
        yield from _parquet_pairs(stream, name, rejects)
    elif is_json(stream, name):
        form = f"JSON with {', '.join(COLUMNS)}[, score]"
        yield from _tables(parse_lines(json_rows(stream, name, rejects), _json_pair, name, form, rejects), name)
    else:
        yield from _tables(_table_pairs(stream, name, rejects), name)


def _table_pairs(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[tuple[int, Pair]]:
    table = read_table(stream, name, rejects)
    rows, first = table.rows, next(table.rows, None)
    if first is None:
        return
    header = _header(first[1], name)
    if table.headed and header is None:
        raise InputError(f"{name}: CSV is read under a header that names {', '.join(COLUMNS)}[, score]")
    if header is None:
        check_headless(first, {*_COLUMN_NAMES, *COLUMNS}, f"{', '.join(COLUMNS)}[, score]", name)
    start: list[Row] = [] if header else [first, *opening(rows, row_size)]
    order = COLUMNS if header else _order(start, name)
    yield from parse_lines(chain(start, rows), _row_parser(header, order), name, _FORM, rejects)


def _parquet_pairs(stream: IO[bytes], name: str, rejects: RejectSink) -> Iterator[pa.Table]:
    file = open_parquet(stream, name)
    _check_columns(file.schema_arrow, name)
    columns = [*COLUMNS, *(["score"] if "score" in file.schema_arrow.names else [])]
    start = 0
    for batch in batches(file, stream, name, columns):
        try:
            table = _usable(pa.Table.from_batches([batch]), name, start, rejects)
        except PARQUET_DAMAGE as error:
            raise InputError(f"{name}: cannot be read as Parquet beyond row {start}: {reason_of(error)}") from None
        yield table
        start += batch.num_rows


def group_pairs(tables: Iterable[pa.Table], depth: int | None, rejects: RejectSink) -> GroupedPairs:
    """Gather pairs by query, wherever their rows stand: by falling score, ties and no score in file order.

    A row goes to `rejects` whose id, query or text is empty, that gives its query_id another query than the
    first row did, or that repeats a doc_id of its query: the better place is kept. All rows are held in
    memory.

    Raises:
        InputError: no row is left.
    """
    table = pa.concat_tables([PAIR_SCHEMA.empty_table(), *tables])
    query_ids, query_names = _coded(table["query_id"])
    queries, query_texts = _coded(table["query"])
    docs, doc_names = _coded(table["doc_id"])
    files, file_names = _coded(table["file"])
    lines = table["line"].to_numpy()
    scores = table["score"].to_numpy().astype(np.float32)
    empty = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(table["text"])), 0).to_numpy()

    def reject(row: int, reason: Reason, detail: str = "") -> None:
        query_id, doc_id = query_names[query_ids[row]], doc_names[docs[row]]
        rejects.add(Reject(file_names[files[row]], int(lines[row]), reason, detail, query_id, doc_id))

    rows_of: dict[int, list[int]] = {}
    query_of: dict[int, int] = {}
    for row in range(table.num_rows):
        query_id = int(query_ids[row])
        if not query_names[query_id].strip() or not doc_names[docs[row]].strip():
            reject(row, Reason.MALFORMED, "an id is empty")
        elif not query_texts[queries[row]].strip():
            reject(row, Reason.EMPTY_TEXT, "the query")
        elif empty[row]:
            reject(row, Reason.EMPTY_TEXT, "the passage")
        elif query_of.setdefault(query_id, int(queries[row])) != queries[row]:
            reject(row, Reason.OTHER_QUERY)
        else:
            rows_of.setdefault(query_id, []).append(row)
    if not rows_of:
        raise InputError("the pairs hold no row that can be used")
    selections = []
    for query_id, found in rows_of.items():
        rows = np.asarray(found, dtype=np.int64)
        rows = rows[np.argsort(-scores[rows], kind="stable")]  # NaN, no score, sorts last
        kept: dict[int, int] = {}
        for row in rows.tolist():
            if docs[row] in kept:
                reject(row, Reason.DUPLICATE_DOC)
            else:
                kept[docs[row]] = row
        rows = np.asarray(list(kept.values()), dtype=np.int64)[:depth]
        doc_ids = [doc_names[docs[row]] for row in rows]
        query = query_texts[query_of[query_id]]
        selections.append(CandidateList(query_names[query_id], query, doc_ids, rows, scores[rows]))
    return GroupedPairs(selections, pa.concat_arrays(table["text"].chunks))


def _coded(column: pa.ChunkedArray) -> tuple[np.ndarray, list[str]]:
    """Each row's index among the distinct values, and these: one Python string a value, not a row."""
    coded = one_array(column).dictionary_encode()
    return coded.indices.to_numpy(zero_copy_only=False), coded.dictionary.to_pylist()


def _tables(parsed: Iterable[tuple[int, Pair]], name: str) -> Iterator[pa.Table]:
    numbers: list[int] = []
    pairs: list[Pair] = []
    for line, pair in parsed:
        numbers.append(line)
        pairs.append(pair)
        if len(pairs) == _CHUNK:
            yield _table(pairs, numbers, name)
            numbers, pairs = [], []
    if pairs:
        yield _table(pairs, numbers, name)


def _table(pairs: Sequence[Pair], numbers: Sequence[int], name: str) -> pa.Table:
    columns = [pa.array(column, PAIR_SCHEMA.field(i).type) for i, column in enumerate(zip(*pairs, strict=True))]
    return pa.Table.from_arrays([*columns, _named(name, len(pairs)), pa.array(numbers)], schema=PAIR_SCHEMA)


def _named(name: str, count: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(count, dtype=np.int32)), pa.array([name]))


def _json_pair(row: Source) -> Pair:
    value = json_object(row)
    found = value.get("score")
    if found is not None and (isinstance(found, bool) or not isinstance(found, int | float)):
        raise Unusable(f"'score' is a {type(found).__name__}, not a number")
    score = None if found is None else number(str(found), "'score'")
    return (
        json_id(value, ("query_id",)),
        json_text(value, "query"),
        json_id(value, ("doc_id",)),
        json_text(value, "text"),
        score,
    )


def _header(first: list[str], name: str) -> list[str] | None:
    """The columns' names where the first row gives them; an id may also be called as in runs, a text `passage`."""
    plain = [column.strip(' "').lower() for column in first]
    columns = [_COLUMN_NAMES.get(column, column) for column in plain]
    if not {"query_id", "doc_id"} & {*plain} and not {"query_id", "doc_id"} <= {*columns}:
        return None
    missing = [column for column in COLUMNS if column not in columns]
    if missing:
        raise InputError(f"{name}, line 1: the header has no column {', '.join(missing)}")
    if twice := [column for column in COLUMNS if columns.count(column) > 1]:
        raise InputError(f"{name}, line 1: more than one column of the header is the {twice[0]}")
    return columns


def _order(start: Sequence[Row], name: str) -> tuple[str, ...]:
    """The order of the columns where no line names them: COLUMNS, or _MS_MARCO's.

    Ids have no space, as a rule; where queries have none either, a query_id still has one query.

    Raises:
        InputError: it is neither.
    """
    rows = [columns for _, columns in start if len(columns) in {4, 5}]
    if 2 * len(rows) < len(start):
        return COLUMNS  # malformed, and told line by line
    orders = []
    for order in (COLUMNS, _MS_MARCO):
        places = [order.index(column) for column in COLUMNS]
        if 2 * sum(_is_no_pair(*(row[at] for at in places)) for row in rows) < len(rows):
            orders.append(order)
    if len(orders) > 1 and len({_other_queries(rows, order.index("query")) for order in orders}) == 1:
        numbers = sum(is_number(row[1]) and not is_number(row[2]) for row in rows)
        orders = [] if 2 * numbers > len(rows) else orders  # queries of one word each, or ids: nothing tells them apart
    orders.sort(key=lambda order: _other_queries(rows, order.index("query")))
    repeated = len(rows) - len({row[0] for row in rows})
    for order in orders[:1]:
        query, text = order.index("query"), order.index("text")
        one_query = 2 * _other_queries(rows, query) <= repeated
        if one_query and not _are_exchanged([row[query] for row in rows], [row[text] for row in rows]):
            return order
    hint = (
        what_they_are("\t".join(columns) for _, columns in start)
        or f"a first line that names them says which is which ({_FORM})"
    )
    raise InputError(
        f"{name}, line {start[0][0]}: {shown(' '.join(start[0][1]))}: the columns are neither {', '.join(COLUMNS)} nor "
        f"{', '.join(_MS_MARCO)}; {hint}"
    )


def _is_no_pair(query_id: str, query: str, doc_id: str, text: str) -> bool:
    """Whether a text stands where an id should, or a number for a text."""
    return is_text(query_id) or is_text(doc_id) or is_number(text)


def _are_exchanged(queries: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether what should be passages is the queries: passages are longer, as a rule."""
    several = sum(map(is_text, queries)), sum(map(is_text, texts))
    return 2 * min(several) > len(queries) and sum(map(len, queries)) > 2 * sum(map(len, texts))


def _other_queries(rows: Sequence[Sequence[str]], column: int) -> int:
    """How many rows do not have what most rows of their query_id have in the column."""
    values: dict[str, Counter[str]] = {}
    for row in rows:
        values.setdefault(row[0], Counter())[row[column]] += 1
    return sum(found.total() - max(found.values()) for found in values.values())


def _row_parser(header: Sequence[str] | None, order: Sequence[str]) -> Callable[[list[str]], Pair]:
    def parse(values: list[str]) -> Pair:
        if header is not None:
            named: Mapping[str, str] = named_fields(header, values)
        elif len(values) in {4, 5}:
            named = dict(zip((*order, "score"), values, strict=False))
        else:
            raise Unusable(f"{len(values)} columns, not 4 or 5")
        score = named.get("score", "").strip()
        return (
            checked_id(named["query_id"]),
            named["query"],
            checked_id(named["doc_id"]),
            named["text"],
            number(score, "the score") if score else None,
        )

    return parse


def _check_columns(schema: Any, name: str) -> None:
    missing = [column for column in COLUMNS if column not in schema.names]
    if missing:
        raise InputError(
            f"{name}: there is no column {', '.join(missing)}; flat pairs have {', '.join(COLUMNS)}"
            f"[, score], and this file has {listed(schema.names)}"
        )
    for column in COLUMNS:
        found = schema.field(column).type
        held = found.value_type if pa.types.is_dictionary(found) else found
        text = pa.types.is_string(held) or pa.types.is_large_string(held) or pa.types.is_string_view(held)
        if not text and not (column.endswith("_id") and pa.types.is_integer(held)):
            raise InputError(f"{name}: column {column} is {found}, not a string")
    if "score" in schema.names:
        found = schema.field("score").type
        if not (pa.types.is_floating(found) or pa.types.is_integer(found)):
            raise InputError(f"{name}: column score is {found}, not a number")


def _usable(table: pa.Table, name: str, start: int, rejects: RejectSink) -> pa.Table:
    """The rows without a null and with valid unicode, as PAIR_SCHEMA; the others go to `rejects`."""
    good = np.ones(table.num_rows, dtype=bool)
    for column in COLUMNS:
        values = table[column]
        for row in np.flatnonzero(values.is_null().to_numpy()).tolist():
            if good[row]:
                rejects.add(Reject(name, start + row + 1, Reason.MALFORMED, f"{column} is null"))
            good[row] = False
        for row in _not_utf8(values):
            if good[row]:
                rejects.add(Reject(name, start + row + 1, Reason.NOT_UTF8, column))
            good[row] = False
    kept = table.filter(pa.array(good))
    arrays = [kept[column].cast(PAIR_SCHEMA.field(column).type) for column in COLUMNS]
    if "score" in table.column_names:
        scores = kept["score"].cast(pa.float32(), safe=False).to_numpy().copy()
        scores[~np.isfinite(scores)] = math.nan
        arrays.append(pa.array(scores, pa.float32(), mask=np.isnan(scores)))
    else:
        arrays.append(pa.nulls(kept.num_rows, pa.float32()))
    numbers = pa.array(start + 1 + np.flatnonzero(good))
    return pa.Table.from_arrays([*arrays, _named(name, kept.num_rows), numbers], schema=PAIR_SCHEMA)


def _not_utf8(values: pa.ChunkedArray) -> list[int]:
    """Rows whose bytes are not UTF-8: Parquet promises them and writers do not always keep it."""
    try:
        values.validate(full=True)
    except pa.ArrowInvalid:
        bad = []
        for row, raw in enumerate(values.cast(pa.large_binary()).to_pylist()):
            try:
                (raw or b"").decode("utf-8")
            except UnicodeDecodeError:
                bad.append(row)
        return bad
    return []
