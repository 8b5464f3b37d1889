"""A student cut from a teacher: the same encoder with only some of its layers, weights and all; and its spelling."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ray_rerank.operators.errors import InputError, ModelError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True)
class Student:
    """What is kept of a checkpoint.

    Attributes:
        layers: these, from 0; or so many, evenly spaced; None is all.
        vocabulary: so many pieces; None is all.
    """

    layers: tuple[int, ...] | int | None = None
    vocabulary: int | None = None


def parse_student(text: str) -> Student:
    """Read `layers=4`, `layers=0,4,8,11` or `layers=4 vocabulary=16000`; one layer by number is `layers=3,`.

    Raises:
        InputError: it is none of these.
    """
    found: dict[str, tuple[int, ...] | int] = {}
    for part in text.split():
        name, _, value = part.partition("=")
        numbers = value.removesuffix(",").split(",")
        whole = all(number.isascii() and number.isdigit() for number in numbers)
        if not whole or name in found or not (name == "layers" or (name == "vocabulary" and value.isdigit())):
            found = {}
            break
        found[name] = int(value) if value.isdigit() else tuple(map(int, numbers))
    if not found or 0 in found.values():
        raise InputError(f"student {text!r}: write layers=4, layers=0,4,8,11 or 'layers=4 vocabulary=16000'")
    vocabulary = found.get("vocabulary")
    return Student(found.get("layers"), vocabulary if isinstance(vocabulary, int) else None)


def spaced_layers(count: int, total: int) -> tuple[int, ...]:
    """`count` layers of `total` evenly spaced, the first and the last among them: 4 of 12 are 0, 4, 7, 11.

    Raises:
        ModelError: there are not so many.
    """
    if not 1 <= count <= total:
        raise ModelError(f"{count} layers are asked for, and the model has {total}")
    return tuple(int(layer) for layer in np.rint(np.linspace(0, total - 1, count)))


def chosen_layers(layers: Sequence[int] | int, total: int) -> tuple[int, ...]:
    """The layers of a model of `total` that are meant: those given, or so many of them, evenly spaced.

    Raises:
        ModelError: they are none, not rising or not there.
    """
    chosen = spaced_layers(layers, total) if isinstance(layers, int) else tuple(layers)
    if not chosen or list(chosen) != sorted(set(chosen)) or chosen[0] < 0 or chosen[-1] >= total:
        raise ModelError(
            f"layers {list(chosen)}: give at least one, each once and in rising order "
            f"(the model has {total} layers: it has layers 0 to {total - 1})"
        )
    return chosen


def keep_layers(model: "PreTrainedModel", layers: Sequence[int] | int) -> None:
    """Keep only some encoder layers of a model, in their order, in place.

    Embeddings, pooler and head stay as they are; the config then tells the new number of layers, so that the
    model saves and loads as one of that depth. Cutting without retraining makes a poor scorer: distil next.

    Args:
        model: an encoder whose layers stand in one `ModuleList` as long as `config.num_hidden_layers`.
        layers: zero-based, strictly rising; or so many of them, evenly spaced.

    Raises:
        ModelError: the layers are none, not rising or not there, or the model has no such list.
    """
    total = int(model.config.num_hidden_layers)
    chosen = chosen_layers(layers, total)
    name = _layer_list(model, total)
    stack: nn.ModuleList = model.get_submodule(name)
    kept = [stack[layer] for layer in chosen]
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, type(stack)(kept))
    for position, layer in enumerate(kept):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = position  # type: ignore[assignment]
    types = getattr(model.config, "layer_types", None)
    if types is not None:
        model.config.layer_types = [types[layer] for layer in chosen]
    model.config.num_hidden_layers = len(chosen)


def _layer_list(model: "PreTrainedModel", total: int) -> str:
    from torch import nn

    names: list[str] = [
        name for name, module in model.named_modules() if isinstance(module, nn.ModuleList) and len(module) == total
    ]
    if len(names) != 1:
        raise ModelError(
            f"{type(model).__name__}: {len(names)} lists of {total} layers found in it, where an encoder to "
            "cut layers from has just one; leave `layers` out to train it whole"
        )
    return names[0]
