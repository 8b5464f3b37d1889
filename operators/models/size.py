"""How large a model is: its weights on disk, and the parameters in them."""

from dataclasses import dataclass
from glob import glob
from math import prod

from safetensors import safe_open

from ray_rerank.operators.models.checkpoint import find_folder


@dataclass(frozen=True, slots=True)
class ModelSize:
    """What a model's weight files hold.

    Attributes:
        bytes: of the safetensors files, in the number format in which they were saved.
        parameters: numbers in their floating-point tensors.
    """

    bytes: int
    parameters: int


def model_size(model: str, revision: str | None = None) -> ModelSize:
    """Read it off the headers of a model's safetensors files.

    Raises:
        ModelError: there is no such directory, URI or hub id.
    """
    size = parameters = 0
    folder = find_folder(model, revision)
    names = glob("**/*.safetensors", root_dir=folder, recursive=True)  # noqa: PTH207 (Path.rglob follows no links)
    for name in sorted(names):
        path = folder / name
        size += path.stat().st_size
        with safe_open(path, framework="np") as weights:
            for name in weights.keys():  # noqa: SIM118 (the file is no mapping)
                tensor = weights.get_slice(name)
                if tensor.get_dtype().startswith(("F", "BF")):
                    parameters += prod(tensor.get_shape())
    return ModelSize(size, parameters)
