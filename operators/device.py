"""The device and the number format that a scorer runs with, and when it has run out of memory."""

from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16", "auto"]


def pick_device() -> "torch.device":
    """The accelerator where this process sees one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pick_precision(precision: Precision, device: "torch.device") -> "torch.dtype":
    """`auto`: bf16 where the processor or GPU multiplies it natively, else fp16 on GPU and fp32 on CPU.

    A CPU without bf16 instructions emulates it, slower than fp32.
    """
    import torch

    named = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if precision != "auto":
        return named[precision]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device)[0] >= 8 else torch.float16
    return torch.bfloat16 if cpu_has_bf16() else torch.float32


def cpu_has_bf16() -> bool:
    """Whether this CPU has bf16 matrix instructions (AVX512-BF16, AMX, or ARM's)."""
    import torch

    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(bool(getattr(torch.cpu, check, bool)()) for check in checks)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a batch did not fit, on GPU or CPU."""
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
