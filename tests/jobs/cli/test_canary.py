"""A secret in any option of any job is refused, and found in nothing that is printed or written."""

import json
import logging
import typing
from collections.abc import Callable, Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from ray_rerank.cluster.secrets import shown
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.operators.errors import ModelError
from ray_rerank.operators.scorers.cross_encoder import CrossEncoderConfig
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here
from support.option_models import configs, takes_texts
from support.trial import try_command

CANARY = "geheim"
PLACES = (
    "s3://user:geheim@bucket/x",
    "https://geheim@host/x",
    "gs://geheim:pw@bucket/x",
    "s3://user:a/geheim@bucket/x",
    "https://host/x?api_key=geheim",
    "abfs://box/x?%73ig=geheim",
    "https://host/x?versionId=1&X-Amz-Security-Token=geheim",
    "file:///x?geheim",
    "hdfs://host/x;Password=geheim",
    "s3://bucket/x#geheim",
    "hf_geheimABCDEFGHIJKLMNOPQRSTUVWXYZ12",
    "user:geheim@host/x",
)
REFUSED = "carries a password, token or signature"
Wrap = Callable[[Any], Any]


def nested(annotation: Any) -> Iterator[tuple[Wrap, type[BaseModel]]]:
    """The option models that a field's type names, and how a value of them stands in the field."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield lambda value: value, annotation
    several = typing.get_origin(annotation) in (tuple, list)
    for inner in typing.get_args(annotation):
        for wrap, model in nested(inner):
            yield (lambda value, wrap=wrap: [wrap(value)]) if several else wrap, model


def options(model: type[BaseModel], above: tuple[type, ...] = ()) -> Iterator[tuple[str, Wrap]]:
    """Every option that takes a text, however deep, and the content of a job file that gives it a value."""
    for name, field in model.model_fields.items():
        key = field.alias or name
        if takes_texts(field.annotation):
            yield key, lambda value, key=key: {key: value}
        for wrap, inner in nested(field.annotation):
            if inner not in above:
                for below, fill in options(inner, (*above, model)):
                    yield f"{key}.{below}", lambda value, key=key, wrap=wrap, fill=fill: {key: wrap(fill(value))}


OPTIONS = [(job, name, fill) for job, config in configs().items() for name, fill in options(config)]
FIRST = {(job, name): fill for job, name, fill in reversed(OPTIONS)}  # of the scorers' families one is enough
TURN = cycle(PLACES)


def test_all_options_are_walked() -> None:
    names = {(job, name) for job, name, _ in OPTIONS}
    assert {job for job, _ in names} == set(configs())
    assert names >= {
        ("rerank", "input"), ("rerank", "address"), ("rerank", "stages.scorer.model"), ("mine", "guard.scorer.model"),
        ("label", "teachers.scorer.revision"), ("compare", "scorers.stages.scorer.model"), ("compare", "models"),
        ("mine", "sources.path"), ("prepare", "dataset"), ("train", "checkpoints"), ("inspect", "output"),
        ("loop", "teacher"),
    }  # fmt: skip


def test_every_option_refuses_a_secret_at_every_place_and_its_error_does_not_hold_it() -> None:
    for job, name, fill in OPTIONS:
        config = configs()[job]
        for place in PLACES:
            with pytest.raises(ValidationError) as told:
                config.model_validate(fill(place))
            assert REFUSED in str(told.value), f"{job} {name} {place}"
            assert CANARY not in str(told.value), f"{job} {name} {place}"
        with pytest.raises(ValidationError) as told:  # something else is wrong, if only that options are missing
            config.model_validate({**fill("s3://bucket/x"), "nothing of the kind": 1})
        assert REFUSED not in str(told.value)


@pytest.mark.parametrize("job", list(configs()))
def test_the_command_line_refuses_it_by_flag_and_by_job_file_and_tells_and_writes_nothing_of_it(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, fill in {name: fill for (own, name), fill in FIRST.items() if own == job}.items():
        content = fill(next(TURN))
        (key, value), *_ = content.items()
        flag = f"--{key.replace('_', '-')}"
        given = [flag, value if isinstance(value, str) else json.dumps(value)]
        ways = [given, [f"{flag}={given[1]}"], [f"--{'.'.join(name.split('.')).replace('_', '-')}", next(TURN)]]
        if "yaml" in configs()[job].positional:
            Path("job.yaml").write_text(yaml.safe_dump(content))
            ways.append(["job.yaml"])
        for arguments in ways:
            done = try_command([job, *arguments])
            assert done.code == ExitCode.REFUSED, arguments
            assert CANARY not in done.out + done.err, arguments
            assert any(said in done.err for said in (REFUSED, "there is no flag", "Parsing error")), done.err
    assert [path.name for path in tmp_path.rglob("*") if path.name != "job.yaml"] == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["rerank", "--api-key=geheim"],
        ["rerank", "--api-key", "geheim"],
        ["rerank", "--inptu=s3://user:geheim@bucket/x"],
        ["rerank", "--inptu:s3://user:geheim@bucket/x"],
        ["rerank", "--input", "in", "s3://user:geheim@bucket/x"],
        ["rerank", "--dry-run=geheim"],
        ["rerank", "--unit-pairs", "geheim"],
        ["rerank", "--stages", "[{geheim"],
        ["rerank", "--stages", "[geheim]"],
        ["rerank", "--columns", "{geheim"],
        ["rerank", "--stages.0.geheim", "x"],
        ["compare", "--models", 'a,"s3://user:geheim@bucket/x'],
        ["rerank", "s3://user:geheim@bucket/job.yaml"],
        ["rerank", "https://host/job.yaml?token=geheim"],
        ["inspect", "s3://geheim@bucket/x"],
        ["cache", "stats", "s3://bucket/x?geheim"],
        ["cache", "s3://bucket/x?geheim"],
        ["s3://user:geheim@bucket/x"],
    ],
)
def test_what_is_typed_wrong_is_not_repeated(arguments: list[str]) -> None:
    done = try_command(arguments)
    assert done.code == ExitCode.REFUSED
    assert CANARY not in done.out + done.err.replace("--stages.0.geheim", "")
    done.check()


@pytest.mark.parametrize(
    "content",
    [
        "input: s3://user:geheim@bucket: x: y",
        "input: [s3://user:geheim@bucket",
        "input: 's3://user:geheim@bucket",
        "input: \"s3://bucket?x=geheim\n\\q\"",
        "s3://user:geheim@bucket/x: 1",
        "inptu: s3://user:geheim@bucket/x",
        "stages: [{scorer: {model: m, s3://user:geheim@bucket/x: 1}}]",
        "stages: {s3://user:geheim@bucket/x: [1]}",
        "stages: &a [*a, s3://user:geheim@bucket/x]",
        "input: !s3://user:geheim@bucket x",
        "input: *s3://user:geheim@bucket",
        "input: s3://user:geheim@bucket\x01",
        "? {a: s3://user:geheim@bucket/x}\n: 1",
        "- s3://user:geheim@bucket/x",
    ],
)  # fmt: skip
def test_a_job_file_that_is_wrong_is_not_repeated(content: str, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(content)
    done = try_command(["rerank", str(tmp_path / "job.yaml")])
    assert done.code == ExitCode.REFUSED
    assert CANARY not in done.out + done.err
    assert "job.yaml" in done.err or "the config is refused" in done.err
    done.check()


SAID = "Cannot connect to https://user:geheim@host/x?X-Amz-Signature=geheim"


def test_nothing_is_printed_past_the_net(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_: Any) -> int:
        print(SAID)
        logging.getLogger("some.library").addHandler(logging.StreamHandler())
        logging.getLogger("some.library").warning(SAID)
        try:
            raise OSError(SAID)
        except OSError as error:
            raise RuntimeError(SAID) from error

    monkeypatch.setattr("ray_rerank.jobs.inspect.run", run)
    done = try_command(["inspect", "x"])
    assert done.code == ExitCode.FAILED
    assert done.err.count("Traceback") == 2
    assert done.err.count(shown(SAID)) >= 3
    assert done.out == f"{shown(SAID)}\n"
    assert CANARY not in done.err


@here
def test_what_a_library_says_is_written_down_without_it(
    tmp_path: Path, cross_encoder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A model that fails on every pair, then on every unit: error tables, failures, reports, comparisons."""
    write_candidates(tmp_path / "in" / "part-0.parquet", rows(2, 2))
    (tmp_path / "qrels.txt").write_text("q0 0 d0-1 1\n")
    load = CrossEncoderConfig.load

    def failing(self: CrossEncoderConfig, threads: int | None = None) -> Any:
        loaded = load(self, threads)
        monkeypatch.setattr(loaded, "score", fail, raising=True)
        return loaded

    def fail(*_: Any, **__: Any) -> None:
        raise ModelError(SAID)

    flags = ["--input", f"{tmp_path}/in", "--model", str(cross_encoder)]
    compare = ["--candidates", f"{tmp_path}/one", "--qrels", f"{tmp_path}/qrels.txt", "--models", str(cross_encoder)]
    write_candidates(tmp_path / "one" / "part-0.parquet", rows(2, 2))
    monkeypatch.setattr(CrossEncoderConfig, "load", failing)
    assert execute(["rerank", *flags, "--output", f"{tmp_path}/ranked"]) == ExitCode.DONE_WITH_ERRORS
    assert execute(["label", *flags, "--output", f"{tmp_path}/labels"]) == ExitCode.DONE_WITH_ERRORS
    execute(["compare", *compare, "--output", f"{tmp_path}/compared"])
    monkeypatch.setattr("ray_rerank.jobs.scoring.steps.rerank", fail)
    execute(["rerank", *flags, "--output", f"{tmp_path}/failed"])
    execute(["inspect", f"{tmp_path}/failed"])
    told = "".join(capfd.readouterr())
    assert "https://***@host/x?***" in told
    files = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert CANARY not in told
    assert [name for name, data in files.items() if CANARY.encode() in data] == []
    hidden = {name.removeprefix(f"{tmp_path}/").split("/")[1] for name, data in files.items() if b"***@host" in data}
    assert hidden == {"_errors", "_run", "comparison.json", "rankings"}
