"""Job files and flags of every job with anything in them: refused with a sentence, or done."""

import importlib
import json
import os
import re
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import strategies as st

from ray_rerank.jobs.cli.command import JOBS
from ray_rerank.jobs.cli.job_file import read_job_file
from support.candidates import rows, write_candidates
from support.marks import here
from support.trial import fuzz, short_and_long, try_command

TEXTS = [
    "", " ", "7", "-1", "nope", "a\0b", "\ud800", "\udcff", "/x" * 4000, "é" * 20_000, "~", "..", "[a", "{a", "a,b",
    "*", "::", "zip://a::b", "1e999", "2020-01-01", "layers=99999999999", "layers=-1 vocabulary=0", "nDCG@99999999999",
    "nDCG@-1", "1-0", "99999999999-1", "0x10", "\x1b[31m", "[red]", "line\nline", "-", "--", "file:///", "nosuch://x",
]  # fmt: skip
NUMBERS = [0, -1, 1, 2, 2**31, 2**63 - 1, 2**63, 10**30, 10**400, -(10**30), 0.5, -0.0, 1e-320, 1e308]
JUNK = [None, True, False, float("nan"), float("inf"), [], {}, [None], [[]], [{}], {"": 1}, {"kind": None}]
anything = st.recursive(
    st.sampled_from([*TEXTS, *NUMBERS, *JUNK]) | st.text(max_size=5) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(string.ascii_lowercase, max_size=4), inner),
    max_leaves=4,
)


def given(folder: Path, model: Path) -> dict[str, dict[str, Any]]:
    """A small valid job file for every job; nothing that starts Ray, and little that takes time."""
    scorer = {"kind": "cross-encoder", "model": str(model), "precision": "fp32"}
    texts = {"queries": f"{folder}/queries.tsv", "passages": f"{folder}/passages.tsv"}
    gone = f"{folder}/gone"
    return {
        "prepare": texts | {"bm25": 2, "output": f"{folder}/out"},
        "rerank": {"input": f"{folder}/in", "stages": [{"scorer": scorer, "keep": 2}, {"scorer": scorer}],
                   "output": f"{folder}/out", "dry_run": True},
        "label": {"input": f"{folder}/in", "teachers": [scorer, {"scorer": scorer, "cpus": 1}], "weights": [1, 2],
                  "output": f"{folder}/out", "dry_run": True},
        "export": {"input": f"{folder}/in", "format": "margin-mse", "output": f"{folder}/out"},
        "evaluate": {"ranking": f"{folder}/in", "qrels": f"{folder}/qrels.txt", "measures": "nDCG@10"},
        "compare": {"candidates": gone, "qrels": f"{folder}/qrels.txt", "output": f"{folder}/out",
                    "scorers": [{"name": "a", "scorer": scorer}], "timing": False},
        "cache": {"action": "stats", "cache": gone},
        "models": {"kind": "cross-encoder"},
        "inspect": {"output": gone},
        "mine": texts | {"sources": [{"kind": "bm25", "count": 1, "ranks": [1, 3]}], "qrels": f"{folder}/qrels.txt",
                         "guard": {"scorer": scorer, "max_score": 0.5}, "output": gone},
        "train": {"input": gone, "model": str(model), "student": "layers=1", "output": f"{folder}/out"},
        "queries": {"passages": f"{folder}/passages.tsv", "output": f"{folder}/made.tsv", "count": 3},
        "loop": texts | {"qrels": gone, "teacher": str(model), "output": f"{folder}/out"},
        "demo": {"model": gone, "output": f"{folder}/out"},
    }  # fmt: skip


@pytest.fixture
def jobs(tmp_path: Path, cross_encoder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """`given`, in a folder of its own; nothing is asked of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    write_candidates(tmp_path / "in" / "a.parquet", rows(3, 3))
    (tmp_path / "qrels.txt").write_text("q0 0 d0-1 1\nq1 0 d1-0 1\n")
    (tmp_path / "queries.tsv").write_text("q0\thow to water\nq1\tbread\n")
    (tmp_path / "passages.tsv").write_text("d0-1\twater a cactus\nd1-0\tbread rises\nd2-0\tstars shine\n")
    return given(tmp_path, cross_encoder)


def fields(job: str) -> list[str]:
    """All fields of a job's model, as files name them; what names a collection to be fetched is not drawn."""
    config = importlib.import_module(f"ray_rerank.jobs.{job}").Config
    return [field.alias or name for name, field in config.model_fields.items() if name not in {"dataset", "address"}]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a value something can be put in place of another."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, own in inner for place in places(own, (*at, key)))]


def changed(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    """A copy with something else at a place."""
    if not at:
        return new
    first, *rest = at
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[first] = changed(value[first], tuple(rest), new)
    return copy


def written(content: Any) -> bytes:
    """As a job file; what YAML cannot say is said as JSON does."""
    try:
        return yaml.safe_dump(content, allow_unicode=False).encode()
    except (yaml.YAMLError, UnicodeEncodeError):
        return json.dumps(content).encode()


@st.composite
def changes(draw: st.DrawFn) -> tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]:
    """A job, and what becomes of its file: some fields with other values, nested ones too, or fields nobody knows."""
    job = draw(st.sampled_from(list(JOBS)))
    names = fields(job)
    drawn = draw(
        st.lists(st.tuples(st.sampled_from([*names, None]), st.integers(0, 99), anything), min_size=1, max_size=3)
    )

    def apply(content: dict[str, Any]) -> dict[str, Any]:
        for name, place, value in drawn:
            ways = [way for way in places(content) if way]
            at = ways[place % len(ways)] if name is None and ways else (name or "unknown",)
            content = changed({**content, at[0]: content.get(at[0])}, at, value)
        return content

    return job, apply


@here
@short_and_long
def test_a_field_of_any_value_is_refused_or_done(jobs: dict[str, dict[str, Any]], tmp_path: Path, count: int) -> None:
    def one(drawn: tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        job, apply = drawn
        content = apply(jobs[job])
        positional = {"cache": ("action", "cache"), "inspect": ("output",)}.get(job, ())
        words = [str(content.pop(name, "")) for name in positional]
        if positional:
            flags = [f"--{name.replace('_', '-')}={json.dumps(value)}" for name, value in content.items()]
            try_command([job, *words, *flags]).check()
            return
        file = tmp_path / "job.yaml"
        file.write_bytes(written(content))
        try_command([job, str(file)]).check()

    fuzz(changes(), one, count)


@here
@short_and_long
def test_flags_of_any_value_are_refused_or_done(jobs: dict[str, dict[str, Any]], tmp_path: Path, count: int) -> None:
    def one(drawn: tuple[str, Callable[[dict[str, Any]], dict[str, Any]]]) -> None:
        job, apply = drawn
        content = apply(jobs[job])
        arguments = []
        for name, value in content.items():
            told = value if isinstance(value, str) else json.dumps(value)
            arguments += [f"--{name.replace('_', '-')}", told]
        try_command([job, *arguments]).check()

    fuzz(changes(), one, count)


PIECES = [
    b"input: a\n", b"output: b\n", b"input: c\n", b"- ", b"? ", b": ", b"[", b"]", b"{", b"}", b"&a ", b"*a", b"<<: ",
    b"!!python/object:os.system x", b"!!binary aGk=", b"!!set {a}", b"|\n", b">\n", b"'", b'"', b"\t", b"#", b"---\n",
    b"...\n", b"%YAML 1.2\n", b"\xff", b"\xef\xbb\xbf", b"\0", b"\r", b"\xc2\x85", b"  ", b"null", b"5: 6\n", b"=",
    b"2020-01-01", b"0o7", b"1_0", b"stages: [{scorer: {kind: ", b"\\ud800", b'"\\x00"', b"@", b"`", b"9" * 5000,
    b"k" * 100_000, b"[" * 2000, b"{a: " * 2000, b"a: &b [*b]\n", b"x: &x [1,1,1,1,1,1,1,1,1]\n",
    b"y: &y [*x,*x,*x,*x]\n",
]  # fmt: skip


@short_and_long
def test_a_job_file_of_any_bytes_is_refused(tmp_path: Path, count: int) -> None:
    pieces = st.one_of(st.sampled_from(PIECES), st.binary(max_size=4))

    def one(drawn: tuple[list[bytes], str]) -> None:
        data, job = drawn
        file = tmp_path / "job.yaml"
        file.write_bytes(b"".join(data))
        trial = try_command([job, str(file)])
        trial.check()
        assert trial.code == 2

    fuzz(st.tuples(st.lists(pieces, max_size=12), st.sampled_from(["rerank", "label", "mine", "compare"])), one, count)


LAUGHS = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{name}: &{name} [{','.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (LAUGHS, "line 5: .*more than 10,000 values"),
        ("input: a\nstages: &a [*a]\n", "line 2: .*alias stands for what it is part of"),
        ("input: a\noutput: b\ninput: c\n", "line 3: .*'input' stands in line 1 already"),
        ("output: a\n5: b\n", r"line 2: .*the name of a field is text.*\(5\)"),
        ("output: a\ninput:\n", "line 2: input: there is no value"),
        ("input: a\n---\ninput: b\n", "line 2: .*another document"),
        ("input: a\nstages:\n\t- b\n", "line 3: "),
        ("input: off\noutput: true\n", "output: Input should be a valid string"),
        ("input: !!bool x\n", "cannot be read as YAML: 'x'"),
        ("input: a\nmodel: !!python/object/apply:os.system [ls]\n", "line 2: .*python/object"),
        ("input: a\nstages: " + "[" * 10_000, "line 2: .*50 deep"),
        ("k" * 1_000_000 + ": 1\n", "line 1: "),
        (
            "input: a\nstages:\n- scorer:\n    kind: cross-encoder\n    model: 5\n",
            r"line 5: stages\.0\.scorer.*model: ",
        ),
        ("- input\n", "is a mapping of field to value, not a list"),
        (b"input: \xff\n", "is not UTF-8"),
        (b"input: \x01\n", "cannot be read as YAML"),
        ("x: 1\n" * 300_000, "has 1,500,000 bytes"),
    ],
)
def test_a_bad_job_file_is_refused_with_its_line(content: str | bytes, told: str, tmp_path: Path) -> None:
    file = tmp_path / "job.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    trial = try_command(["rerank", str(file)])
    trial.check()
    assert trial.code == 2
    assert re.search(f"{re.escape(str(file))}: .*?{told}", trial.err), trial.err


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/null", "{folder}", "{folder}/pipe", "{folder}/gone", "x\0y", "x" * 5000]
)
def test_what_is_no_job_file_is_refused_at_once(path: str, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    trial = try_command(["rerank", path.format(folder=tmp_path)])
    trial.check()
    assert trial.code == 2


def test_texts_that_older_yaml_takes_for_something_else_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(
        "\ufeffa: 2020-01-01\nb: 010\nc: 1:30\nd: 1_000\ne: 7\nf: 1e-4\ng: .5\nh: yes\n"
        "i: ~\nj: -3\nk: 0x1F\nl: true\nm: off\n"
    )
    assert read_job_file(tmp_path / "job.yaml").values == {
        "a": "2020-01-01", "b": "010", "c": "1:30", "d": "1_000", "e": 7, "f": 1e-4, "g": 0.5, "h": "yes", "i": None,
        "j": -3, "k": "0x1F", "l": True, "m": "off",
    }  # fmt: skip


@pytest.mark.parametrize("job", ["rerank", "label", "evaluate", "export"])
def test_a_file_whose_name_is_no_text_is_named(job: str, jobs: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "in" / "a.parquet").rename(tmp_path / "in" / "\udcff.parquet")
    (tmp_path / "job.yaml").write_bytes(written(jobs[job]))
    trial = try_command([job, str(tmp_path / "job.yaml")])
    trial.check()
    assert trial.code == 2 and "has a name that is no UTF-8" in trial.err
