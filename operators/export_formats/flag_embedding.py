"""FlagEmbedding (bge models) with `knowledge_distillation`: texts and scores of a query, aligned by position."""

from collections import Counter

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows, fixed
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, together

_TEXTS, _SCORES = pa.list_(pa.string()), pa.list_(pa.float64())


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    chosen = together(group, choice, left_out)
    if chosen:
        row = {"query": group.query}
        texts = {name: [d.text for d in documents] for name, documents in zip(("pos", "neg"), chosen, strict=True)}
        scores = {f"{name}_scores": [d.score for d in side] for name, side in zip(("pos", "neg"), chosen, strict=True)}
        yield "train.jsonl", row | texts | scores


FLAG_EMBEDDING = Export(
    "flag-embedding",
    "FlagEmbedding JSONL: query, pos, neg, pos_scores, neg_scores",
    (File("train.jsonl", fixed(query=pa.string(), pos=_TEXTS, neg=_TEXTS, pos_scores=_SCORES, neg_scores=_SCORES)),),
    _rows,
)
