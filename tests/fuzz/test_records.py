"""Records of real output folders, damaged in every way: a sentence, or the rows of an undisturbed run."""

import itertools
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file

from ray_rerank.cluster.run_folder import RunFolder, commit_failure
from ray_rerank.cluster.units import load_plan
from ray_rerank.operators.errors import InputError
from support.candidates import WORDS, rows, write_candidates
from support.command import without_ray
from support.marks import here
from support.models import write_bi_encoder
from support.trial import fuzz, short_and_long, try_command

Damage = Callable[[bytes], bytes | None]
"""What becomes of a file's bytes; None: a folder of its name."""


@dataclass(frozen=True)
class Produced:
    """A folder as a job left it.

    Attributes:
        folder: what is damaged.
        kept: a copy of it.
        resume: the job's own command, again; its rows are `rows`.
        readers: other commands that read the folder; each may write to `{new}`.
    """

    folder: Path
    kept: Path
    resume: list[str]
    rows: Any
    readers: list[list[str]]

    def records(self) -> list[Path]:
        """All files of the folder, relative to it."""
        return sorted(path.relative_to(self.kept) for path in self.kept.rglob("*") if path.is_file())

    def restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.kept, self.folder)


def content(folder: Path) -> list[Any]:
    """What readers of a folder see, without what says when and where: tables, texts, a model's weights."""
    found: list[Any] = []
    try:
        for path in sorted(folder.glob("*.*")):
            if path.suffix == ".parquet":
                found.append(pq.read_table(path).to_pylist())
            elif path.suffix == ".txt":
                found.append(path.read_text())
            elif path.suffix == ".safetensors":
                found.append(np.concatenate([weights.ravel() for _, weights in sorted(load_file(path).items())]))
    except (pa.ArrowInvalid, OSError) as error:
        raise AssertionError(f"{folder}: {error}") from None
    return found


def same(one: list[Any], other: list[Any]) -> bool:
    """A training that was resumed gives the same weights but for rounding."""
    if len(one) == len(other) == 1 and isinstance(one[0], np.ndarray):
        return np.allclose(one[0], other[0], atol=1e-5)
    return one == other


def stop_before_the_end(command: list[str]) -> None:
    """Train, and leave the checkpoints."""

    def stop(*_: Any) -> None:
        raise InputError("stopped")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ray_rerank.jobs.train.job._save", stop)
        assert try_command(command).code == 2


def fail_one(folder: Path) -> None:
    """As if the last unit had failed."""
    output = RunFolder(str(folder))
    unit = load_plan(output.internal("plan.parquet"))[-1]
    Path(output.marker(unit)).unlink()
    commit_failure(output, unit, "the model said no")


@pytest.fixture(scope="module")
def produced(tmp_path_factory: pytest.TempPathFactory, cross_encoder: Path) -> Iterator[dict[str, Produced]]:
    """One folder of every job that has books."""
    top = tmp_path_factory.mktemp("records")
    model, encoder = str(cross_encoder), str(write_bi_encoder(top / "bi-encoder"))
    content_ = rows(6, 4)
    content_[1]["candidates"][0]["text"] = None  # type: ignore[index]
    write_candidates(top / "in" / "a.parquet", content_[:4], row_group_size=2)
    write_candidates(top / "in" / "b.parquet", content_[4:], row_group_size=2)
    qrels = "".join(f"q{number} 0 d{number}-1 1\n" for number in range(6))
    (top / "qrels.txt").write_text(qrels)
    (top / "queries.tsv").write_text("".join(f"q{number}\t{WORDS[number]} {WORDS[-1]}\n" for number in range(4)))
    (top / "passages.tsv").write_text(
        "".join(f"d{n}-{m}\t{WORDS[4 * n + m]} {WORDS[n]} {WORDS[-1]}\n" for n in range(6) for m in range(4))
    )
    lines = [f"{WORDS[n // 3]} {WORDS[-1]}\t{WORDS[n]} {WORDS[n + 1]}\t{n % 3 == 0:d}\n" for n in range(30)]
    (top / "pairs.tsv").write_text("".join(["query\tdocument\tlabel\n", *lines]))
    texts = ["--queries", f"{top}/queries.tsv", "--passages", f"{top}/passages.tsv", "--qrels", f"{top}/qrels.txt"]
    teacher = {"kind": "cross-encoder", "model": model, "precision": "fp32"}
    scored = ["--input", f"{top}/in", "--unit-pairs", "8"]
    sources = json.dumps([{"kind": "bi-encoder", "model": encoder, "count": 1, "ranks": [1, 9]}])
    guard = json.dumps({"scorer": teacher, "at_most": 1.0})
    scorers = json.dumps([{"name": "one", "scorer": teacher}])
    commands: dict[str, tuple[list[str], list[list[str]]]] = {
        "rerank": (
            ["rerank", *scored, "--model", model, "--cache", f"{top}/cache", "--output", f"{top}/rerank"],
            [["inspect", f"{top}/rerank"], ["inspect", f"{top}/rerank", "--verify", "--json"],
             ["evaluate", "--ranking", f"{top}/rerank", "--qrels", f"{top}/qrels.txt"],
             ["rerank", *scored, "--model", model, "--output", f"{top}/rerank", "--verify"],
             ["rerank", *scored, "--model", model, "--output", f"{top}/rerank", "--trec-run", "{new}"]],
        ),
        "label": (
            ["label", *scored, "--teachers", json.dumps([teacher, teacher | {"max_length": 32}]), "--combine",
             "standardised", "--output", f"{top}/label"],
            [["inspect", f"{top}/label", "--verify"],
             ["export", "--input", f"{top}/label", "--format", "margin-mse", "--output", "{new}"]],
        ),
        "cache": (
            ["rerank", *scored, "--model", model, "--cache", f"{top}/cache", "--output", "{new}"],
            [["cache", action, f"{top}/cache"] for action in ("stats", "verify", "compact")]
            + [["cache", "export", f"{top}/cache", "--output", "{new}"],
               ["cache", "export", f"{top}/cache", "--output", "{new}", "--candidates", f"{top}/in"]],
        ),
        "prepare": (
            ["prepare", *texts, "--bm25", "3", "--output", f"{top}/prepare"],
            [["rerank", "--input", f"{top}/prepare", "--model", model, "--output", "{new}"],
             ["evaluate", "--ranking", f"{top}/prepare", "--qrels", f"{top}/qrels.txt"]],
        ),
        "mine": (
            ["mine", *texts, "--sources", sources, "--guard", guard, "--output", f"{top}/mine"],
            [["rerank", "--input", f"{top}/mine", "--model", model, "--output", "{new}"]],
        ),
        "export": (
            ["export", "--input", f"{top}/label", "--format", "margin-mse", "--output", f"{top}/export"], [],
        ),
        "compare": (
            ["compare", "--candidates", f"{top}/in", "--qrels", f"{top}/qrels.txt", "--scorers", scorers,
             "--no-timing", "--output", f"{top}/compare"],
            [["inspect", f"{top}/compare/rankings/one"]],
        ),
        "train": (
            ["train", "--input", f"{top}/pairs.tsv", "--model", model, "--output", "{new}", "--checkpoints",
             f"{top}/train", "--epochs", "3", "--batch-size", "4", "--max-length", "16", "--checkpoint-every", "2",
             "--learning-rate", "0.01", "--held-out", "0.3", "--threads", "1"],
            [],
        ),
    }  # fmt: skip
    found = {}
    with without_ray():
        for name, (resume, readers) in commands.items():
            folder, kept, first = top / name, top / "kept" / name, top / f"first-{name}"
            command = [word.replace("{new}", str(first)) for word in resume]
            if name == "train":
                stop_before_the_end(command)
                shutil.copytree(folder, kept)
            told = try_command(command)
            assert told.code in {0, 3}, told.err
            rows_ = content(first if "{new}" in resume else folder)
            if name == "rerank":
                fail_one(folder)
            if name == "mine":  # vectors and the teacher's scores are read again
                began = json.loads((folder / "_mine.json").read_text()) | {"complete": False}
                (folder / "_mine.json").write_text(json.dumps(began))
            if name != "train":
                shutil.copytree(folder, kept)
            found[name] = Produced(folder, kept, resume, rows_, readers)
            found[name].restore()  # a training drops its checkpoints
    yield found


def lists_of(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value there is something."""
    if at:
        yield at
    if isinstance(value, dict | list):
        for key, own in value.items() if isinstance(value, dict) else enumerate(value):
            yield from lists_of(own, (*at, key))


JUNK: list[Any] = [None, "", "7", "é" * 5000, -1, 1.5, 10**30, float("nan"), float("inf"), True, [], [1], {}, {"a": 1}]


def other_value(place: int, junk: int) -> Damage:
    """A JSON field of another value, or without it."""

    def damage(data: bytes) -> bytes:
        try:
            value = json.loads(data)
        except ValueError:
            return data[: place % (len(data) + 1)]
        places = list(lists_of(value))
        if not places:
            return b"[]"
        *way, last = places[place % len(places)]
        inner = value
        for key in way:
            inner = inner[key]
        if junk < len(JUNK):
            inner[last] = JUNK[junk]
        else:
            del inner[last]
        return json.dumps(value).encode()

    return damage


def table_of(table: pa.Table) -> Damage:
    def damage(_: bytes) -> bytes:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]

    return damage


WHOLE: dict[str, Damage] = {
    "empty": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "a byte short": lambda data: data[:-1],
    "a byte changed": lambda data: data[: len(data) // 2] + b"\xf7" + data[len(data) // 2 + 1 :],
    "list": lambda _: b"[]",
    "number": lambda _: b"7",
    "string": lambda _: b'"marker"',
    "null": lambda _: b"null",
    "object": lambda _: b"{}",
    "deep list": lambda _: b"[" * 10_000,
    "deep object": lambda _: b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "not UTF-8": lambda data: b"\xff\xfe" + data,
    "UTF-16": lambda data: data.decode("latin1").encode("utf-16"),
    "zeros": lambda data: bytes(len(data)),
    "no rows": table_of(pa.table({"reason": pa.array([], pa.string())})),
    "other columns": table_of(pa.table({"name": [1, 2], "reason": [[1], [2]]})),
    "other types": table_of(pa.table({"name": [None], "file": [1.5], "start": ["a"], "stop": ["b"], "items": [True]})),
    "a folder": lambda _: None,
}  # fmt: skip


def check(produced: Produced, record: Path, damage: Damage, command: int, new: Path) -> None:
    """Damage one record, run one command, and see what came of it."""
    commands = [produced.resume, *produced.readers]
    arguments = commands[command % len(commands)]
    file = produced.folder / record
    shutil.rmtree(new, ignore_errors=True)
    try:
        size = file.stat().st_size  # a part of the same size is read by --verify alone
        damaged = damage(file.read_bytes())
        if damaged is None:
            file.unlink()
            file.mkdir()
        else:
            file.write_bytes(damaged)
        trial = try_command([word.replace("{new}", str(new)) for word in arguments])
        trial.check()
        seen = "--verify" in arguments or damaged is None or len(damaged) != size or record.suffix != ".parquet"
        if arguments[0] == produced.resume[0] and "--trec-run" not in arguments and trial.code in {0, 3} and seen:
            output = new if "{new}" in arguments else produced.folder
            assert same(content(output), produced.rows), f"{record}: other rows\n{trial.out}\n{trial.err}"
        if trial.code == 2 and not damaged and "{new}" not in "".join(arguments):
            assert file.name in trial.err or str(file.parent) in trial.err, f"{record} is not named: {trial.err}"
    finally:
        produced.restore()


@here
@short_and_long
def test_a_damaged_record_is_told_or_its_unit_done_again(
    produced: dict[str, Produced], tmp_path: Path, count: int
) -> None:
    folders = st.sampled_from([*produced])
    records = folders.flatmap(lambda name: st.tuples(st.just(name), st.sampled_from(produced[name].records())))
    fields = st.builds(other_value, st.integers(0, 400), st.integers(0, len(JUNK)))
    strategy = st.tuples(records, st.one_of(st.sampled_from([*WHOLE.values()]), fields), st.integers(0, 5))

    def one(drawn: tuple[tuple[str, Path], Damage, int]) -> None:
        (name, record), damage, command = drawn
        check(produced[name], record, damage, command, tmp_path / "new")

    fuzz(strategy, one, count)


@here
@pytest.mark.slow
@pytest.mark.parametrize("name", ["rerank", "label", "cache", "prepare", "mine", "export", "compare", "train"])
def test_every_record_damaged_in_every_way(produced: dict[str, Produced], tmp_path: Path, name: str) -> None:
    one, faults = produced[name], []
    step = 5 if name == "train" else 1  # each takes a second; 5 damages on, so that every kind comes to many records
    tries = itertools.islice(itertools.product(one.records(), WHOLE.items()), 0, None, step)
    for number, (record, (kind, damage)) in enumerate(tries):
        for command in {0, number % (1 + len(one.readers))}:
            try:
                check(one, record, damage, command, tmp_path / "new")
            except AssertionError as error:
                faults.append(f"{name}/{record}: {kind}: command {command}: {error}")
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(fault[:2000] for fault in faults[:5])


@pytest.mark.parametrize("kind", list(WHOLE))
def test_a_damaged_record_of_a_loop_is_named(kind: str, tmp_path: Path, cross_encoder: Path) -> None:
    record = tmp_path / "out" / "loop.json"
    record.parent.mkdir()
    damaged = WHOLE[kind](b'{"seed": 0, "count": 1000}')
    if damaged is None:
        record.mkdir()
    else:
        record.write_bytes(damaged)
    texts = [f"--{name}={tmp_path}/gone" for name in ("passages", "queries", "qrels")]
    trial = try_command(
        ["loop", *texts, "--teacher", str(cross_encoder), "--student=layers=1", f"--output={record.parent}"]
    )
    trial.check()
    assert trial.code == 2 and str(record.parent) in trial.err
