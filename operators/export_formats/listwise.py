"""sentence-transformers listwise losses (ListNet, LambdaLoss, RankNet, ADR-MSE): a query with its list of scores."""

from collections import Counter

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows, fixed
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, taken


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    documents = taken(group, choice, left_out)
    if len(documents) == 1:
        left_out["query with one document"] += 1
    elif documents:
        texts, scores = [document.text for document in documents], [document.score for document in documents]
        yield "train.parquet", {"query": group.query, "docs": texts, "labels": scores}


LISTWISE = Export(
    "listwise",
    "sentence-transformers listwise losses: query, docs, labels",
    (File("train.parquet", fixed(query=pa.string(), docs=pa.list_(pa.string()), labels=pa.list_(pa.float32()))),),
    _rows,
)
