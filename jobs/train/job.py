"""`ray-rerank train`: train a cross-encoder on labelled pairs, or distil a teacher into a student."""

import json
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import xxhash
from pydantic import Field

from ray_rerank.cluster.ray_train import run_data_parallel
from ray_rerank.cluster.session import session
from ray_rerank.cluster.storage import absolute
from ray_rerank.jobs.config import JobConfig, RayAddress
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.checks import check_apart
from ray_rerank.jobs.outputs.record import Overwrite
from ray_rerank.jobs.train.input import find_inputs, load_evaluation, load_training_pairs
from ray_rerank.jobs.train.state import claimed, finish, is_finished, started_from
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.checkpoint import Checkpoint, find_checkpoint
from ray_rerank.operators.rejects import Report
from ray_rerank.operators.training.best_weights import BEST, LAST, best_step
from ray_rerank.operators.training.callbacks import PROGRESS, diverged_at
from ray_rerank.operators.training.curve import curve_picture
from ray_rerank.operators.training.fit import curve, fit
from ray_rerank.operators.training.groups import Groups, group_rows
from ray_rerank.operators.training.held_out import HeldOut, JudgedCandidates, LabelledPairs
from ray_rerank.operators.training.leakage import refuse_overlap
from ray_rerank.operators.training.losses import LOSSES
from ray_rerank.operators.training.plan import HyperParameters, Training, TrainingPlan
from ray_rerank.operators.training.split import queries, split_by_query
from ray_rerank.operators.training.student import Student, parse_student
from ray_rerank.operators.training.trainee import outputs_of, require_training_libraries, save_trained, write_start

HELD_OUT = 0.05
TOO_LONG = 1.25  # times the tokens: less is what smaller embeddings are worth
PICTURE = "training.svg"


class Source(JobConfig):
    """What a training starts from and learns, and where the model goes."""

    input: Location = Field(
        description="what mine, label or rerank --include-text wrote; or Parquet, TSV, JSONL: query, document, label"
    )
    target: Literal["label", "score"] | None = Field(
        None, description="the column that is learnt; default: score where a rank stands beside it, else label"
    )
    model: Location = Field(description="checkpoint to start from: a folder, a URI or a hub id, safetensors only")
    output: Location = Field(description="folder or URI of the trained model")
    student: str | None = Field(
        None, description="what is kept of the checkpoint: 'layers=4 vocabulary=16000', layers=0,4,8,11"
    )
    layers: tuple[int, ...] | None = Field(None, description="short for --student layers=0,4,8,11")
    loss: Literal["auto", "bce", "mse", "margin-mse", "listnet", "lambda"] = Field(
        "auto", description="auto: bce where every label is in [0, 1], else mse (a teacher's logits)"
    )


class Config(HyperParameters, Source):
    """Train a cross-encoder from any encoder checkpoint on (query, document, label)."""

    held_out: float | None = Field(
        None, ge=0, lt=1, description="share of the queries to measure on; default: 0.05, or 0 with --evaluation"
    )
    evaluation: Location | None = Field(None, description="candidate shards to measure on instead, by nDCG@10")
    evaluation_qrels: Location | None = Field(None, description="their judgements: TREC, BEIR or Parquet")
    evaluate_every: int | None = Field(None, ge=1, description="steps between figures; default: a fifth of all steps")
    keep: Literal["best", "last"] = Field("best", description="which weights are saved: best by the figures, or last")
    save_precision: Literal["fp16", "fp32"] = Field("fp32", description="of the weights written")
    checkpoint_every: int = Field(100, ge=1, description="steps between checkpoints; a killed training resumes")
    checkpoints: Location | None = Field(
        None, description="folder for them while training; default: OUTPUT.checkpoints"
    )
    threads: int | None = Field(
        None, ge=1, description="CPU threads a process; default: all that torch takes, one in each of several workers"
    )
    num_workers: int = Field(1, ge=1, description="processes to train in, by Ray Train; a step reads that many batches")
    address: RayAddress | None = Field(
        None, description="a running Ray cluster: auto, HOST:PORT; default: this machine"
    )
    step_seconds: float = Field(
        3600, gt=0, description="seconds of a step or an evaluation, by Ray Train, after which a worker counts as lost"
    )
    max_failures: int = Field(3, ge=0, description="lost workers to put up with, by Ray Train")
    overwrite: Overwrite = False


def run(config: Config) -> int:
    """Train, save, and print what came of it."""
    checkpoints = _checkpoints(config)
    report = Report(notes=find_inputs(config.input, config.evaluation))
    model = find_checkpoint(config.model)
    evaluation = _evaluation(config, report)
    for note in report.notes:
        print(note)
    pairs = load_training_pairs(config.input, config.target)
    plan = _plan(config, pairs.table)
    code = ExitCode.DONE_WITH_ERRORS if pairs.left_out or report.notes else ExitCode.DONE
    settings = _settings(config, model, plan, pairs.table, evaluation)
    if is_finished(config.output, checkpoints, settings, config.overwrite):
        print(f"{config.output}: already trained with these settings; --overwrite trains it again")
        return code
    table, held_out = split_by_query(pairs.table, settings["held_out"], config.seed)
    _check_labels(config, plan, pairs.table, table, sum(pairs.left_out.values()))
    measured = _measured_on(config, plan, table, held_out, evaluation)
    groups = group_rows(table, LOSSES[plan.loss], plan.group_size, plan.seed)
    _check_size(config, plan, len(groups))

    require_training_libraries()
    training = Training(
        plan=plan,
        start=checkpoints / "start",
        pairs=table,
        groups=groups,
        held_out=measured,
        evaluate_every=config.evaluate_every,
        checkpoints=checkpoints,
        checkpoint_every=config.checkpoint_every,
        threads=config.threads,
    )
    with tempfile.TemporaryDirectory() as folder:
        start = Path(folder) / "start"
        growth = write_start(str(model.folder), plan, table, start)
        if (outputs := outputs_of(model)) > 1:
            print(f"{config.model}: has {outputs} outputs; a new head with one takes their place, and is trained")
        if growth is not None:
            print(_vocabulary(plan, growth))
        with claimed(config.output, checkpoints, settings, config.overwrite):
            trained = checkpoints / "model"
            for made in (training.start, trained):  # by a training that was stopped
                shutil.rmtree(made, ignore_errors=True)
            shutil.copytree(start, training.start)
            began = time.monotonic()
            _train(config, training)
            seconds = time.monotonic() - began
            record = {
                "settings": settings,
                "pairs": table.num_rows,
                "queries": len(pc.unique(table["query"])),
                "groups": len(groups),
                "token_growth": None if growth is None else round(growth, 4),
                "left_out": pairs.left_out | _ungrouped(table, groups),
                "started_from": started_from(str(model.folder)),
                **_save(config, training, trained),
            }
            size = sum(file.stat().st_size for file in trained.iterdir())
            finish(config.output, checkpoints, trained, record)
    print(_summary(config, record, seconds, size))
    if (lost := diverged_at(record["curve"])) is not None:
        print(
            f"the training diverged and was stopped: by step {lost} its loss was no number; saved are the weights of "
            f"step {record['kept_step']}. A lower --learning-rate (now {config.learning_rate:g}) may help"
        )
        return ExitCode.DONE_WITH_ERRORS
    return code


def _evaluation(config: Config, report: Report) -> JudgedCandidates | None:
    """The candidates and judgements to measure on, where they are given.

    Raises:
        InputError: one is given without the other or beside a held-out share, or they cannot be read.
    """
    if config.evaluation is None and config.evaluation_qrels is None:
        return None
    if config.evaluation is None or config.evaluation_qrels is None:
        raise InputError("--evaluation (candidate shards) and --evaluation-qrels (their judgements) go together")
    if config.held_out:
        raise InputError("give --held-out or --evaluation, not both: one figure decides which weights are best")
    return load_evaluation(config.evaluation, config.evaluation_qrels, report)


def _checkpoints(config: Config) -> Path:
    """Raises InputError where they are on no disk, or in or around the output or the input."""
    named = config.checkpoints or f"{config.output.rstrip('/')}.checkpoints"
    if "://" in named:
        raise InputError(f"{config.output}: --checkpoints must name a folder on a disk, which all workers see")
    check_apart(checkpoints=named, output=config.output)
    check_apart(checkpoints=named, input=config.input)
    return Path(absolute(named))


def _plan(config: Config, pairs: pa.Table) -> TrainingPlan:
    if config.student is not None and config.layers is not None:
        raise InputError("--layers is short for --student layers=…: give one of them")
    labels = pairs["label"].to_numpy()
    lowest, highest = labels.min(), labels.max()
    within = lowest >= 0 and highest <= 1
    if config.loss == "bce" and not within:
        raise InputError(
            f"{config.input}: loss bce takes labels in [0, 1], and these run from {lowest:g} to {highest:g}; "
            "use loss mse for a teacher's logits"
        )
    return TrainingPlan(
        **config.model_dump(include={*HyperParameters.model_fields}),
        loss=("bce" if within else "mse") if config.loss == "auto" else config.loss,
        workers=config.num_workers,
        student=Student(layers=config.layers) if config.student is None else parse_student(config.student),
    )


def _settings(
    config: Config, model: Checkpoint, plan: TrainingPlan, pairs: pa.Table, evaluation: JudgedCandidates | None
) -> dict[str, Any]:
    """All that decides the trained weights, as plain JSON: what a resume has to find unchanged."""
    held_out = HELD_OUT if config.held_out is None and evaluation is None else config.held_out or 0.0
    decided = {
        "model": Path(config.model).name if "://" in config.model or Path(config.model).is_dir() else config.model,
        "content": model.content,
        **plan.model_dump(),
        "held_out": held_out,
        "evaluation": None if evaluation is None else _content(evaluation.table, evaluation.grades),
        "evaluate_every": config.evaluate_every,
        "keep": config.keep,
        "pairs": _content(pairs),
        "save_precision": config.save_precision,
    }
    return json.loads(json.dumps(decided))  # type: ignore[no-any-return]


def _content(table: pa.Table, beside: Any = None) -> str:
    told = xxhash.xxh3_128(json.dumps(beside).encode())
    for column in table.columns:
        for value in column.to_pylist():
            told.update(f"{value}\0".encode())
    return told.hexdigest()


def _measured_on(
    config: Config, plan: TrainingPlan, table: pa.Table, held_out: pa.Table, evaluation: JudgedCandidates | None
) -> HeldOut | None:
    """What the training is measured on, none of it trained on.

    Raises:
        InputError: a query of the evaluation is trained on.
    """

    if evaluation is not None:
        trained = queries(table)
        refuse_overlap(trained, evaluation.queries(), config.input, str(config.evaluation))
        return evaluation
    return LabelledPairs(held_out, plan.loss) if held_out.num_rows else None


def _check_labels(config: Config, plan: TrainingPlan, read: pa.Table, table: pa.Table, without: int) -> None:
    """Print a note where nothing tells documents of a query apart, and the loss learns from pairs all the same.

    Args:
        read: all pairs.
        table: those to train on.
        without: rows that were left out.

    Raises:
        InputError: nothing tells one pair from another.
    """

    labels = table["label"].to_numpy()
    if labels.min() == labels.max():
        apart = read.num_rows > table.num_rows and pc.count_distinct(read["label"]).as_py() > 1
        what = f"all {len(labels):,} labels are {labels[0]:g}"
        what += f" ({without:,} rows have none that can be used)" if without else ""
        if apart:
            what += f" but for the {read.num_rows - len(labels):,} pairs of held-out queries"
        remedy = "hold out less (--held-out 0), or add" if apart else "add"
        raise InputError(
            f"{config.input}: {what}: nothing tells one pair from another, so there is nothing to learn; {remedy} "
            "pairs with other labels (`ray-rerank mine` draws negatives), or name another column by --target"
        )
    distinct = table.group_by("query").aggregate([("label", "count_distinct")])["label_count_distinct"]
    if LOSSES[plan.loss].reads == "pair" and pc.max(distinct).as_py() == 1:
        print(
            f"note: {config.input}: no query has two documents with different labels, so nothing is learnt of their "
            "order; add each query's negatives (`ray-rerank mine`) to train a re-ranker"
        )


def _check_size(config: Config, plan: TrainingPlan, groups: int) -> None:
    if not groups:
        raise InputError(
            f"{config.input}: loss {plan.loss} compares documents of a query, and no query has two with "
            "different labels; add each query's negatives (`ray-rerank mine`), or take --loss bce or mse"
        )
    if plan.workers > 1 and groups < plan.groups_a_step * plan.workers:
        raise InputError(
            f"{config.input}: {plan.workers} workers read {plan.groups_a_step} rows each a step, and there are "
            f"{groups}; take fewer workers or a smaller batch"
        )


def _train(config: Config, training: Training) -> None:

    if config.num_workers == 1 and config.address is None:
        fit(training)
        return

    cpus = config.threads or 1
    with session(config.address, cpus=cpus * config.num_workers) as resources:
        run_data_parallel(
            fit,
            training,
            workers=config.num_workers,
            cpus=cpus,
            resources=resources,
            folder=training.checkpoints / "ray",
            progress=training.checkpoints / PROGRESS,
            max_failures=config.max_failures,
            seconds=config.step_seconds,
        )


def _save(config: Config, training: Training, folder: Path) -> dict[str, Any]:
    """Write the model that is kept, and the picture of how it came about; returns their part of the record."""
    best = best_step(training.checkpoints)
    keeps_best = config.keep == "best" and best is not None
    kept = training.checkpoints / (BEST if keeps_best else LAST)
    step = save_trained(training, kept, folder, config.save_precision)
    points = curve(training.checkpoints)
    by_step = {point["step"]: _figures(point) for point in points}
    measured = training.held_out
    held_out = {
        "pairs": len(measured.pairs) if measured else 0,
        "decides": measured.decides if measured else None,
        "before": by_step.get(0),
        "after": by_step.get(step) if measured else None,
    }
    try:
        (folder / PICTURE).write_bytes(curve_picture(points, step))
    except InputError as missing:
        print(f"{config.output}: {missing}")
    return {"held_out": held_out, "best_step": best, "kept_step": step, "curve": points}


def _figures(point: Mapping[str, float | None]) -> dict[str, float | None]:
    return {name: value for name, value in point.items() if name not in ("step", "training_loss")}


def _ungrouped(table: pa.Table, groups: Groups) -> dict[str, int]:
    alone = table.num_rows - len(set(groups.rows.tolist()))
    return {"no other label in its query": alone} if alone else {}


def _vocabulary(plan: TrainingPlan, growth: float) -> str:
    told = f"vocabulary of {plan.student.vocabulary:,} pieces: the texts take {growth:.2f} times as many tokens"
    return told + ("; that costs speed, and what max_length cuts: keep more pieces" if growth > TOO_LONG else "")


def _summary(config: Config, record: Mapping[str, Any], seconds: float, size: int) -> str:
    left_out = ", ".join(f"{count} x {reason}" for reason, count in record["left_out"].items()) or "none"
    lines = [
        f"trained on {record['pairs']:,} pairs of {record['queries']:,} queries in {seconds / 60:.1f} min; "
        f"rows left out: {left_out}"
    ]
    held_out = record["held_out"]
    if held_out["after"]:
        loss = record["settings"]["loss"]
        titles = {"loss": loss, "ordered": "pairs in order"}
        lines.append(f"held out: {held_out['pairs']:,} pairs{'':>6}before     after")
        for name, after in held_out["after"].items():
            before = held_out["before"][name]
            if before is not None and after is not None:
                lines.append(f"  {titles.get(name, name):<22}{before:>12.4f}{after:>10.4f}")
        last = record["curve"][-1]["step"]
        decides = titles.get(held_out["decides"].removeprefix("-"), held_out["decides"])
        lines.append(
            f"best of {sum(bool(_figures(point)) for point in record['curve']) - 1} by {decides}: step "
            f"{record['best_step']} of {last}; saved: step {record['kept_step']}"
        )
    lines.append(f"model: {config.output} ({size / 1e6:.1f} MB, {config.save_precision})")
    return "\n".join(lines)
