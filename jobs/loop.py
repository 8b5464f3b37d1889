"""`ray-rerank loop`: mine, label, train, distil, compare, on one collection whose measured queries train nothing."""

import dataclasses
import json
import math
import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from ray_rerank.cluster.errors import OutputConflictError
from ray_rerank.cluster.executors import ExecutorName
from ray_rerank.cluster.lease import held
from ray_rerank.cluster.storage import write_whole
from ray_rerank.jobs import compare, label, mine, prepare, queries, train
from ray_rerank.jobs.config import JobConfig
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.inputs.collections import beir_files, beir_qrels, judged_queries, load_qrels, load_queries
from ray_rerank.jobs.inputs.rankings import counted_queries, load_rankings
from ray_rerank.jobs.outputs.record import (
    FolderRecord,
    Overwrite,
    check_known,
    files_to_replace,
    load_record,
    may_resume,
    remove_files,
    visible_names,
)
from ray_rerank.operators.comparison.schema import FIRST_STAGE, Comparison
from ray_rerank.operators.errors import InputError, UserError
from ray_rerank.operators.evaluation.intervals import interval_over_trainings
from ray_rerank.operators.evaluation.measures import evaluate, parse_measures
from ray_rerank.operators.formats.qrels import highest_grade
from ray_rerank.operators.location import Location
from ray_rerank.operators.models.checkpoint import find_checkpoint
from ray_rerank.operators.rejects import RejectLog, Report
from ray_rerank.operators.scorers.bi_encoder import BiEncoderConfig
from ray_rerank.operators.training.leakage import Query, refuse_overlap
from ray_rerank.operators.training.plan import BatchSize, Epochs, LearningRate, MaxLength
from ray_rerank.operators.training.student import chosen_layers, parse_student
from ray_rerank.operators.training.vocabulary import check_vocabulary

_RECORD = "loop.json"

TEACHER = "teacher"
DISTILLED = "distilled"


class Config(JobConfig):
    """Make students by several kinds of negatives and by a teacher's scores, and compare them on judged queries."""

    passages: Location | None = Field(None, description="TSV of id<TAB>text, or JSONL: the corpus")
    queries: Location | None = Field(None, description="the judged queries; they are for the comparison alone")
    qrels: Location | None = Field(None, description="judgements of these queries")
    train_queries: Location | None = Field(None, description="queries to train on; left open: the passages' own text")
    train_qrels: Location | None = Field(None, description="their judgements: the positives")
    beir: Location | None = Field(
        None, description="in place of these: a folder with corpus, queries, qrels/test.tsv and, to train on, train.tsv"
    )
    teacher: Location = Field(
        description="a cross-encoder: the students are cut from it, and one learns from its scores"
    )
    student: str = Field("layers=4", description="what is kept of the teacher, as `train --student` takes it")
    encoder: Location | None = Field(
        None, description="bi-encoder for negatives; without it they are random and BM25 alone"
    )
    output: Location = Field("work/loop", description="folder for every step; a loop that was stopped goes on here")
    count: int = Field(1000, ge=2, description="training queries, where they are made out of the passages")
    negatives: int = Field(4, ge=1, description="negatives a training query")
    guard: float | None = Field(
        None, gt=0, le=1, description="hard negatives score at most this share of the positive's teacher score"
    )
    epochs: Epochs = 1
    batch_size: BatchSize = 16
    learning_rate: LearningRate = 1e-4
    max_length: MaxLength = 160
    depth: int = Field(100, ge=1, description="BM25 candidates of a judged query")
    timing: bool = Field(True, description="measure latency and pairs/s in the comparison")
    trainings: int = Field(3, ge=1, description="of each student, with the seeds SEED, SEED + 1, ...")
    seed: int = Field(0, ge=0)
    overwrite: Overwrite = False
    executor: ExecutorName = Field("ray", description="`inline` scores in this process, without Ray; default: ray")


@dataclass(frozen=True, slots=True)
class Collection:
    """Where the corpus is, the queries to measure on and those to train on, with their judgements."""

    passages: str
    queries: str
    qrels: str
    train_queries: str | None
    train_qrels: str | None


def run(config: Config) -> int:
    """Run every step in its own folder below the output; finished ones are not done again.

    Raises:
        UserError, ClusterError: as the jobs do.
    """
    started = time.monotonic()
    collection = collection_of(config)
    _check_models(config)
    if "://" in config.output:
        raise InputError(f"{config.output}: a loop's steps lie in a folder on a disk; its jobs take URIs one by one")
    folder = Path(config.output)
    with held(config.output, "loop"):
        _claim(config, folder)
        code = _loop(config, collection, folder)
    print(f"the loop took {(time.monotonic() - started) / 60:.1f} min")
    return code


def _loop(config: Config, collection: Collection, folder: Path) -> int:
    code, taught = training_queries(config, collection, folder)
    codes = [code]
    sources = {"random": _source("random", None), "bm25": _source("bm25", (1, 100))}
    if config.encoder:
        sources["bi-encoder"] = _source("bi-encoder", (1, 100), model=config.encoder)
    for name, source in sources.items():
        codes.append(_mine(config, taught, folder, name, source | {"count": config.negatives}))
    codes.append(_label(config, folder))
    pairs: dict[str, tuple[Path, Literal["bce", "mse"]]] = {name: (folder / "mined" / name, "bce") for name in sources}
    pairs[DISTILLED] = (folder / "labels", "mse")
    for seed in _seeds(config):
        for name, (learnt, loss) in pairs.items():
            codes.append(train_student(config, folder, StudentTraining(name, seed, learnt, loss)))
    codes.append(_compare(config, collection, folder, list(pairs)))
    _print_steps(config, collection, folder, list(pairs))
    return int(max(codes))


def collection_of(config: Config) -> Collection:
    """Where everything is.

    Raises:
        InputError: something is missing, or given twice.
    """
    if config.beir is not None:
        if config.passages or config.queries or config.qrels or config.train_queries or config.train_qrels:
            raise InputError("--beir has passages, queries and qrels: leave these out")
        found, train = beir_files(config.beir, "test"), beir_qrels(config.beir, "train")
        return Collection(found.passages, found.queries, str(found.qrels), found.queries if train else None, train)
    if (config.train_queries is None) != (config.train_qrels is None):
        raise InputError("--train-queries and --train-qrels (their judgements) go together")
    if config.passages and config.queries and config.qrels:
        return Collection(config.passages, config.queries, config.qrels, config.train_queries, config.train_qrels)
    raise InputError("the collection is --passages, --queries and --qrels, or --beir FOLDER")


def _check_models(config: Config) -> None:
    """See before hours of work that teacher and encoder are there, and that the student can be cut.

    Raises:
        InputError, ModelError: as the steps would.
    """
    from transformers import AutoConfig, AutoTokenizer

    folder = find_checkpoint(config.teacher).folder
    total = int(AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).num_hidden_layers)
    student = parse_student(config.student)
    if student.layers is not None:
        chosen_layers(student.layers, total)
    if student.vocabulary is not None:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        check_vocabulary(tokenizer, student.vocabulary)
    if config.encoder:
        BiEncoderConfig(model=config.encoder).checkpoint()


def _claim(config: Config, folder: Path) -> None:
    """Record what the loop is made with, or check that it is the same as before.

    Raises:
        OutputConflictError: the folder holds a loop with other settings and `overwrite` is not set.
        StorageError: it cannot be written.
    """
    settings = config.model_dump(mode="json", exclude={"output", "timing", "trainings", "overwrite", "executor"})
    output, record = str(folder), folder / _RECORD
    made = load_record(str(record), dict[str, Any], config.overwrite)
    finished = (folder / "comparison" / "comparison.json").exists()
    before = None if made is None else FolderRecord("loop", made, finished=finished)
    if not may_resume(output, before, FolderRecord("loop", settings), config.overwrite) and config.overwrite:
        if not record.exists():
            check_known(output, "loop", visible_names(output))
        remove_files(output, files_to_replace(output, "loop"))
    write_whole(str(record), (json.dumps(settings, indent=2) + "\n").encode())


def _say(step: str) -> None:
    print(f"\n== {step}\n", flush=True)


def training_queries(config: Config, collection: Collection, folder: Path) -> tuple[int, Collection]:
    """Those that the collection has, else some made out of passages, each with its own passage as its positive.

    Returns:
        How making them ended, and the collection with them.

    Raises:
        InputError: one of them is measured on.
    """
    code = int(ExitCode.DONE)
    if collection.train_queries is None:
        _say(f"{config.count} training queries out of the passages")
        made, own = str(folder / "queries.tsv"), str(folder / "qrels.txt")
        code = queries.run(
            queries.Config(
                passages=collection.passages,
                output=made,
                qrels=own,
                count=config.count,
                seed=config.seed,
                apart_from=collection.queries,
            )
        )
        collection = dataclasses.replace(collection, train_queries=made, train_qrels=own)
    trained = _judged(str(collection.train_queries), str(collection.train_qrels))
    measured = _judged(collection.queries, collection.qrels)
    refuse_overlap(trained, measured, str(collection.train_qrels), collection.qrels)
    return code, collection


def _judged(path: str, qrels: str) -> list[Query]:
    queries = judged_queries(load_queries(path, RejectLog()), load_qrels(qrels), Report())
    return [Query(query_id, text) for query_id, text in queries.texts.items()]


def _source(kind: str, ranks: tuple[int, int] | None, **more: Any) -> dict[str, Any]:
    return {"kind": kind, **({"ranks": ranks} if ranks else {}), **more}


def _mine(config: Config, taught: Collection, folder: Path, name: str, source: dict[str, Any]) -> int:
    _say(f"{config.negatives} negatives a query: {name}")
    guarded = config.guard is not None and source["kind"] != "random"
    guard = {"scorer": {"kind": "cross-encoder", "model": config.teacher}, "at_most": config.guard}
    return mine.run(
        mine.Config(
            queries=str(taught.train_queries),
            passages=taught.passages,
            qrels=taught.train_qrels,
            sources=[source],
            guard=guard if guarded else None,
            cache=str(folder / "cache"),
            executor=config.executor,
            vectors=str(folder / "vectors"),
            seed=config.seed,
            output=str(folder / "mined" / name),
        )
    )


def _label(config: Config, folder: Path) -> int:
    _say("the teacher's scores of the queries with BM25's negatives")
    return label.run(
        label.Config(
            input=str(folder / "mined" / "bm25"),
            model=config.teacher,
            cache=str(folder / "cache"),
            executor=config.executor,
            output=str(folder / "labels"),
        )
    )


def _seeds(config: Config) -> range:
    return range(config.seed, config.seed + config.trainings)


def _student(name: str, seed: int) -> str:
    return f"{name}-{seed}"


@dataclass(frozen=True, slots=True)
class StudentTraining:
    """One training of a student: on which pairs, with which loss and seed."""

    name: str
    seed: int
    pairs: Path
    loss: Literal["bce", "mse"]


def train_student(config: Config, folder: Path, training: StudentTraining) -> int:
    """Train one student; one that fails is left out of the comparison, and the others go on."""
    student = _student(training.name, training.seed)
    _say(f"student {student}: {training.loss} on {training.pairs}")
    given = train.Config(
        input=str(training.pairs),
        model=config.teacher,
        student=config.student,
        loss=training.loss,
        **config.model_dump(include={"epochs", "batch_size", "learning_rate", "max_length"}),
        dropout=0,
        freeze_embeddings=True,
        held_out=0,
        seed=training.seed,
        save_precision="fp16",
        output=str(folder / "students" / student),
    )
    try:
        return train.run(given)
    except (UserError, OutputConflictError) as error:
        print(f"student {student} failed, the others go on: {error}")
        return ExitCode.DONE_WITH_ERRORS


def _compare(config: Config, collection: Collection, folder: Path, students: list[str]) -> int:
    _say(f"all of them on the judged queries, BM25's best {config.depth}")
    candidates = str(folder / "candidates")
    apart = {"queries": collection.queries, "passages": collection.passages, "qrels": collection.qrels}
    texts: dict[str, Any] = {"beir": config.beir, "split": "test"} if config.beir else apart
    prepared = prepare.run(prepare.Config(**texts, bm25=config.depth, output=candidates))
    graded = highest_grade(load_qrels(collection.qrels).grades) > 1
    compared = compare.run(
        compare.Config(
            candidates=candidates,
            qrels=collection.qrels,
            scorers=scorers(config, folder, students),
            measures="MRR@10 nDCG@10" + (" RR(rel=2)@10" if graded else ""),
            baseline=TEACHER,
            only_ranked=True,
            cache=str(folder / "cache"),
            executor=config.executor,
            timing=config.timing,
            output=str(folder / "comparison"),
        )
    )
    return max(prepared, compared)


def scorers(config: Config, folder: Path, students: list[str]) -> list[dict[str, Any]]:
    """The teacher and every training of every student; those of one shape are timed once."""
    trained = [_student(name, seed) for name in students for seed in _seeds(config)]
    models = {TEACHER: config.teacher} | {name: str(folder / "students" / name) for name in trained}
    timed = {TEACHER, _student(DISTILLED, config.seed)}
    return [
        {"name": name, "scorer": {"kind": "cross-encoder", "model": model}, "timing": name in timed}
        for name, model in models.items()
    ]


def _print_steps(config: Config, collection: Collection, folder: Path, students: list[str]) -> None:
    """What each kind of negatives, and then the teacher's scores, brought over the one before."""
    qrels, measures = load_qrels(collection.qrels), parse_measures("nDCG@10")
    found = Comparison.model_validate_json((folder / "comparison" / "comparison.json").read_bytes())
    rankings = {one.name: one.ranking for one in found.scorers if one.ranking}
    trained = {name: [_student(name, seed) for seed in _seeds(config)] for name in students}
    runs = {name: [load_rankings(rankings[one]).run for one in own if one in rankings] for name, own in trained.items()}
    judged = counted_queries(qrels, load_rankings(found.candidates).run, found.candidates, only_ranked=True)
    values: dict[str, np.ndarray] = {
        name: np.stack([evaluate(run, judged, measures).values[0] for run in own]) for name, own in runs.items() if own
    }
    some = "" if len(judged) == len(qrels.grades) else f" of {len(qrels.grades)}"
    print(f"\nstudents on {len(judged)}{some} judged queries that trained none of them, nDCG@10")
    over = "the seeds of training, of one mining; a few can miss one that fails" if config.trainings > 1 else "no more"
    print(f"(intervals are over queries and {over})")
    beside = {one.name: one.quality["nDCG@10"].value for one in found.scorers if one.name in {FIRST_STAGE, TEACHER}}
    print("  " + ", ".join(f"{name} {value:.4f}" for name, value in beside.items()))
    for name, own in values.items():
        means = own.mean(axis=1)
        each = f" (each training: {', '.join(f'{mean:.4f}' for mean in means)})" if config.trainings > 1 else ""
        print(f"  {name} {means.mean():.4f}{each}")
    for name, ranked_by in runs.items():
        if lost := config.trainings - len(ranked_by):
            print(f"  {name}: {lost} of {config.trainings} trainings have no ranking; what is above says why")
    for before, after in [*pairwise(students[:-1]), ("bm25", DISTILLED)]:
        if before in values and after in values:
            print(f"  {before} -> {after}: {step(values[before], values[after])}")


def step(before: np.ndarray, after: np.ndarray) -> str:
    """In words, what a second way of training brought over a first.

    Args:
        before, after: float64 of (trainings, queries), the same queries.
    """
    gain = f"{after.mean() - before.mean():+.4f}"
    low, high = interval_over_trainings(before, after)
    if math.isnan(low):
        return f"{gain} (one query has no interval)"
    verdict = "higher" if low > 0 else "lower" if high < 0 else "no difference shown"
    return f"{gain} (95 % {low:+.4f} to {high:+.4f}: {verdict})"
