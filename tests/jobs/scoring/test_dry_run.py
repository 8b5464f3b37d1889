"""A dry run tells what a run would do: refuses what that refuses, in its words, counts its pairs, leaves no trace."""

import itertools
import json
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from ray_rerank.cluster.lease import held
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.candidates.schema import CANDIDATE_SCHEMA
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here, on_ray
from support.models import write_cross_encoder
from support.trial import fuzz, try_command

Arguments = dict[str, str]


def _edit(top: Path, **fields: Any) -> None:
    path = top / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def _column(file: Path, name: str, values: Any) -> None:
    table = pq.read_table(file)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), file)


def _headless(top: Path) -> None:
    weights = load_file(top / "model" / "model.safetensors")
    kept = {name: value for name, value in weights.items() if not name.startswith("classifier")}
    save_file(kept, top / "model" / "model.safetensors", {"format": "pt"})


def _done_before(top: Path, job: str, **changed: str) -> None:
    given = {"--input": f"{top}/in", "--output": f"{top}/out", "--model": f"{top}/model"} | changed
    assert execute([job, *(part for pair in given.items() for part in pair)]) == ExitCode.DONE


def _other_model(top: Path, job: str) -> None:
    shutil.copytree(top / "model", top / "other")
    write_cross_encoder(top / "other", seed=5)
    _done_before(top, job, **{"--model": f"{top}/other"})


def _other_input(top: Path, job: str) -> None:
    _done_before(top, job)
    write_candidates(top / "in" / "b.parquet", rows(2, 3, seed=4))


@contextmanager
def _busy(top: Path) -> Iterator[None]:
    with held(str(top / "out"), "rerank"):
        yield


def _mark_unfinished(top: Path) -> None:
    (top / "in" / "_prepare.json").write_text('{"complete": false}')


BREAKAGES: dict[str, Callable[[Path, str, Arguments], Any]] = {
    "nothing": lambda top, job, given: None,
    "no input": lambda top, job, given: given.update({"--input": f"{top}/nowhere"}),
    "an empty input": lambda top, job, given: (top / "in" / "a.parquet").unlink(),
    "a cut input": lambda top, job, given: (top / "in" / "b.parquet").write_bytes(b"PAR1"),
    "no column": lambda top, job, given: given.update({"--columns.query": "question"}),
    "a column of another type": lambda top, job, given: _column(top / "in" / "a.parquet", "query", pa.array([1] * 4)),
    "an unfinished input": lambda top, job, given: _mark_unfinished(top),
    "output in input": lambda top, job, given: given.update({"--output": f"{top}/in/out"}),
    "output is a file": lambda top, job, given: (top / "out").write_text(""),
    "output below a file": lambda top, job, given: given.update({"--output": f"{top}/in/a.parquet/out"}),
    "output in a folder of the kernel": lambda top, job, given: given.update({"--output": "/proc/out"}),
    "output holds other files": lambda top, job, given: shutil.copytree(top / "in", top / "out"),
    "output of another model": lambda top, job, given: _other_model(top, job),
    "output of another input": lambda top, job, given: _other_input(top, job),
    "output of another job": lambda top, job, given: _done_before(top, "label" if job == "rerank" else "rerank"),
    "output that is busy": lambda top, job, given: _busy(top),
    "cache is a file": lambda top, job, given: given.update({"--cache": f"{top}/in/a.parquet"}),
    "cache below a file": lambda top, job, given: given.update({"--cache": f"{top}/model/config.json/cache"}),
    "no model": lambda top, job, given: given.update({"--model": f"{top}/nowhere"}),
    "no weights": lambda top, job, given: (top / "model" / "model.safetensors").unlink(),
    "cut weights": lambda top, job, given: (top / "model" / "model.safetensors").write_bytes(b"\x09"),
    "no tokenizer": lambda top, job, given: (top / "model" / "tokenizer.json").write_text("{}"),
    "no head": lambda top, job, given: _headless(top),
    "three labels": lambda top, job, given: _edit(top, num_labels=3, id2label=dict.fromkeys("012", "")),
    "another architecture": lambda top, job, given: _edit(top, architectures=["BertForMaskedLM"]),
    "another shape": lambda top, job, given: _edit(top, hidden_size=64),
    "a family that is none": lambda top, job, given: given.update({"--kind": "splade"}),
    "another family": lambda top, job, given: given.update({"--kind": "colbert"}),
    "an unknown flag": lambda top, job, given: given.update({"--nothing": "1"}),
}  # fmt: skip

FINE = {"nothing"}

CASES = [("rerank", what) for what in BREAKAGES]
CASES += [
    pytest.param("label", what, marks=() if what.startswith("output") else pytest.mark.slow) for what in BREAKAGES
]


def _tree(top: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_mtime_ns, path.stat().st_size) for path in (top, *top.rglob("*"))}


@here
@pytest.mark.parametrize(("job", "what"), CASES)
def test_what_refuses_a_run_refuses_its_dry_run_in_the_same_words(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str], job: str, what: str
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(4, 3))
    shutil.copytree(cross_encoder, tmp_path / "model")
    arguments = {"--input": f"{tmp_path}/in", "--output": f"{tmp_path}/out", "--model": f"{tmp_path}/model"}
    broken = BREAKAGES[what](tmp_path, job, arguments)
    command = [job, *(part for pair in arguments.items() for part in pair)]
    with broken if what == "output that is busy" else nullcontext():
        capsys.readouterr()
        before = _tree(tmp_path)
        dry, told = execute([*command, "--dry-run"]), capsys.readouterr()
        assert _tree(tmp_path) == before
        code, told_by_run = execute(command), capsys.readouterr()
    assert dry == code == (ExitCode.DONE if what in FINE else ExitCode.REFUSED), told.err + told_by_run.err
    plain = re.compile(r"cannot be written: .*")  # the run's words name the file that it tried to make
    if what not in FINE:
        assert plain.sub("", told.err) == plain.sub("", told_by_run.err)


@on_ray
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"stages": {"fusion": {"kind": "weighted", "weight": 0.5}}}, "no first-stage scores"),
        ({"stages": {"gpus": 4}}, "asks for 4 GPU"),
        ({"stages": {"actors": 2, "cpus": 9}}, "actors ask for"),
        ({"pass-through": "nothing"}, "'nothing'"),
        ({"trec-run": "{top}/nowhere/run.trec"}, "there is no folder"),
    ],
)
def test_what_a_re_ranking_alone_is_refused_for(
    tmp_path: Path, cross_encoder: Path, capsys: pytest.CaptureFixture[str], more: dict[str, Any], told: str
) -> None:
    flat = [{"query_id": f"q{n // 12}", "query": "a", "doc_id": f"{n}", "text": "b"} for n in range(24)]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "in" / "a.parquet")
    stage = {"scorer": {"kind": "cross-encoder", "model": str(cross_encoder)}} | more.pop("stages", {})
    command = ["rerank", "--input", f"{tmp_path}/in", "--output", f"{tmp_path}/out", "--unit-pairs", "12"]
    command += ["--stages", json.dumps([stage])]
    command += [part for name, value in more.items() for part in (f"--{name}", value.format(top=tmp_path))]
    said = []
    for flags in (["--dry-run"], []):
        assert execute([*command, *flags]) == ExitCode.REFUSED
        said.append(capsys.readouterr().err)
    assert said[0] == said[1] and told in said[0]


texts = st.sampled_from(["a", "", None, "how to water"])
candidate = st.fixed_dictionaries({"doc_id": texts, "text": texts, "score": st.just(1.0)})
queries = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), texts, st.none() | st.lists(candidate, max_size=9)), min_size=1, max_size=12
)


@here
@pytest.mark.parametrize("count", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_the_pairs_of_a_dry_run_are_those_of_the_run_or_about(tmp_path: Path, cross_encoder: Path, count: int) -> None:
    numbers = itertools.count()

    def check(case: Any) -> None:
        shards, unit_pairs, group = case
        top = tmp_path / str(next(numbers))
        (top / "in").mkdir(parents=True)
        for number, content in enumerate(shards):
            made = [dict(zip(("query_id", "query", "candidates"), row, strict=True)) for row in content]
            table = pa.Table.from_pylist(made, schema=CANDIDATE_SCHEMA)
            pq.write_table(table, top / "in" / f"{number}.parquet", row_group_size=group)
        command = ["rerank", "--input", str(top / "in"), "--output", str(top / "out"), "--model", str(cross_encoder)]
        command += ["--unit-pairs", str(unit_pairs)]
        (about, pairs), left = _counts(command)
        assert left == (about, pairs), "nothing is done yet"
        lists = [row[2] for content in shards for row in content]
        assert not about or not all(own and all(one["doc_id"] is not None for one in own) for own in lists)
        assert execute(command) in {ExitCode.DONE, ExitCode.DONE_WITH_ERRORS}
        ran = json.loads((top / "out" / "_run" / "report.json").read_text())
        assert about or pairs == ran["pairs"] == sum(map(len, lists))
        undone = next((top / "out" / "_run" / "done").glob("*.json"))
        marker = json.loads(undone.read_text())
        undone.unlink()
        assert about or _counts(command)[1] == ("", marker["pairs"])

    fuzz(st.tuples(st.lists(queries, min_size=1, max_size=2), st.integers(1, 7), st.integers(1, 9)), check, count)


def _counts(command: list[str]) -> list[tuple[str, int]]:
    """(`about ` or nothing, pairs) of the input, and of what is left."""
    tried = try_command([*command, "--dry-run"])
    assert tried.code == ExitCode.DONE
    return [(about, int(pairs)) for about, pairs in re.findall(r"(about |)(\d+) pairs(?: are left)?\n", tried.out)]
