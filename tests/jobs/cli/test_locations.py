"""Every option of every job that says where something lies refuses chained URIs."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from ray_rerank.jobs.cli.command import JOBS
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.outputs.files import _locations, check_kinds
from ray_rerank.operators.errors import InputError
from ray_rerank.operators.location import Location
from ray_rerank.operators.scorers.registry import FAMILIES, ScorerConfig
from support.command import execute
from support.option_models import all_models, configs, takes_texts

TEXTS = {
    "address", "baseline", "format", "kind", "measures", "name", "pass_through", "ranks", "revision", "scorer",
    "source", "split", "student", "doc_id", "query", "query_id", "text", "score", "caps", "template",
    "targets", "decoder_prefix", "query_prompt", "document_prompt", "query_marker", "document_marker", "dataset",
}  # fmt: skip
"""Fields of texts that are no location; a new field of texts is either among them or a `Location`."""

CHAINED = ["a::b", "a::b/c", "zip://part.parquet::s3://bucket/a.zip", "simplecache::s3://bucket/a", "::", "/x/y::z"]


def refuses_chains(field: FieldInfo) -> bool:
    """By trying: a text alone, and as one of several."""
    kind = TypeAdapter(Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation)

    def is_told(value: Any) -> bool:
        try:
            kind.validate_python(value)
        except ValidationError as error:
            return "chains URIs" in str(error)
        return False

    return all(is_told(chain) or is_told([chain]) for chain in CHAINED)


CASES = [(model, name, field) for model in all_models() for name, field in model.model_fields.items()]


def test_all_option_models_are_walked() -> None:
    names = {model.__name__ for model in all_models()}
    assert {"Stage", "ScorerEntry", "RunSource", "Guard", "Teacher", "Columns"} <= names
    assert len(FAMILIES) <= sum("Config" in name and name != "Config" for name in names)
    assert len({model for model, *_ in CASES if model.__name__ == "Config"}) == len(JOBS)


@pytest.mark.parametrize(
    ("model", "name", "field"),
    [case for case in CASES if takes_texts(case[2].annotation)],
    ids=[f"{m.__module__}.{m.__name__}.{n}" for m, n, f in CASES if takes_texts(f.annotation)],
)
def test_a_field_of_texts_is_no_location_or_refuses_chained_uris(
    model: type[BaseModel], name: str, field: FieldInfo
) -> None:
    assert refuses_chains(field) != (name in TEXTS or model.__name__ == "Columns"), (
        f"{model.__name__}.{name}: is it a Location? If not, add it to TEXTS"
    )


FLAGS = [
    (job, (field.alias or name).replace("_", "-"))
    for job, config in configs().items()
    for name, field in config.model_fields.items()
    if takes_texts(field.annotation) and refuses_chains(field)
]


@pytest.mark.parametrize(("job", "flag"), FLAGS, ids=[f"{job} --{flag}" for job, flag in FLAGS])
def test_the_command_line_refuses_chained_uris_by_name(
    job: str, flag: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    needed = {("mine", "run"): ["--source", "run"], ("mine", "encoder"): ["--source", "bi-encoder"]}.get(
        (job, flag), []
    )
    assert execute([job, *needed, f"--{flag}", "a::b/c"]) == ExitCode.REFUSED
    assert "'a::b/c': `::` chains URIs" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def fifo(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def link_to_a_device(folder: Path) -> Path:
    (folder / "link").symlink_to("/dev/zero")
    return folder / "link"


def listening(folder: Path) -> Path:
    at = Path.cwd()
    os.chdir(folder)  # the path of a socket is short
    socket.socket(socket.AF_UNIX).bind("socket")
    os.chdir(at)
    return folder / "socket"


@pytest.mark.parametrize(("make", "kind"), [(fifo, "pipe"), (link_to_a_device, "device"), (listening, "socket")])
def test_every_field_that_is_read_refuses_what_has_no_end(
    make: Callable[[Path], Path], kind: str, tmp_path: Path
) -> None:
    path = str(make(tmp_path))
    tried = 0
    for model, name, field in CASES:
        if not takes_texts(field.annotation) or not refuses_chains(field):
            continue
        nothing: dict[str, Any] = dict.fromkeys(model.model_fields)
        given = [model.model_construct(**(nothing | {name: value})) for value in (path, (path,), f"file://{path}")]
        if any(written for *_, written in _locations(given[0])):
            continue
        for one in given:
            with pytest.raises(InputError, match=f"{path} is neither a file nor a folder but a {kind}"):
                check_kinds(one)  # type: ignore[arg-type]
        tried += 1
    assert tried > 60


def test_so_do_models_and_runs_that_are_nested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(fifo(tmp_path))
    stages = [{"scorer": {"kind": "colbert", "model": path}}]
    assert execute(["rerank", "--input", "in", "--output", "out", "--stages", json.dumps(stages)]) == ExitCode.REFUSED
    assert f"stages[0].scorer.model: {path} is neither" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["inspect", "a::b"], ["cache", "stats", "a::b"]])
def test_so_do_arguments_without_a_flag(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(arguments) == ExitCode.REFUSED
    assert "'a::b': `::` chains URIs" in capsys.readouterr().err


def test_so_do_job_files_and_what_is_nested(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    scorer = {"kind": "colbert", "model": "zip://m::s3://b/m.zip"}
    job = {
        "rerank": {"input": "in", "stages": [{"scorer": scorer}]},
        "label": {"input": "in", "teachers": [scorer]},
        "compare": {"candidates": "c", "qrels": "q", "scorers": [{"name": "one", "scorer": scorer}]},
        "mine": {
            "queries": "q", "passages": "p", "guard": {"scorer": scorer, "max_score": 1},
            "sources": [
                {"kind": "run", "count": 1, "path": "a::b"}, {"kind": "bi-encoder", "count": 1, "model": "a::b"},
            ],
        },
    }  # fmt: skip
    for name, content in job.items():
        (tmp_path / "job.yaml").write_text(json.dumps(content | {"output": "out"}))
        assert execute([name, str(tmp_path / "job.yaml")]) == ExitCode.REFUSED
        told = capsys.readouterr().err
        assert told.count("chains URIs") == (3 if name == "mine" else 1), told


def test_a_prompt_may_have_colons() -> None:
    assert TypeAdapter(ScorerConfig).validate_python({"kind": "bi-encoder", "model": "m", "query_prompt": "a::b"})
    assert TypeAdapter(Location).validate_python("s3://bucket/a:b") == "s3://bucket/a:b"
