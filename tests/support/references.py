"""What others make of a checkpoint: the score of each (query, document) pair by transformers or sentence-transformers,
one pair at a time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder, MultiVectorEncoder, SentenceTransformer
from transformers import AutoTokenizer, T5ForConditionalGeneration

Pairs = Sequence[tuple[str, str]]


def by_cross_encoder(folder: Path, pairs: Pairs) -> np.ndarray:
    model = CrossEncoder(str(folder), device="cpu", local_files_only=True, activation_fn=torch.nn.Identity())
    return np.asarray(model.predict(list(pairs), batch_size=1, show_progress_bar=False))


def by_sentence_transformer(folder: Path, pairs: Pairs) -> np.ndarray:
    return _apart(SentenceTransformer(str(folder), device="cpu", local_files_only=True), pairs)


def by_multi_vector_encoder(folder: Path, pairs: Pairs) -> np.ndarray:
    return _apart(MultiVectorEncoder(str(folder), device="cpu", local_files_only=True), pairs)


def _apart(model: Any, pairs: Pairs) -> np.ndarray:
    queries = model.encode_query([query for query, _ in pairs], batch_size=1)
    documents = model.encode_document([document for _, document in pairs], batch_size=1)
    return np.asarray(model.similarity_pairwise(queries, documents))


def by_monot5(folder: Path, pairs: Pairs) -> np.ndarray:
    texts = [f"Query: {query} Document: {document} Relevant:" for query, document in pairs]
    return _t5(folder, texts, ["▁false", "▁true"]).log_softmax(dim=1)[:, 1].numpy()


def by_rankt5(folder: Path, pairs: Pairs) -> np.ndarray:
    texts = [f"Query: {query} Document: {document}" for query, document in pairs]
    return _t5(folder, texts, ["<extra_id_10>"], end_token=False)[:, 0].numpy()


def by_duot5(folder: Path, pairs: Pairs) -> np.ndarray:
    """Two documents a query: 2 p_ij against 2 p_ji, summed both ways."""
    texts = []
    for number, (query, document) in enumerate(pairs):
        other = next(other for at, (q, other) in enumerate(pairs) if q == query and at != number)
        texts += [f"Query: {query} Document0: {one} Document1: {two} Relevant:"
                  for one, two in ((document, other), (other, document))]  # fmt: skip
    wins = _t5(folder, texts, ["▁false", "▁true"]).softmax(dim=1)[:, 1].reshape(-1, 2)
    return (wins[:, 0] + 1 - wins[:, 1]).numpy()


def _t5(folder: Path, texts: list[str], targets: list[str], end_token: bool = True) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = T5ForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
    wanted = tokenizer.convert_tokens_to_ids(targets)
    start = torch.tensor([[model.config.decoder_start_token_id]])
    found = []
    for text in texts:
        ids = tokenizer(text, return_tensors="pt")["input_ids"]
        ids = ids if end_token else ids[:, :-1]
        with torch.no_grad():
            found.append(model(input_ids=ids, decoder_input_ids=start).logits[0, 0, wanted])
    return torch.stack(found)
