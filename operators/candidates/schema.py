"""The candidate shard: its columns, and which shapes of it are taken."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from ray_rerank.operators.errors import InputError, listed

CANDIDATE = pa.struct([("doc_id", pa.string()), ("text", pa.string()), ("score", pa.float32())])
CANDIDATE_SCHEMA = pa.schema([("query_id", pa.string()), ("query", pa.string()), ("candidates", pa.list_(CANDIDATE))])
"""One row a query; `candidates` stand in first-stage order, `score` (optional) is the first stage's."""


REJECT_SCHEMA = pa.schema(
    [
        ("file", pa.string()),
        ("row", pa.int64()),  # of the file, from 0
        ("query_id", pa.string()),
        ("doc_id", pa.string()),  # null: the whole query, or a candidate without one, whose reason begins "the doc_id"
        ("reason", pa.string()),
        ("candidates", pa.int64()),  # how many candidates of the input this line accounts for
    ]
)
"""What was left out and why. Candidates read = candidates ranked + sum of `candidates` here, and queries
read = queries ranked + lines here for a whole query."""

Shape = Literal["nested", "flat"]
CARRIED = {"label": pa.float32(), "source": pa.string()}
"""What is known of a candidate besides, and can be carried along: a judgement, and which miner gave it."""


class Columns(BaseModel):
    """What the input calls each column; in the nested shape the last three are fields of `candidates`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    query_id: str = "query_id"
    query: str = "query"
    candidates: str = "candidates"
    doc_id: str = "doc_id"
    text: str = "text"
    score: str = "score"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a table was cut from.

    Attributes:
        file: which file.
        first_row: of the table, in the file.
        repeated: int64, rows of the file whose query_id is in an earlier row as well; None if there are none.
    """

    file: str
    first_row: int = 0
    repeated: np.ndarray | None = field(default=None, compare=False)


def shape_of(schema: pa.Schema, columns: Columns, extra: tuple[str, ...] = (), file: str = "the input") -> Shape:
    """Tell which of the two shapes a Parquet schema is.

    Raises:
        InputError: a column is missing or of the wrong type; the message names file and column.
    """
    nested = columns.candidates in schema.names
    own = [columns.candidates] if nested else [columns.doc_id, columns.text, columns.score]
    _check_once(file, schema.names, [columns.query_id, columns.query, *own, *extra])
    present = {field.name: field.type for field in schema}
    fields, prefix = present, ""
    if nested:
        kind = present[columns.candidates]
        if not _is_list(kind) or not pa.types.is_struct(kind.value_type):
            raise InputError(
                f"{file}: column {columns.candidates!r} is {listed([kind])}; it should be a list of structs with "
                f"{columns.doc_id!r} and {columns.text!r}"
            )
        prefix = f"{columns.candidates}."
        names = [field.name for field in kind.value_type]
        _check_once(file, names, [columns.doc_id, columns.text, columns.score], prefix)
        fields = {field.name: field.type for field in kind.value_type}
    for held, before, name, fits in (
        (present, "", columns.query_id, holds_ids),
        (present, "", columns.query, holds_text),
        (fields, prefix, columns.doc_id, holds_ids),
        (fields, prefix, columns.text, holds_text),
    ):
        if name not in held:
            raise InputError(
                f"{file}: there is no column {before + name!r} (it has {listed(before + name for name in held)}); "
                "name yours under `columns:`, or make candidate shards with `ray-rerank prepare`"
            )
        if not fits(held[name]):
            wanted = "a string" if fits is holds_text else "a string or an integer"
            raise InputError(f"{file}: column {before + name!r} is {listed([held[name]])}; it should be {wanted}")
    score = fields.get(columns.score)
    if score is not None and not _is_number(score):
        raise InputError(f"{file}: column {prefix + columns.score!r} is {listed([score])}; it should be a number")
    taken = {"row", "candidates", "ranking"} | ({"query_id", "query"} - {columns.query_id, columns.query})
    for name in extra:
        if name not in present:
            raise InputError(f"{file}: there is no column {name!r} to pass through (it has {listed(present)})")
        if name in taken:
            raise InputError(f"{file}: column {name!r} cannot be passed through: the ranking has its own of that name")
        if not _can_be_taken(present[name]):
            raise InputError(f"{file}: column {name!r} is {listed([present[name]])}, which cannot be passed through")
    return "nested" if nested else "flat"


def check_carried(schema: pa.Schema, columns: Columns, shape: Shape, file: str) -> tuple[str, ...]:
    """The top-level columns that have to be read for CARRIED as well.

    Raises:
        InputError: one of them is there twice, or of another type; the message names file and column.
    """
    prefix = "" if shape == "flat" else f"{columns.candidates}."
    held = schema if shape == "flat" else schema.field(columns.candidates).type.value_type
    fields = [held.field(at) for at in range(len(held) if shape == "flat" else held.num_fields)]
    _check_once(file, [field.name for field in fields], list(CARRIED), prefix)
    found = [field for field in fields if field.name in CARRIED]
    for member in found:
        if member.name == "source" and not holds_text(member.type):
            raise InputError(
                f"{file}: column {prefix + member.name!r} is {listed([member.type])}; it should be a string"
            )
        if member.name == "label" and not (_is_number(member.type) or pa.types.is_boolean(member.type)):
            raise InputError(
                f"{file}: column {prefix + member.name!r} is {listed([member.type])}; it should be a number"
            )
    return tuple(field.name for field in found) if shape == "flat" else ()


def _check_once(file: str, names: list[str], wanted: list[str], prefix: str = "") -> None:
    for name in wanted:
        if names.count(name) > 1:
            raise InputError(f"{file}: there are {names.count(name)} columns {prefix + name!r}; it should be one")


def needed_columns(shape: Shape, columns: Columns, extra: tuple[str, ...], schema: pa.Schema) -> list[str]:
    """The top-level columns to read from a file of this shape."""
    own = [columns.query_id, columns.query]
    own += [columns.candidates] if shape == "nested" else [columns.doc_id, columns.text, columns.score]
    return [name for name in dict.fromkeys([*own, *extra]) if name in schema.names]


def query_starts(query_id: pa.Array) -> np.ndarray:
    """bool of n: where flat rows begin another query; nulls next to each other count as one query.

    Strings are compared as bytes: an id need not be valid UTF-8 to be told from the next.
    """
    if len(query_id) == 0:
        return np.zeros(0, dtype=bool)
    if not pa.types.is_integer(query_id.type):
        query_id = query_id.cast(pa.large_binary())
    filled = query_id.dictionary_encode().indices.fill_null(-1).to_numpy(zero_copy_only=False)
    changes = filled[1:] != filled[:-1]
    return np.concatenate([[True], changes])


def holds_ids(kind: pa.DataType) -> bool:
    """Whether a column's values can be ids."""
    return holds_text(kind) or pa.types.is_integer(kind)


def holds_text(kind: pa.DataType) -> bool:
    """Whether a column's values are texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return bool(
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind))


def takeable(kind: pa.DataType) -> pa.DataType:
    """The type as which rows of a column can be picked; Arrow cannot pick views."""
    if pa.types.is_string_view(kind):
        return pa.large_string()
    return pa.large_binary() if pa.types.is_binary_view(kind) else kind


def _can_be_taken(kind: pa.DataType) -> bool:
    try:
        pa.nulls(1, takeable(kind)).take(pa.array([0]))
    except pa.ArrowNotImplementedError:
        return False
    return True
