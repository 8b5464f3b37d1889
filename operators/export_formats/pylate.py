"""PyLate's distillation of ColBERT models (KDProcessing): ids and scores, and the texts in tables of their own."""

from collections import Counter

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows, fixed
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, by_positive


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    """A row a positive, which stands first; PyLate takes the first `n_ways` of a row, so 1 + `negatives` of them."""
    for positive, negatives in by_positive(group, choice, left_out, whole=True):
        documents = [positive, *negatives]
        ids, scores = [document.doc_id for document in documents], [document.score for document in documents]
        yield "train.parquet", {"query_id": group.query_id, "document_ids": ids, "scores": scores}
        yield "queries.parquet", {"query_id": group.query_id, "text": group.query}
        for document in documents:
            yield "documents.parquet", {"document_id": document.doc_id, "text": document.text}


PYLATE = Export(
    "pylate",
    "PyLate: train (query_id, document_ids, scores), queries (query_id, text), documents (document_id, text)",
    (
        File(
            "train.parquet",
            fixed(query_id=pa.string(), document_ids=pa.list_(pa.string()), scores=pa.list_(pa.float32())),
        ),
        File("queries.parquet", fixed(query_id=pa.string(), text=pa.string()), once="query_id"),
        File("documents.parquet", fixed(document_id=pa.string(), text=pa.string()), once="document_id"),
    ),
    _rows,
)
