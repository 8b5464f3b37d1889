"""What a process runs on, in words: processor, GPU, torch."""

import platform
from dataclasses import dataclass
from pathlib import Path

from ray_rerank.operators.models.cpus import usable_cpus


@dataclass(frozen=True, slots=True)
class Hardware:
    """One machine as a process sees it.

    Attributes:
        processor: the CPU's model.
        cores: CPUs that this process may use.
        gpu: the accelerator's name; None where the process sees none.
        torch: its version.
    """

    processor: str
    cores: int
    gpu: str | None
    torch: str

    def __str__(self) -> str:
        return f"{self.gpu or 'no GPU'}, {self.processor}, {self.cores} CPUs, torch {self.torch}"


def this_hardware() -> Hardware:
    """The hardware that scorers of this process run on."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return Hardware(_processor(), usable_cpus(), gpu, torch.__version__)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (named[0] if named else "") or platform.processor() or platform.machine()
