"""The checkpoint that a training resumes from: the newest that is whole."""

import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from ray_rerank.operators.errors import reason_of
from ray_rerank.operators.training.callbacks import (
    distributed,
)


class _State(BaseModel):
    """What is looked at of a checkpoint's trainer_state.json, which the trainer writes last."""

    global_step: int = Field(ge=1)
    max_steps: int = Field(ge=1)
    epoch: float = Field(ge=0, allow_inf_nan=False)
    log_history: list[dict[str, Any]]


def newest_whole(checkpoints: Path) -> str | None:
    """The newest checkpoint that was written to its end and is not damaged; damaged ones are removed."""
    folders: Sequence[Path] = sorted(
        (folder for folder in checkpoints.glob("checkpoint-*") if folder.name.rpartition("-")[2].isdecimal()),
        key=lambda folder: int(folder.name.rpartition("-")[2]),
        reverse=True,
    )
    for folder in folders:
        if not (folder / "trainer_state.json").exists():
            continue
        if (fault := _damage(folder)) is None:
            return str(folder)
        print(f"{folder}: is damaged ({fault}); it is removed, and its steps are done again", file=sys.stderr)
        shutil.rmtree(folder)
    return None


def _damage(checkpoint: Path) -> str | None:
    from safetensors import SafetensorError, safe_open

    found = {file.name: file for file in checkpoint.iterdir()}
    if lacking := [name for name in ("optimizer.pt", "scheduler.pt") if name not in found]:
        return f"{lacking[0]} is missing"
    for name, file in sorted(found.items()):
        try:
            if name == "trainer_state.json":
                _State.model_validate_json(file.read_bytes(), strict=True)
            elif file.suffix == ".safetensors":
                with safe_open(file, framework="np"):
                    pass
            elif file.suffix in {".pt", ".pth"}:
                with zipfile.ZipFile(file) as packed:  # as torch.save writes them
                    if packed.testzip():
                        return f"{name}: its bytes are not those that were written"
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile) as error:
            return f"{name}: {reason_of(error)}"
    return None


def agree(checkpoint: str | None) -> str | None:
    """What the first process found: a shared disk may show the others an older state."""
    if not distributed():
        return checkpoint
    import torch

    told = [checkpoint]
    torch.distributed.broadcast_object_list(told, src=0)
    return told[0]
