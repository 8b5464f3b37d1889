"""sentence-transformers MSELoss of a cross-encoder: the teacher's score of every pair."""

from collections import Counter

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows, fixed
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, taken


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    for document in taken(group, choice, left_out):
        yield "train.parquet", {"query": group.query, "document": document.text, "score": document.score}


MSE = Export(
    "mse",
    "sentence-transformers MSELoss: query, document, score",
    (File("train.parquet", fixed(query=pa.string(), document=pa.string(), score=pa.float32())),),
    _rows,
)
