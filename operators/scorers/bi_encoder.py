"""The bi-encoder: query and document embedded apart, compared by the checkpoint's own similarity."""

import time
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from pydantic import Field

from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.sentence_transformers import (
    Side,
    TextEncoder,
    load_sentence_model,
    prompt_of,
    run_texts,
    set_length,
    verify_sentence_model,
)
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.inference.tokens import distinct
from ray_rerank.operators.models.checkpoint import Checkpoint
from ray_rerank.operators.models.device import default_batch_tokens, pick_placement, precision_name
from ray_rerank.operators.models.sentence_files import SentenceFiles, find_sentence_files
from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig, whatever_is_raised_names_the_model
from ray_rerank.operators.scorers.proof import LoadedModel, prove, try_out

CODE_VERSION = 1
"""Part of the scorer's identity: raise it when the same config and weights would score differently."""

Similarity = Literal["cosine", "dot", "euclidean", "manhattan"]
SIMILARITIES = get_args(Similarity)

_PAIRS = 1 << 14  # pairs compared at a time


class BiEncoderConfig(ModelConfig):
    """A sentence-transformers checkpoint; pooling, normalisation, prompts and similarity are read from it."""

    title: ClassVar[str] = "bi-encoder"
    colour: ClassVar[str] = "#D55E00"
    marker: ClassVar[str] = "s"

    kind: Literal["bi-encoder"] = "bi-encoder"
    max_length: int | None = Field(None, ge=8, description="tokens of a text; default: the checkpoint's own")
    query_prompt: str | None = Field(None, description="put before queries; default: the checkpoint's")
    document_prompt: str | None = Field(None, description="put before documents; default: the checkpoint's")
    similarity: Similarity | None = Field(None, description="default: the checkpoint's, or cosine")

    @whatever_is_raised_names_the_model
    def identity(self) -> dict[str, Any]:
        """All that decides a score, and nothing else (not where the model lies, nor the batch size).

        Raises:
            ModelError: the model cannot be found, or is no sentence-transformers checkpoint.
        """
        from sentence_transformers import SentenceTransformer

        files = self.files()
        verify_sentence_model(SentenceTransformer, self.model, files)
        try_out(self, files.checkpoint, lambda: BiEncoder(self, device="cpu"))
        said = self.model_dump(
            include={"kind", "max_length", "query_prompt", "document_prompt", "similarity", "precision"}
        )
        return said | {"weights": files.checkpoint.content, "score": "similarity", "code": CODE_VERSION}

    def checkpoint(self) -> Checkpoint:
        """The model's files, checked without loading them."""
        return self.files().checkpoint

    def files(self) -> SentenceFiles:
        """What the save consists of.

        Raises:
            ModelError: the model cannot be found, or is no sentence-transformers checkpoint.
        """
        files = find_sentence_files(self.model, self.revision, self.kind)
        if not files.modules:
            raise ModelError(
                f"{self.model}: holds no modules.json, so how to pool its tokens is not known; a bi-encoder is a "
                "sentence-transformers checkpoint"
            )
        if "Pooling" not in files.modules:
            raise ModelError(
                f"{self.model}: its modules ({', '.join(files.modules)}) make no one vector of a text: no Pooling"
            )
        similarity = files.settings.get("similarity_fn_name")
        if similarity not in (None, *SIMILARITIES):
            raise ModelError(
                f"{self.model}: config_sentence_transformers.json has the similarity_fn_name {similarity!r}; known are "
                f"{', '.join(SIMILARITIES)}"
            )
        dimension = files.settings.get("truncate_dim")
        if dimension is not None and (not isinstance(dimension, int) or isinstance(dimension, bool) or dimension < 1):
            raise ModelError(f"{self.model}: truncate_dim is {dimension!r} in its config_sentence_transformers.json")
        files.check_override(self.model, self.max_length)
        return files

    def load(self, threads: int | None = None) -> "BiEncoder":
        """Load the model onto this process's device."""
        return BiEncoder(self, threads)


class BiEncoder(Pointwise):
    """A loaded bi-encoder. One per process: it sets the process's thread count."""

    def __init__(self, config: BiEncoderConfig, threads: int | None = None, device: str | None = None) -> None:
        """Load all modules from safetensors, never running code from the model's directory.

        Raises:
            ModelError: the model cannot be loaded, or does not score a pair the same in any company.
        """
        import torch
        from sentence_transformers import SentenceTransformer

        if threads:
            torch.set_num_threads(threads)
        self.config = config
        place, dtype = pick_placement(config.precision, device)
        self.precision = precision_name(dtype)
        files = config.files()
        self._model = load_sentence_model(SentenceTransformer, config.model, files, place, dtype)
        set_length(config.model, files, self._model, config.max_length)
        if config.similarity:
            self._model.similarity_fn_name = config.similarity
        self._budget = TokenBudget(config.batch_tokens or default_batch_tokens(place))
        self.evaluate = self._evaluate
        prove(LoadedModel(config, files.checkpoint, self.precision), self.evaluate, self._budget)

    @property
    def similarity(self) -> str:
        """How vectors are compared: cosine, dot, euclidean or manhattan."""
        return str(self._model.similarity_fn_name)

    def embed(self, texts: Sequence[str], side: Side, work: ScoringStats | None = None) -> np.ndarray:
        """Embed texts as sentence-transformers' `encode_query` or `encode_document` would.

        Args:
            texts: n texts; give each once.
            side: whether they are queries or documents.
            work: if given, what this call cost is added to it.

        Returns:
            float32 of (n, dimension).
        """
        override = self.config.query_prompt if side == "query" else self.config.document_prompt

        def fetch(_: np.ndarray, features: dict[str, Any]) -> Callable[[], np.ndarray]:
            vectors = features["sentence_embedding"][:, : self._model.truncate_dim].float()
            return lambda: np.asarray(vectors.cpu().numpy())

        vectors = np.zeros((len(texts), self._model.get_embedding_dimension() or 0), dtype=np.float32)
        encoder = TextEncoder(self._model, side, prompt_of(self._model, side, override), self._budget)
        for batch, embedded in run_texts(encoder, texts, fetch, ScoringStats() if work is None else work):
            vectors[batch] = embedded
        return vectors

    def _evaluate(self, rows: Sequence[tuple[str, ...]], work: ScoringStats) -> np.ndarray:
        """float32 of len(rows): similarities of (query, document) rows, a distance negated.

        Each distinct text is embedded once, and `work.evaluations` counts them.
        """
        import torch

        started = time.perf_counter()
        queries, query_of = distinct([row[0] for row in rows])
        documents, document_of = distinct([row[1] for row in rows])
        of_queries = torch.from_numpy(self.embed(queries, "query", work))
        of_documents = torch.from_numpy(self.embed(documents, "document", work))
        scores = np.empty(len(rows), dtype=np.float32)
        for start in range(0, len(rows), _PAIRS):
            own = slice(start, start + _PAIRS)
            compared = self._model.similarity_pairwise(of_queries[query_of[own]], of_documents[document_of[own]])
            scores[own] = compared.cpu().numpy()
        work.seconds += time.perf_counter() - started
        return scores
