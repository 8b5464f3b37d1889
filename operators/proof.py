"""What a loaded model has to show before it scores: a pair gets the same score alone and in padded company."""

import numpy as np

from operators.batches import TokenBudget
from operators.device import is_device_lost, is_out_of_memory
from operators.errors import ModelError, reason_of
from operators.pointwise import Evaluate
from operators.work import Work

TOLERANCE = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1}
"""By number format: the difference that rounding explains, as a share of the larger score, or of 1."""

_QUERY = "how to water a cactus"
_SHORT = "seldom"
_LONG = "Let the soil dry out between two waterings, and give it none in winter: roots that stay wet will rot."
_AS_LONG = "Let the soil dry out between two waterings, and none it give in winter: roots that stay wet will rot."


def prove(model: str, evaluate: Evaluate, budget: TokenBudget, precision: str, texts: int = 2) -> None:
    """Score a short row and two as long as each other alone and together. Where company changes a score, batches hold
    rows of equal length from now on, and the proof is made again.

    Args:
        model: what the user calls it, for messages.
        evaluate: the loaded model.
        budget: of its batches; its `equal_lengths` is set where need be.
        precision: fp32, fp16 or bf16.
        texts: how many a row has: a query and one document, or two.

    Raises:
        ModelError: the model cannot score plain rows, or gives no finite number, or a score depends on the other rows
            even without padding.
    """
    rows = [(_QUERY, *(text,) * (texts - 1)) for text in (_SHORT, _LONG, _AS_LONG)]
    try:
        alone = np.concatenate([evaluate([row], Work()) for row in rows])
    except (RuntimeError, ValueError, IndexError, TypeError, KeyError) as error:
        if isinstance(error, ModelError) or is_out_of_memory(error) or is_device_lost(error):
            raise
        raise ModelError(f"{model}: cannot score a plain pair: {reason_of(error)}") from error
    if not np.isfinite(alone).all():
        raise ModelError(
            f"{model}: scores a plain pair as {alone[~np.isfinite(alone)][0]} in {precision}: "
            + ("its weights are not whole" if precision == "fp32" else "try precision fp32")
        )
    allowed = TOLERANCE[precision] * max(1.0, float(np.abs(alone).max()))
    if _difference(evaluate, rows, alone) <= allowed:
        return
    budget.equal_lengths = True
    if (found := _difference(evaluate, rows, alone)) > allowed:
        raise ModelError(
            f"{model}: a pair scores {found:.3g} apart alone and beside another of its length (allowed are "
            f"{allowed:.1g} in {precision}); its scores cannot be trusted"
        )


def _difference(evaluate: Evaluate, rows: list[tuple[str, ...]], alone: np.ndarray) -> float:
    together = evaluate(rows, Work())
    return float(np.abs(together - alone).max()) if np.isfinite(together).all() else np.inf
