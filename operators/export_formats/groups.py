"""Rows of labels into queries with their documents, as a stream; rows that teach nothing are left out and counted."""

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from enum import StrEnum
from typing import Any

import pyarrow as pa

from ray_rerank.operators.candidates.schema import holds_ids, holds_text
from ray_rerank.operators.errors import InputError, listed
from ray_rerank.operators.export_formats.selection import Document, LabelledQuery

NEEDED = ("query_id", "query", "doc_id", "text", "score")
OPTIONAL = ("rank", "label", "source")


class InputFault(StrEnum):
    """Why a row of the input is left out: faults of the input, not choices of the user."""

    NO_ID = "row without a query_id or a doc_id"
    NO_TEXT = "row without a query or a text"
    NO_SCORE = "row whose score is not a finite number"
    REPEATED_DOC = "row of a doc_id that the query has already"
    REPEATED_QUERY = "query_id that was met before"
    OTHER_QUERY = "row of another query text than its query_id had before"


def columns_of(schema: pa.Schema, file: str) -> list[str]:
    """The columns to read.

    Raises:
        InputError: one is missing or of the wrong type; the message names file and column.
    """
    missing = [name for name in NEEDED if name not in schema.names]
    if missing:
        hint = "label again without --no-include-text" if set(missing) <= {"query", "text"} else "`label` writes them"
        raise InputError(f"{file}: there is no column {', '.join(missing)} (it has {listed(schema.names)}); {hint}")
    for name in set(schema.names) & {*NEEDED, *OPTIONAL}:
        if schema.names.count(name) > 1:
            raise InputError(f"{file}: column {name!r} stands there twice")
    for name in ("query_id", "doc_id", "query", "text", "source"):
        kind = schema.field(name).type if name in schema.names else pa.string()
        fits, wanted = (holds_ids, "a string or an integer") if name.endswith("_id") else (holds_text, "a string")
        if not fits(kind):
            raise InputError(f"{file}: column {name!r} is {listed([kind])}; it should be {wanted}")
    for name in ("score", "label"):
        kind = schema.field(name).type if name in schema.names else pa.float32()
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind) or pa.types.is_null(kind)):
            raise InputError(f"{file}: column {name!r} is {listed([kind])}; it should be a number")
    return [name for name in (*NEEDED, *OPTIONAL) if name in schema.names]


def groups(rows: Iterable[Mapping[str, Any]], seen: set[str], left_out: Counter[str]) -> Iterator[LabelledQuery]:
    """Queries in the order of the input, each with its documents by falling score, ties as they stand.

    Args:
        rows: of one file, with the columns of `columns_of`, contiguous by query.
        seen: query ids met before; this file's are added.
        left_out: counts by reason.
    """
    for query_id, own in itertools.groupby(rows, key=lambda row: row["query_id"]):
        documents: dict[str, Document] = {}
        query = ""
        for row in own:
            reason = _fault(row, documents, query)
            if reason is None:
                query = row["query"]
                documents[str(row["doc_id"])] = _document(row)
            else:
                left_out[reason] += 1
        if not documents:
            continue
        if str(query_id) in seen:
            left_out[InputFault.REPEATED_QUERY] += 1
            continue
        seen.add(str(query_id))
        yield LabelledQuery(
            str(query_id), query, tuple(sorted(documents.values(), key=lambda document: -document.score))
        )


def _fault(row: Mapping[str, Any], documents: dict[str, Document], query: str) -> InputFault | None:
    if row["query_id"] is None or row["doc_id"] is None:
        return InputFault.NO_ID
    if not (row["query"] or "").strip() or not (row["text"] or "").strip():
        return InputFault.NO_TEXT
    if row["score"] is None or not math.isfinite(row["score"]):
        return InputFault.NO_SCORE
    if query and row["query"] != query:
        return InputFault.OTHER_QUERY
    return InputFault.REPEATED_DOC if str(row["doc_id"]) in documents else None


def _document(row: Mapping[str, Any]) -> Document:
    label = row.get("label")
    known = label is not None and math.isfinite(label)
    return Document(str(row["doc_id"]), row["text"], row["score"], label if known else None, row.get("source"))
