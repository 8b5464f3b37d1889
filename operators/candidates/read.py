"""The candidate shard: what shapes are taken, and how a table of one becomes clean candidates and faults."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from ray_rerank.operators.arrow import list_sizes, one_array, parents, places, struct_array, to_lists
from ray_rerank.operators.candidates.schema import (
    CARRIED,
    REJECT_SCHEMA,
    Columns,
    Origin,
    Shape,
    query_starts,
    shape_of,
    takeable,
)
from ray_rerank.operators.formats.cells import LONGEST_ID

LONGEST_TEXT = 32 << 20
_NONE_LEFT = "no candidate of this query can be ranked"
_TOO_LONG = "the {} has more than {:,} bytes"


@dataclass(frozen=True, slots=True)
class _Flat:
    """Both shapes as one: arrays a query (query_id, query, first_row) and a candidate (the rest)."""

    query_id: pa.Array
    query: pa.Array
    broken_query_id: np.ndarray
    broken_query: np.ndarray
    first_row: np.ndarray
    parent: np.ndarray
    row: np.ndarray
    doc_id: pa.Array
    text: pa.Array
    score: pa.Array
    broken_doc_id: np.ndarray
    broken_text: np.ndarray
    other_query: np.ndarray


def read_candidates(
    table: pa.Table, columns: Columns, origin: Origin, extra: tuple[str, ...] = (), carry: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Separate what can be ranked from what cannot.

    First-stage rank is the place in the list, or, where every candidate of a query has a finite score,
    the order of falling score with ties in list order; it counts from 1 over all candidates of the input.

    Args:
        table: rows of one file in either shape, whole queries only.
        columns: what the file calls its columns.
        origin: for the rejects.
        extra: columns to pass through (in the flat shape, from the first row of the query).
        carry: also give every candidate the fields of CARRIED, null where the file has none or it is not finite.

    Returns:
        The candidates, one row per query: `query_id, query, row, *extra, candidates: list<struct<doc_id, text,
        first_stage_rank: int32, first_stage_score: float32, score: float32, stage: int32>>` in first-stage
        order with null score and stage 0; and the rejects, of REJECT_SCHEMA.

    Raises:
        InputError: as `shape_of`.
    """
    shape = shape_of(table.schema, columns, extra, origin.file)
    flat = _from_nested(table, columns) if shape == "nested" else _from_flat(table, columns)
    size = np.bincount(flat.parent, minlength=len(flat.first_row))
    query_reason, reason = _find_query_reasons(flat, size, origin), _find_candidate_reasons(flat)
    sound_query = query_reason == np.array(None)
    reason[~sound_query[flat.parent]] = None  # the whole query has one
    sound = (reason == np.array(None)) & sound_query[flat.parent]
    ranked = np.bincount(flat.parent[sound], minlength=len(size)) > 0
    query_reason[sound_query & ~ranked] = _NONE_LEFT
    rejects = _list_rejects(flat, size, origin, query_reason, reason)

    rank = _first_stage_rank(flat.parent, flat.score, size)
    order = np.lexsort((rank, flat.parent))
    order = order[sound[order]]
    kept = np.flatnonzero(ranked)
    members = _take_members(flat, rank, order)
    if carry:
        members |= {name: held.take(order) for name, held in _carried(table, columns, shape).items()}
    content = {
        "query_id": flat.query_id.take(kept),
        "query": flat.query.take(kept),
        "row": pa.array(flat.first_row[kept] + origin.first_row, pa.int64()),
    }
    passed = {name: table[name] for name in extra if name not in content}
    content |= {name: held.cast(takeable(held.type)).take(flat.first_row[kept]) for name, held in passed.items()}
    sizes = np.bincount(flat.parent[order], minlength=len(size))[kept]
    content["candidates"] = to_lists(sizes, struct_array(members))
    return pa.table(content), rejects


def _find_query_reasons(flat: _Flat, size: np.ndarray, origin: Origin) -> np.ndarray:
    """object of q: why no candidate of a query is taken, None where there is no reason."""
    reasons = np.full(len(size), None, dtype=object)
    again = np.isin(flat.first_row + origin.first_row, [] if origin.repeated is None else origin.repeated)
    for reason, bad in (
        ("the query_id stood in a row before", again),
        ("the candidate list is empty", size == 0),
        ("the query is empty", _blank(flat.query)),
        ("the query is not valid UTF-8", flat.broken_query),
        (_TOO_LONG.format("query", LONGEST_TEXT), _longer(flat.query, LONGEST_TEXT)),
        ("the query_id is empty", _blank(flat.query_id)),
        ("the query_id is not valid UTF-8", flat.broken_query_id),
        (_TOO_LONG.format("query_id", LONGEST_ID), _longer(flat.query_id, LONGEST_ID)),
    ):
        reasons[bad] = reason
    return reasons


def _find_candidate_reasons(flat: _Flat) -> np.ndarray:
    """object of n: why a candidate is not taken, None where there is no reason."""
    reasons = np.full(len(flat.parent), None, dtype=object)
    for reason, bad in (
        ("this row's query differs from the first row's of the same query_id", flat.other_query),
        ("the text is empty", _blank(flat.text)),
        ("the text is not valid UTF-8", flat.broken_text),
        (_TOO_LONG.format("text", LONGEST_TEXT), _longer(flat.text, LONGEST_TEXT)),
        ("the doc_id is empty", _blank(flat.doc_id)),
        ("the doc_id is not valid UTF-8", flat.broken_doc_id),
        (_TOO_LONG.format("doc_id", LONGEST_ID), _longer(flat.doc_id, LONGEST_ID)),
    ):
        reasons[bad] = reason
    whole = reasons == np.array(None)
    reasons[_repeated(flat.parent, flat.doc_id, whole)] = "the doc_id occurs twice in this query; the first is ranked"
    return reasons


def _take_members(flat: _Flat, rank: np.ndarray, order: np.ndarray) -> dict[str, pa.Array]:
    """The fields of the candidates that are taken, in their order."""
    return {
        "doc_id": flat.doc_id.take(order),
        "text": flat.text.take(order),
        "first_stage_rank": pa.array(rank[order], pa.int32()),
        "first_stage_score": flat.score.take(order),
        "score": pa.nulls(len(order), pa.float32()),
        "stage": pa.array(np.zeros(len(order)), pa.int32()),
    }


def _carried(table: pa.Table, columns: Columns, shape: Shape) -> dict[str, pa.Array]:
    """CARRIED of all candidates of the input, in its order."""
    if shape == "flat":
        rows = table.num_rows
        held = {name: one_array(table[name]) for name in CARRIED if name in table.column_names}
    else:
        structs = one_array(table[columns.candidates]).flatten()
        places = {name: structs.type.get_field_index(name) for name in CARRIED}
        held = {name: pc.struct_field(structs, [at]) for name, at in places.items() if at >= 0}
        rows = len(structs)
    label = held.get("label", pa.nulls(rows)).cast(pa.float32(), safe=False)
    finite = pc.if_else(pc.is_finite(label), label, None)
    return {"label": finite, "source": _strings(held.get("source", pa.nulls(rows, pa.string())))[0]}


def _from_nested(table: pa.Table, columns: Columns) -> _Flat:
    lists = one_array(table[columns.candidates])
    parent = parents(list_sizes(lists))
    structs = lists.flatten()

    def field(name: str) -> pa.Array:  # by number: a name may look like a path
        return pc.struct_field(structs, [structs.type.get_field_index(name)])

    query_id, broken_query_id = _strings(one_array(table[columns.query_id]))
    query, broken_query = _strings(one_array(table[columns.query]))
    doc_id, broken_doc_id = _strings(field(columns.doc_id))
    text, broken_text = _strings(field(columns.text))
    scored = structs.type.get_field_index(columns.score) >= 0
    score = field(columns.score) if scored else pa.nulls(len(parent))
    return _Flat(
        query_id,
        query,
        broken_query_id,
        broken_query,
        np.arange(table.num_rows),
        parent,
        parent,
        doc_id,
        text,
        score.cast(pa.float32(), safe=False),
        broken_doc_id,
        broken_text,
        np.zeros(len(parent), dtype=bool),
    )


def _from_flat(table: pa.Table, columns: Columns) -> _Flat:
    query_id, broken_query_id = _strings(one_array(table[columns.query_id]))
    query, broken_query = _strings(one_array(table[columns.query]))
    doc_id, broken_doc_id = _strings(one_array(table[columns.doc_id]))
    text, broken_text = _strings(one_array(table[columns.text]))
    rows = table.num_rows
    score = one_array(table[columns.score]) if columns.score in table.column_names else pa.nulls(rows)
    starts = query_starts(one_array(table[columns.query_id]))
    first_row = np.flatnonzero(starts)
    parent = np.cumsum(starts) - 1
    own, first = query, query.take(first_row[parent])
    same = pc.fill_null(pc.equal(own, first), False).to_numpy(zero_copy_only=False)
    both_null = pc.and_(pc.is_null(own), pc.is_null(first)).to_numpy(zero_copy_only=False)
    return _Flat(
        query_id.take(first_row),
        query.take(first_row),
        broken_query_id[first_row],
        broken_query[first_row],
        first_row,
        parent,
        np.arange(rows),
        doc_id,
        text,
        score.cast(pa.float32(), safe=False),
        broken_doc_id,
        broken_text,
        ~(same | both_null),
    )


def _strings(array: pa.Array) -> tuple[pa.Array, np.ndarray]:
    """An array as valid strings, with null where bytes are not UTF-8, and where that was."""
    if pa.types.is_integer(array.type):
        array = array.cast(pa.string())
    broken = np.zeros(len(array), dtype=bool)
    raw = array.cast(pa.large_binary())
    try:
        return raw.cast(pa.string()), broken  # the cast checks UTF-8
    except pa.ArrowInvalid:
        values: list[str | None] = []
        for index, value in enumerate(raw.to_pylist()):
            try:
                values.append(None if value is None else value.decode("utf-8"))
            except UnicodeDecodeError:
                values.append(None)
                broken[index] = True
        return pa.array(values, pa.string()), broken


def _longer(array: pa.Array, most: int) -> np.ndarray:
    longer = pc.greater(pc.binary_length(array), most)
    return np.asarray(pc.fill_null(longer, False).to_numpy(zero_copy_only=False), dtype=bool)


def _blank(array: pa.Array) -> np.ndarray:
    blank = pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(array)), 0)
    return np.asarray(pc.fill_null(blank, True).to_numpy(zero_copy_only=False), dtype=bool)


def _repeated(parent: np.ndarray, doc_id: pa.Array, among: np.ndarray) -> np.ndarray:
    """bool: a doc_id that stood before in the same query, both of them `among` (nulls are another fault)."""
    codes = doc_id.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    codes = np.where(among, codes, -1)
    order = np.lexsort((codes, parent))  # stable, so that equals stay in list order
    again = (np.diff(parent[order]) == 0) & (np.diff(codes[order]) == 0)
    repeated = np.zeros(len(parent), dtype=bool)
    repeated[order[1:]] = again
    found: np.ndarray = repeated & (codes >= 0)
    return found


def _first_stage_rank(parent: np.ndarray, score: pa.Array, size: np.ndarray) -> np.ndarray:
    values = score.to_numpy(zero_copy_only=False).astype(np.float64)
    unscored = np.bincount(parent, weights=~np.isfinite(values), minlength=len(size)) > 0
    key = np.where(unscored[parent], 0.0, -np.nan_to_num(values))
    order = np.lexsort((key, parent))
    rank = np.empty(len(parent), dtype=np.int64)
    rank[order] = places(size) + 1
    return rank


def _list_rejects(
    flat: _Flat, size: np.ndarray, origin: Origin, query_reason: np.ndarray, reason: np.ndarray
) -> pa.Table:
    """One line per candidate with a reason, then one per query with a reason.

    Args:
        size: int64 of q, candidates per query; one whose candidates have lines of their own stands for none.
        query_reason, reason: object of q and of n, None where there is no reason.
    """
    lost, lost_query = reason != np.array(None), query_reason != np.array(None)
    bare = query_reason == _NONE_LEFT
    return pa.concat_tables(
        [
            _to_reject_table(
                origin,
                flat.row[lost],
                query_id=flat.query_id.take(flat.parent[lost]),
                doc_id=flat.doc_id.filter(lost),
                reason=pa.array(reason[lost].tolist(), pa.string()),
                candidates=pa.array(np.ones(lost.sum(), np.int64)),
            ),
            _to_reject_table(
                origin,
                flat.first_row[lost_query],
                query_id=flat.query_id.filter(lost_query),
                doc_id=pa.nulls(int(lost_query.sum()), pa.string()),
                reason=pa.array(query_reason[lost_query].tolist(), pa.string()),
                candidates=pa.array(np.where(bare, 0, size)[lost_query], pa.int64()),
            ),
        ]
    )


def _to_reject_table(origin: Origin, rows: np.ndarray, **columns: pa.Array) -> pa.Table:
    """Rejects of REJECT_SCHEMA; `columns` are those beside file and row."""
    place = {
        "file": pa.array([origin.file] * len(rows), pa.string()),
        "row": pa.array(rows + origin.first_row, pa.int64()),
    }
    return pa.table(place | columns, schema=REJECT_SCHEMA)
