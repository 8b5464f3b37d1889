"""The device and the number format that a scorer runs with, and when it has run out of memory."""

from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16", "auto"]


def pick_device() -> "torch.device":
    """The accelerator where this process sees one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_placement(
    precision: Precision, device: str | None, fits_fp16: bool = True
) -> tuple["torch.device", "torch.dtype"]:
    """This process's device, and the number format there; fp32 where a device is given."""
    import torch

    if device is not None:
        return torch.device(device), torch.float32
    picked = pick_device()
    return picked, pick_precision(precision, picked, fits_fp16)


def pick_precision(precision: Precision, device: "torch.device", fits_fp16: bool = True) -> "torch.dtype":
    """`auto`: bf16 where the processor or GPU multiplies it natively, else fp16 on GPU and fp32 on CPU.

    A CPU without bf16 instructions emulates it, slower than fp32. A model whose activations leave the range of
    fp16 (`fits_fp16` false: T5) gets fp32 instead.
    """
    import torch

    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return named[precision]
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device)[0] >= 8:
            return torch.bfloat16
        return torch.float16 if fits_fp16 else torch.float32
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this CPU has bf16 matrix instructions (AVX512-BF16, AMX, or ARM's)."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


def precision_name(dtype: "torch.dtype") -> str:
    """fp32, bf16 or fp16."""
    return {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}[str(dtype).removeprefix("torch.")]


def default_batch_tokens(device: "torch.device") -> int:
    """Tokens a batch: little enough for a CPU's caches, much enough to fill a GPU; halved where it does not fit."""
    return 4096 if device.type == "cpu" else 131_072


def to_device(arrays: dict[str, np.ndarray], device: "torch.device") -> "dict[str, torch.Tensor]":
    """Arrays as tensors; to a GPU through pinned memory, without waiting for the copy."""
    import torch

    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    if device.type == "cuda":
        return {name: tensor.pin_memory().to(device, non_blocking=True) for name, tensor in tensors.items()}
    return tensors


def is_device_lost(error: BaseException) -> bool:
    """Whether an error says that this process can use its GPU no more: all that it does there would fail."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        return False
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a batch did not fit, on GPU or CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
