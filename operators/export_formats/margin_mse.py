"""sentence-transformers MarginMSELoss (https://arxiv.org/abs/2010.02666): triplets, or a positive with n negatives."""

from collections import Counter

import pyarrow as pa

from ray_rerank.operators.export_formats.format import Export, File, Rows
from ray_rerank.operators.export_formats.selection import ExportOptions, LabelledQuery, by_positive


def _negatives(choice: ExportOptions) -> list[str]:
    if choice.tuples is None:
        return ["negative"]
    return [f"negative_{number}" for number in range(1, (choice.negatives or 1) + 1)]


def _schema(choice: ExportOptions) -> pa.Schema:
    label = pa.float32() if choice.tuples is None else pa.list_(pa.float32())
    texts = ["query", "positive", *_negatives(choice)]
    return pa.schema([*((name, pa.string()) for name in texts), ("label", label)])


def _rows(group: LabelledQuery, choice: ExportOptions, left_out: Counter[str]) -> Rows:
    """The label is score(positive) - score(negative), a list of these, or the list of all n + 1 scores."""
    for positive, negatives in by_positive(group, choice, left_out, whole=choice.tuples is not None):
        given = {"query": group.query, "positive": positive.text}
        margins = [positive.score - negative.score for negative in negatives]
        if choice.tuples is None:
            for negative, margin in zip(negatives, margins, strict=True):
                yield "train.parquet", given | {"negative": negative.text, "label": margin}
            continue
        texts = {name: document.text for name, document in zip(_negatives(choice), negatives, strict=True)}
        scores = [document.score for document in (positive, *negatives)]
        label = margins if choice.tuples == "margins" else scores
        yield "train.parquet", given | texts | {"label": label}


MARGIN_MSE = Export(
    "margin-mse",
    "sentence-transformers MarginMSELoss: query, positive, negative, label; or negative_1 to negative_n",
    (File("train.parquet", _schema),),
    _rows,
    ("tuples",),
)
