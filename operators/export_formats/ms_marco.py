"""MS MARCO style, as sentence-transformers' msmarco-hard-negatives has it: ids alone, and margins beside them."""

import re
from collections import Counter

import pyarrow as pa

from ray_rerank.operators.errors import InputError
from ray_rerank.operators.export_formats.format import Export, File, Rows
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, together
from ray_rerank.operators.formats.line_ids import fits_tabs
from ray_rerank.operators.rejects import Reason

UNKNOWN = "unknown"
"""What negatives without a source are said to come from."""

UNFIT = f"query with an {Reason.UNFIT_ID}"
"""Why a query is left out of both files."""


def _hard_negatives(choice: ExportOptions) -> pa.Schema:
    kind = _kind(choice)
    return pa.schema([("qid", kind), ("pos", pa.list_(kind)), ("neg", pa.map_(pa.string(), pa.list_(kind)))])


def _margins(choice: ExportOptions) -> pa.Schema:
    ids = [(name, _kind(choice)) for name in ("query_id", "positive_id", "negative_id")]
    return pa.schema([*ids, ("score", pa.float64())])


def _kind(choice: ExportOptions) -> pa.DataType:
    return pa.int64() if choice.integer_ids else pa.string()


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    ids = [group.query_id, *(document.doc_id for document in group.documents)]
    if not fits_tabs(*ids):
        left_out[UNFIT] += 1
        return
    chosen = together(group, choice, left_out)
    if not chosen:
        return
    positives, negatives = chosen
    systems: dict[str, list[str | int]] = {}
    for negative in negatives:
        systems.setdefault(negative.source or UNKNOWN, []).append(_id(negative.doc_id, choice))
    query = _id(group.query_id, choice)
    pos = [_id(positive.doc_id, choice) for positive in positives]
    yield "hard-negatives.jsonl", {"qid": query, "pos": pos, "neg": systems}
    for positive in positives:
        for negative in negatives:
            named = {"positive_id": _id(positive.doc_id, choice), "negative_id": _id(negative.doc_id, choice)}
            yield "margins.tsv", {"query_id": query, **named, "score": positive.score - negative.score}


def _id(name: str, choice: ExportOptions) -> str | int:
    if not choice.integer_ids:
        return name
    if not re.fullmatch("-?[0-9]+", name):
        raise InputError(f"the id {name!r} is no integer; leave out --integer-ids")
    return int(name)


MS_MARCO = Export(
    "ms-marco",
    "MS MARCO style: hard-negatives.jsonl (qid, pos, neg by source), margins.tsv (query_id, positive_id, negative_id, "
    "score)",
    (File("hard-negatives.jsonl", _hard_negatives), File("margins.tsv", _margins)),
    _rows,
    ("integer_ids",),
)
