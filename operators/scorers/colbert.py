"""Late interaction (ColBERT, Khattab and Zaharia 2020, arXiv 2004.12832): a vector a token, the best match of each.

score(q, d) = sum over query tokens of the maximum, over document tokens, of the dot product of their vectors.
"""

import string
import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.sentence_transformers import (
    TextEncoder,
    load_sentence_model,
    prompt_of,
    run_texts,
    set_length,
    verify_sentence_model,
)
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.inference.tokens import distinct
from ray_rerank.operators.models.checkpoint import Checkpoint, check_length
from ray_rerank.operators.models.device import default_batch_tokens, pick_placement, precision_name
from ray_rerank.operators.models.sentence_files import SentenceFiles, find_sentence_files
from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig, whatever_is_raised_names_the_model
from ray_rerank.operators.scorers.proof import LoadedModel, prove, try_out

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""

QUERY_LENGTH = 32  # what ColBERT was trained with, where a checkpoint does not say

_ELEMENTS = 1 << 25  # numbers that one step of MaxSim may hold


class ColBERTConfig(ModelConfig):
    """A late-interaction checkpoint of Stanford's ColBERT, of PyLate or of sentence-transformers.

    Projection, markers, query augmentation and punctuation mask are read from the checkpoint.
    """

    title: ClassVar[str] = "ColBERT"
    colour: ClassVar[str] = "#009E73"
    marker: ClassVar[str] = "D"

    kind: Literal["colbert"] = "colbert"
    max_length: int | None = Field(None, ge=8, description="tokens of a document; default: the checkpoint's own")
    query_length: int | None = Field(None, ge=4, description="tokens of a query, filled up to with [MASK]")
    query_marker: str | None = Field(None, description="put before queries; default: the checkpoint's")
    document_marker: str | None = Field(None, description="put before documents; default: the checkpoint's")
    augment_queries: bool | None = Field(None, description="fill queries up with [MASK]; default: the checkpoint's")
    mask_punctuation: bool | None = Field(None, description="leave punctuation out of documents; default: the same")

    @whatever_is_raised_names_the_model
    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, or is no late-interaction checkpoint.
        """
        from sentence_transformers import MultiVectorEncoder

        files = self.files()
        verify_sentence_model(MultiVectorEncoder, self.model, files)
        try_out(self, files.checkpoint, lambda: ColBERT(self, device="cpu"))
        said = self.model_dump(exclude={"model", "revision", "batch_tokens"})
        return said | {"weights": files.checkpoint.content, "score": "MaxSim", "code": CODE_VERSION}

    def checkpoint(self) -> Checkpoint:
        """The model's files, checked without loading them."""
        return self.files().checkpoint

    def files(self) -> SentenceFiles:
        """What the save consists of.

        Raises:
            ModelError: the model cannot be found, or is no late-interaction checkpoint.
        """
        files = find_sentence_files(self.model, self.revision, self.kind)
        stanford = "HF_ColBERT" in (files.checkpoint.config.get("architectures") or [])
        if not files.modules and not stanford:
            raise ModelError(
                f"{self.model}: no late-interaction checkpoint: it has neither modules.json (PyLate, "
                "sentence-transformers) nor the architecture HF_ColBERT in its config.json, so there is no projection"
            )
        if "Pooling" in files.modules:
            raise ModelError(f"{self.model}: pools its tokens into one vector: use `kind: bi-encoder`")
        if not stanford and not {"model_type", "query_prefix"} & set(files.settings):  # PyLate once gave no model_type
            raise ModelError(
                f"{self.model}: no late-interaction checkpoint: config_sentence_transformers.json names no model_type"
            )
        files.check_override(self.model, self.max_length)
        check_length(self.model, files.checkpoint, "query_length", self.query_length)
        return files

    def load(self, threads: int | None = None) -> "ColBERT":
        """Load the model onto this process's device."""
        return ColBERT(self, threads)


class ColBERT(Pointwise):
    """A loaded late-interaction model. One per process: it sets the process's thread count."""

    def __init__(self, config: ColBERTConfig, threads: int | None = None, device: str | None = None) -> None:
        """Load all modules from safetensors, never running code from the model's directory.

        Raises:
            ModelError: the model cannot be loaded, or does not score a pair the same in any company.
        """
        import torch
        from sentence_transformers import MultiVectorEncoder

        if threads:
            torch.set_num_threads(threads)
        self.config = config
        place, dtype = pick_placement(config.precision, device)
        self.precision = precision_name(dtype)
        files = config.files()
        self._model = load_sentence_model(MultiVectorEncoder, config.model, files, place, dtype)
        set_length(config.model, files, self._model, config.max_length)
        self._override(config)
        self._budget = TokenBudget(config.batch_tokens or default_batch_tokens(place))
        self.evaluate = self._evaluate
        prove(LoadedModel(config, files.checkpoint, self.precision), self.evaluate, self._budget)

    def _override(self, config: ColBERTConfig) -> None:
        reader = self._model[0]
        if config.max_length:
            reader.document_length = config.max_length
        expansion = reader.query_expansion or {"strategy": "fixed", "attend": False}
        length = config.query_length or expansion.get("length") or reader.query_length or QUERY_LENGTH
        augment = config.augment_queries if config.augment_queries is not None else bool(reader.query_expansion)
        reader.query_expansion = {**expansion, "length": length} if augment else None
        reader.query_length = None if augment else length
        if config.mask_punctuation is not None:
            for module in self._model:
                if hasattr(module, "skiplist_words"):
                    module.skiplist_words = list(string.punctuation) if config.mask_punctuation else []
                    module.resolve_with_tokenizer(self._model.tokenizer)

    def _evaluate(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        """float32 of len(rows): MaxSim of (query, document) rows.

        Each distinct text is encoded once, and `work.evaluations` counts them; documents' vectors are not kept.
        """
        started = time.perf_counter()
        queries, query_of = distinct([row[0] for row in rows])
        documents, document_of = distinct([row[1] for row in rows])
        query_vectors, query_mask = self._queries(queries, work)
        by_document = np.argsort(document_of, kind="stable")
        ends = np.cumsum(np.bincount(document_of, minlength=len(documents)))
        scores = np.empty(len(rows), dtype=np.float32)

        def fetch(batch: np.ndarray, features: dict[str, Any]) -> Callable[[], None]:
            own = [by_document[ends[one - 1] if one else 0 : ends[one]] for one in batch]
            places = np.repeat(np.arange(len(batch)), [len(part) for part in own])
            of_batch = np.concatenate(own)
            found = self._max_sim(query_vectors, query_mask, query_of[of_batch], features, places)

            def keep() -> None:
                scores[of_batch] = found.cpu().numpy()

            return keep

        marker = prompt_of(self._model, "document", self.config.document_marker)
        encoder = TextEncoder(self._model, "document", marker, self._budget)
        for _ in run_texts(encoder, documents, fetch, work):
            pass
        work.seconds += time.perf_counter() - started
        return scores

    def _queries(self, texts: Sequence[str], work: ScoringStats) -> tuple[Any, Any]:
        """Vectors, float of (queries, longest query, dimension), zero where the mask, bool, is false."""
        import torch

        def fetch(_: np.ndarray, features: dict[str, Any]) -> Callable[[], tuple[Any, Any]]:
            kept = features["attention_mask"].bool()
            vectors = features["token_embeddings"]
            return lambda: (vectors, kept)

        parts: list[Any] = [None] * len(texts)
        marker = prompt_of(self._model, "query", self.config.query_marker)
        encoder = TextEncoder(self._model, "query", marker, self._budget)
        for batch, (vectors, kept) in run_texts(encoder, texts, fetch, work):
            for place, text in enumerate(batch):
                parts[text] = vectors[place][kept[place]]
        if not parts:
            return torch.zeros(0, 0, 0), torch.zeros(0, 0, dtype=torch.bool)
        counts = torch.tensor([len(part) for part in parts], device=parts[0].device)
        padded = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        return padded, torch.arange(padded.shape[1], device=counts.device)[None] < counts[:, None]

    def _max_sim(
        self, query_vectors: Any, query_mask: Any, query_of: np.ndarray, features: dict[str, Any], places: np.ndarray
    ) -> Any:
        """float32 of (pairs,): each pair's query against the document at its place in the batch."""
        import torch

        vectors, mask = features["token_embeddings"], features["attention_mask"].bool()
        each = query_vectors.shape[1] * (vectors.shape[1] + vectors.shape[2]) + vectors.shape[1] * vectors.shape[2]
        step = max(_ELEMENTS // max(each, 1), 1)
        found = []
        for start in range(0, len(places), step):
            query = torch.from_numpy(query_of[start : start + step]).to(vectors.device)
            place = torch.from_numpy(places[start : start + step]).to(vectors.device)
            similarity = query_vectors[query] @ vectors[place].transpose(1, 2)
            best = similarity.masked_fill(~mask[place][:, None], -torch.inf).amax(dim=2).float()
            total = best.masked_fill(~query_mask[query], 0).sum(dim=1)
            if self._model.similarity_fn_name == "meanmaxsim":
                total = total / query_mask[query].sum(dim=1)
            found.append(total)
        return torch.cat(found)
