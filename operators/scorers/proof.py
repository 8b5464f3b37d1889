"""What a loaded model has to show before it scores: a pair gets the same score alone and in padded company."""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ray_rerank.operators.errors import ModelError, reason_of
from ray_rerank.operators.inference.batches import TokenBudget
from ray_rerank.operators.inference.stats import ScoringStats
from ray_rerank.operators.models.checkpoint import Checkpoint
from ray_rerank.operators.models.device import is_device_lost, is_out_of_memory
from ray_rerank.operators.scorers.base import Evaluate
from ray_rerank.operators.scorers.config import ModelConfig

TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}
"""By number format: the difference that rounding explains, as a share of the larger score, or of 1."""

PADDING_MATTERS = frozenset(
    {"big_bird", "canine", "convbert", "fnet", "funnel", "mobilebert", "mra", "nystromformer", "reformer", "yoso"}
)
"""Architectures whose scores depend on the padding beside a row, by `model_type`: they mix neighbouring positions,
or attend to blocks. How much it changes differs from row to row, so a few pairs need not show it."""

_SHORT = (
    ("how to water a cactus", "seldom"),
    ("rain", "it falls \N{SNOWMAN}"),
    ("why do roots rot", "the soil was wet too long"),
)
_LONG = ("when does a plant rest", "let the soil dry out between two waterings and give it none in winter")
_AS_LONG = ("when does a plant rest", "let the soil dry out between two waterings and none it give in winter")
TRIED_OUT = 1 << 30
"""The largest model, in bytes of its weights, that is loaded where a job is planned."""

_PATIENCE_S = 600.0

_proven: dict[tuple[str, ...], bool] = {}
"""What this process has proven, and whether it is for batches of one length."""


def try_out(config: ModelConfig, found: Checkpoint, load: Callable[[], object]) -> None:
    """Load and prove a model where a job is planned, so that one that cannot score is refused before the work starts.

    A process does so once, and with no model larger than TRIED_OUT: its workers prove that.

    Args:
        load: loads the scorer on the CPU, in fp32.

    Raises:
        ModelError: see `prove`.
    """
    known = any(key[0] == found.content and key[2] == _settings(config) for key in _proven)
    if known or found.weight_bytes > TRIED_OUT:
        return
    ended: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
    threading.Thread(target=_end_of, args=(load, ended), daemon=True).start()
    try:
        error = ended.get(timeout=_PATIENCE_S)
    except queue.Empty:
        raise ModelError(
            f"{config.model}: was not loaded and did not score a plain pair within {_PATIENCE_S:g} s"
        ) from None
    if error and is_out_of_memory(error):
        raise ModelError(f"{config.model}: a plain pair takes more memory than there is: {reason_of(error)}") from error
    if error:
        raise error


def _end_of(load: Callable[[], object], ended: queue.SimpleQueue[Exception | None]) -> None:
    """In a thread of its own: native code that does not return cannot be interrupted."""
    try:
        load()
    except Exception as error:
        ended.put(error)
    else:
        ended.put(None)


def _settings(config: ModelConfig) -> str:
    return config.model_dump_json(exclude={"model", "revision", "batch_tokens"})


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model as it was loaded.

    Attributes:
        config: of the scorer.
        checkpoint: the files that it was loaded from.
        precision: fp32, fp16 or bf16.
        texts: how many a row has: a query and one document, or two.
    """

    config: ModelConfig
    checkpoint: Checkpoint
    precision: str
    texts: int = 2


def prove(loaded: LoadedModel, evaluate: Evaluate, budget: TokenBudget) -> None:
    """Score short rows alone and beside a long one. Where that changes a score, or is known to, batches hold rows of
    equal length from now on, and a row is scored alone and beside one as long. A process proves a model once.

    Args:
        evaluate: gives rows' scores.
        budget: of its batches; its `equal_lengths` is set where need be.

    Raises:
        ModelError: the model cannot score plain rows, or gives no finite number, or a score depends on the other rows
            even without padding.
    """
    model, precision, texts = loaded.config.model, loaded.precision, loaded.texts
    key = (loaded.checkpoint.content, precision, _settings(loaded.config))
    if key in _proven:
        budget.equal_lengths = _proven[key]
        return
    short, long, as_long = _rows(_SHORT, texts), _rows([_LONG], texts), _rows([_AS_LONG], texts)
    try:
        budget.equal_lengths = loaded.checkpoint.kind in PADDING_MATTERS
        if not budget.equal_lengths:
            apart = _difference(model, evaluate, short, long, precision)
            budget.equal_lengths = apart > TOLERANCE[precision]
        if budget.equal_lengths:
            apart = _difference(model, evaluate, long, as_long, precision)
    except ModelError:
        raise
    except Exception as error:  # a model's code raises whatever the first thing raises that it did not expect
        if is_out_of_memory(error) or is_device_lost(error):
            raise
        raise ModelError(
            f"{model}: cannot score a plain pair by its config.json, tokenizer_config.json and modules: "
            f"{reason_of(error)}"
        ) from error
    if apart > TOLERANCE[precision]:
        raise ModelError(
            f"{model}: a pair scores {apart:.3g} apart alone and beside another of its length (allowed are "
            f"{TOLERANCE[precision]:.1g} in {precision}); its scores cannot be trusted"
        )
    _proven[key] = budget.equal_lengths


def _rows(pairs: Sequence[tuple[str, str]], texts: int) -> list[tuple[str, ...]]:
    return [(query, *(document,) * (texts - 1)) for query, document in pairs]


def _difference(
    model: str, evaluate: Evaluate, rows: list[tuple[str, ...]], company: list[tuple[str, ...]], precision: str
) -> float:
    """The largest difference between rows' scores alone and in company, as a share of the largest score, or of 1."""
    alone = np.concatenate([evaluate([row], ScoringStats()) for row in rows])
    if not np.isfinite(alone).all():
        raise ModelError(
            f"{model}: scores a plain pair as {alone[~np.isfinite(alone)][0]} in {precision}: "
            + (
                "its weights are not whole, or a number in its config.json is wrong"
                if precision == "fp32"
                else "try precision fp32"
            )
        )
    together = evaluate(rows + company, ScoringStats())[: len(rows)]
    found = float(np.abs(together - alone).max()) / max(1.0, float(np.abs(alone).max()))
    return found if np.isfinite(found) else np.inf
