"""The held-out figures of a training, step by step, and the weights that had the best, kept on disk."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from ray_rerank.operators.errors import ModelError, reason_of
from ray_rerank.operators.training.held_out import HeldOut

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

EVALUATIONS = "evaluations.json"
BEST = "best.safetensors"
LAST = "last.safetensors"
_NOTED = ("step", "value")
_NOTED_FIGURES = TypeAdapter(dict[int, dict[str, float | None]])


class BestWeights:
    """Called with a model at a step: scores, notes the figures, and keeps the weights if none were better.

    Of equals the later are kept: they have learnt more.

    Everything lies in `folder`, each file replaced whole, so that a training that was killed goes on with what it
    had: a step that is evaluated again overwrites its own figures. Step 0, before training, is noted only.
    """

    def __init__(self, held_out: HeldOut, folder: Path, batch_size: int) -> None:
        self._pairs, self._figures, self._decides = held_out.pairs, held_out.figures, held_out.decides
        self._folder, self._batch_size = folder, batch_size

    def __call__(self, model: "CrossEncoder", step: int) -> dict[str, float | None]:
        scores = model.predict(self._pairs, batch_size=self._batch_size, show_progress_bar=False)
        found = self._figures(np.asarray(scores, dtype=np.float64))
        noted = evaluations(self._folder) | {step: found}
        _write(self._folder / EVALUATIONS, noted)
        value = deciding(found, self._decides)
        if step and value is not None and value >= _metadata(self._folder / BEST).get("value", -math.inf):
            save_weights(model, self._folder / BEST, {"step": step, "value": value})
        return found


def deciding(figures: dict[str, float | None], decides: str) -> float | None:
    """The value of the figure that decides, turned so that more is better."""
    value = figures.get(decides.removeprefix("-"))
    return -value if value is not None and decides.startswith("-") else value


def evaluations(folder: Path) -> dict[int, dict[str, float | None]]:
    """The figures noted so far, by step."""
    try:
        return _NOTED_FIGURES.validate_json((folder / EVALUATIONS).read_bytes())
    except (OSError, ValidationError):  # none yet; damaged ones are lost, as the weights are not
        return {}


def best_step(folder: Path) -> int | None:
    """The step whose weights are kept, if any are."""
    step = _metadata(folder / BEST).get("step")
    return None if step is None else int(step)


def save_weights(model: "CrossEncoder", file: Path, metadata: dict[str, float]) -> None:
    """Write a cross-encoder's weights as they are; the file is there whole or not at all."""
    from safetensors.torch import save_model

    fresh = file.with_name(file.name + ".new")
    save_model(model.model, str(fresh), metadata={name: repr(value) for name, value in metadata.items()})
    fresh.replace(file)


def load_weights(model: "CrossEncoder", file: Path) -> int:
    """Put weights that `save_weights` wrote into a model of the same shape; returns their step."""
    from safetensors.torch import load_model

    load_model(model.model, file)
    return int(_metadata(file)["step"])


def _metadata(file: Path) -> dict[str, float]:
    """What was noted of weights; nothing where there are none yet.

    Raises:
        ModelError: they are damaged.
    """
    from safetensors import SafetensorError, safe_open

    if not file.exists():
        return {}
    try:
        with safe_open(file, framework="np") as weights:
            return {name: float(value) for name, value in (weights.metadata() or {}).items() if name in _NOTED}
    except (OSError, SafetensorError, ValueError) as error:
        raise ModelError(
            f"{file}: is damaged: {reason_of(error)}; delete {file.parent}, and the training begins anew"
        ) from None


def _write(path: Path, content: dict[Any, Any]) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(content), encoding="utf-8")
    fresh.replace(path)
