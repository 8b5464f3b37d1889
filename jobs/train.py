"""`ray-rerank train`: train a cross-encoder on labelled pairs, or distil a teacher into a student."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from jobs.command import ExitCode
from jobs.config import JobConfig
from operators.errors import InputError

RECORD = "training.json"


class Config(JobConfig):
    """Train a cross-encoder from any encoder checkpoint on (query, document, label)."""

    input: Path = Field(description="Parquet, TSV or JSONL with query, document and label; or a ranking with its texts")
    model: str = Field(description="checkpoint to start from: a folder or a hub id, safetensors only")
    output: Path = Field(description="folder of the trained model")
    layers: tuple[int, ...] | None = Field(None, description="keep only these encoder layers, from 0: 0,4,8,11")
    loss: Literal["auto", "bce", "mse"] = Field(
        "auto", description="auto: bce where every label is in [0, 1], else mse (a teacher's logits)"
    )
    epochs: float = Field(3, gt=0, description="passes over the pairs (num_train_epochs)")
    batch_size: int = Field(32, ge=1, description="pairs a step (per_device_train_batch_size)")
    learning_rate: float = Field(5e-5, gt=0, description="peak; falls linearly to zero")
    warmup: float = Field(0.1, ge=0, lt=1, description="share of the steps that warm up (warmup_ratio)")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's")
    max_length: int = Field(512, ge=8, description="tokens of a pair; what is over is cut, longest first")
    dropout: float | None = Field(None, ge=0, lt=1, description="in place of the checkpoint's own")
    freeze_embeddings: bool = Field(False, description="leave the embeddings as they are: faster, forgets less")
    held_out: float = Field(0.05, ge=0, lt=1, description="share of the queries kept for the figures at the end")
    seed: int = Field(0, ge=0, description="of the split, the order and any new weights")
    save_precision: Literal["fp16", "fp32"] = Field("fp32", description="of the weights written")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints; a killed training resumes")
    checkpoints: Path | None = Field(None, description="where they lie while training; default: OUTPUT.checkpoints")
    threads: int | None = Field(None, ge=1, description="CPU threads; default: all that torch takes")
    overwrite: bool = Field(False, description="replace a model trained with other settings")


def run(config: Config) -> int:
    """Train, save, and print what came of it."""
    from operators.training_pairs import read_training_pairs, split_by_query

    pairs = read_training_pairs(config.input)
    plan = _plan(config, pairs.table)
    settings = _settings(config, plan, pairs.table)
    checkpoints = config.checkpoints or config.output.with_name(config.output.name + ".checkpoints")
    if _finished(config, settings, checkpoints):
        print(f"{config.output}: already trained with these settings; --overwrite trains it again")
        return ExitCode.DONE
    training, held_out = split_by_query(pairs.table, config.held_out, config.seed)

    from operators import cross_encoder_training as cross_encoder

    cross_encoder.require_training_libraries()
    import torch

    if config.threads is not None:
        torch.set_num_threads(config.threads)
    trainee = cross_encoder.load_trainee(config.model, plan)
    _claim(config.output, checkpoints, settings)
    before = cross_encoder.held_out_agreement(trainee, held_out, plan) if held_out.num_rows else None
    seconds = cross_encoder.fit(trainee, training, plan, checkpoints, config.checkpoint_every)
    after = cross_encoder.held_out_agreement(trainee, held_out, plan) if held_out.num_rows else None
    (config.output / RECORD).unlink(missing_ok=True)
    cross_encoder.save_cross_encoder(trainee, config.model, config.output, config.save_precision)

    record = {
        "settings": settings,
        "pairs": training.num_rows,
        "queries": len(pc.unique(training["query"])),
        "left_out": pairs.left_out,
        "held_out": {"pairs": held_out.num_rows, "before": _rounded(before), "after": _rounded(after)},
    }
    (config.output / RECORD).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    shutil.rmtree(checkpoints)
    print(_summary(config, record, seconds))
    return ExitCode.DONE


def _plan(config: Config, pairs: pa.Table) -> Any:
    from operators.cross_encoder_training import TrainingPlan

    labels = pairs["label"].to_numpy()
    lowest, highest = labels.min(), labels.max()
    within = lowest >= 0 and highest <= 1
    if config.loss == "bce" and not within:
        raise InputError(
            f"{config.input}: loss bce takes labels in [0, 1], and these run from {lowest:g} to {highest:g}; "
            "use loss mse for a teacher's logits"
        )
    return TrainingPlan(
        loss=("bce" if within else "mse") if config.loss == "auto" else config.loss,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        warmup=config.warmup,
        weight_decay=config.weight_decay,
        max_length=config.max_length,
        seed=config.seed,
        layers=config.layers,
        dropout=config.dropout,
        freeze_embeddings=config.freeze_embeddings,
    )


def _settings(config: Config, plan: Any, pairs: pa.Table) -> dict[str, Any]:
    """All that decides the trained weights, as plain JSON: what a resume has to find unchanged."""
    import dataclasses

    import xxhash

    told = xxhash.xxh3_128()
    for column in pairs.columns:
        for value in column.to_pylist():
            told.update(f"{value}\0".encode())
    start = xxhash.xxh3_128()
    for file in sorted(Path(config.model).glob("*.safetensors")):
        start.update(file.read_bytes())
    decided = {
        "model": Path(config.model).name if Path(config.model).is_dir() else config.model,
        "weights": start.hexdigest(),
        **dataclasses.asdict(plan),
        "held_out": config.held_out,
        "pairs": told.hexdigest(),
        "save_precision": config.save_precision,
    }
    return json.loads(json.dumps(decided))  # type: ignore[no-any-return]


def _finished(config: Config, settings: Mapping[str, Any], checkpoints: Path) -> bool:
    """Whether the output holds this very training, finished; else whether it may be written to.

    Raises:
        InputError: the output holds something else and `overwrite` is not set, or the checkpoints are those
            of a training with other settings.
    """
    marked = _read_json(checkpoints / RECORD)
    if marked is not None and marked != settings:
        raise InputError(
            f"{checkpoints}: holds an unfinished training with other settings "
            f"({_difference(marked, settings)}); delete it, or go on with the settings it began with"
        )
    empty = not config.output.exists() or not any(config.output.iterdir())
    if empty or marked is not None or config.overwrite:
        return False
    record = _read_json(config.output / RECORD)
    if record is None:
        raise InputError(f"{config.output}: holds no finished training; name another output, or --overwrite")
    if record.get("settings") == settings:
        return True
    raise InputError(
        f"{config.output}: holds a model trained otherwise "
        f"({_difference(record.get('settings') or {}, settings)}); name another output, or --overwrite"
    )


def _claim(output: Path, checkpoints: Path, settings: Mapping[str, Any]) -> None:
    """Make both folders, and mark the checkpoints as this training's.

    Raises:
        InputError: they cannot be written.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        checkpoints.mkdir(parents=True, exist_ok=True)
        (checkpoints / RECORD).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise InputError(f"{output} or {checkpoints} cannot be written: {error}") from None


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    return "; ".join(f"{name}: {old.get(name)!r} there, {new.get(name)!r} now" for name in names)


def _rounded(result: Any) -> dict[str, float] | None:
    import dataclasses

    return {name: round(value, 4) for name, value in dataclasses.asdict(result).items()} if result else None


def _summary(config: Config, record: Mapping[str, Any], seconds: float) -> str:
    left_out = ", ".join(f"{count} {reason}" for reason, count in record["left_out"].items()) or "none"
    lines = [
        f"trained on {record['pairs']:,} pairs of {record['queries']:,} queries in {seconds / 60:.1f} min; "
        f"rows left out: {left_out}"
    ]
    held_out = record["held_out"]
    if held_out["after"]:
        loss = record["settings"]["loss"]
        lines.append(f"held out: {held_out['pairs']:,} pairs{'':>6}before     after")
        for name, title in (("loss", loss), ("correlation", "correlation"), ("ordered", "pairs in order")):
            lines.append(f"  {title:<22}{held_out['before'][name]:>12.4f}{held_out['after'][name]:>10.4f}")
    size = sum(file.stat().st_size for file in config.output.iterdir() if file.is_file()) / 1e6
    lines.append(f"model: {config.output} ({size:.1f} MB, {config.save_precision})")
    return "\n".join(lines)
