"""Tevatron's retriever training: a query with its positive and negative passages."""

from collections import Counter
from typing import Any

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows, fixed
from ray_rerank.operators.export_formats.selection import Document, ExportOptions, LabelledQuery, together

_PASSAGES = pa.list_(
    pa.struct([("docid", pa.string()), ("title", pa.string()), ("text", pa.string()), ("score", pa.float64())])
)


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    chosen = together(group, choice, left_out)
    if chosen:
        row = {"query_id": group.query_id, "query": group.query}
        passages = {"positive_passages": _passages(chosen[0]), "negative_passages": _passages(chosen[1])}
        yield "train.jsonl", row | passages


def _passages(documents: list[Document]) -> list[dict[str, Any]]:
    """Tevatron asks for a title; ours, where there was one, is part of the text."""
    return [{"docid": d.doc_id, "title": "", "text": d.text, "score": d.score} for d in documents]


TEVATRON = Export(
    "tevatron",
    "Tevatron JSONL: query_id, query, positive_passages, negative_passages (docid, title, text, score)",
    (
        File(
            "train.jsonl",
            fixed(query_id=pa.string(), query=pa.string(), positive_passages=_PASSAGES, negative_passages=_PASSAGES),
        ),
    ),
    _rows,
)
