"""`ray-rerank train --num-workers 2`: the same training in two processes, resumed after its driver was killed."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ray_rerank.jobs.exit_codes import ExitCode
from support.paths import ROOT
from support.training import pairs, train, write_pairs

FLAGS = ("--epochs", "8", "--learning-rate", "0.003", "--max-length", "32", "--batch-size", "16", "--held-out", "0.2")
FLAGS += ("--loss", "margin-mse", "--num-workers", "2", "--checkpoint-every", "4")


def test_two_workers_train_one_model(tmp_path: Path, checkpoint: Path, ray_here: None) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(400, low=-2.0, high=2.0))
    assert train(source, checkpoint, tmp_path / "model", *FLAGS) == ExitCode.DONE
    check(tmp_path / "model")


@pytest.mark.slow
def test_two_workers_go_on_after_their_driver_was_killed(
    tmp_path: Path,
    checkpoint: Path,
    ray_here: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write_pairs(tmp_path / "pairs.parquet", pairs(400, low=-2.0, high=2.0))
    model, checkpoints = tmp_path / "model", tmp_path / "model.checkpoints"
    assert train(source, checkpoint, tmp_path / "whole", *FLAGS) == ExitCode.DONE
    command = [sys.executable, "-m", "ray_rerank.jobs", "train", "--input", str(source), "--model", str(checkpoint)]
    process = subprocess.Popen([*command, "--output", str(model), "--threads", "1", *FLAGS], cwd=ROOT)
    deadline = time.monotonic() + 300
    epoch = json.loads((tmp_path / "whole" / "training.json").read_text())["groups"] // 8 // 2
    while not any(_step(path) > epoch for path in checkpoints.glob("checkpoint-*/trainer_state.json")):
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()

    assert train(source, checkpoint, model, *FLAGS) == ExitCode.DONE
    assert "going on from step" in capsys.readouterr().err
    check(model)
    assert not checkpoints.exists()
    weights = [(folder / "model.safetensors").read_bytes() for folder in (model, tmp_path / "whole")]
    assert weights[0] == weights[1], "an uninterrupted training ends with other weights"


def _step(state: Path) -> int:
    return int(state.parent.name.rpartition("-")[2])


def check(model: Path) -> None:
    """What two workers leave is a whole training: every step, a falling loss, finite weights."""
    record = json.loads((model / "training.json").read_text())
    assert record["settings"]["workers"] == 2
    assert record["curve"][-1]["step"] == 8 * (record["groups"] // 8 // 2)  # of 8 triplets in each of 2 workers
    losses = [point["training_loss"] for point in record["curve"] if "training_loss" in point]
    assert losses[-1] < 0.5 * losses[0]
    assert record["curve"][0]["step"] == 0
    assert record["held_out"]["after"]["ordered"] > max(0.9, record["held_out"]["before"]["ordered"])
    assert all(torch.isfinite(tensor).all() for tensor in load_file(model / "model.safetensors").values())
