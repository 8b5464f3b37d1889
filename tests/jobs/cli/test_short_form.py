"""`--model` and what stands beside it is the scorer that a job file would spell out."""

import pytest

from ray_rerank.jobs import compare, label, rerank
from ray_rerank.jobs.cli.arguments import parse
from ray_rerank.jobs.exit_codes import ExitCode
from ray_rerank.jobs.label.job import Teacher
from support.command import execute

BESIDE = ["--precision", "fp32", "--max-length", "64"]
SCORER = {"precision": "fp32", "max_length": 64}


def test_rerank_takes_kind_precision_length_and_keep() -> None:
    flags = ["--input", "in", "--output", "out", "--model", "m", "--kind", "bi-encoder", *BESIDE, "--keep", "3"]
    stage = {"scorer": SCORER | {"kind": "bi-encoder", "model": "m"}, "keep": 3}
    assert parse(rerank.Config, flags).stages == (rerank.Stage.model_validate(stage),)


def test_label_takes_kind_precision_and_length() -> None:
    flags = ["--input", "in", "--output", "out", "--model", "m", "--kind", "monot5", *BESIDE]
    short = parse(label.Config, flags)
    teacher = Teacher.model_validate(SCORER | {"kind": "monot5", "model": "m"})
    assert short.teachers == (teacher,)
    assert short.stages()[0].scorer == teacher.scorer


def test_compare_takes_precision_and_length_for_all_models() -> None:
    flags = ["--candidates", "in", "--qrels", "q", "--output", "out", "--models", "a,b", *BESIDE]
    found = parse(compare.Config, flags).scorers
    assert [(one.scorer.model, one.scorer.precision, one.scorer.max_length) for one in found] == [
        ("a", "fp32", 64), ("b", "fp32", 64),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["rerank", "--keep", "3", "--stages", '[{"scorer": {"model": "m"}}]'], "`keep` goes with `model`; each of"),
        (["rerank", "--kind", "monot5", "--stages", '[{"scorer": {"model": "m"}}]'], "`kind` goes with `model`"),
        (["label", "--precision", "fp32"], "`precision` goes with `model`; each of `teachers` says its own"),
        (["compare", "--max-length", "64"], "`max_length` goes with `models`; each of `scorers` says its own"),
        (["rerank", "--model", "m", "--stages", '[{"scorer": {"model": "m"}}]'], "give `model` or `stages`, not both"),
        (["label", "--model", "m", "--max-length", "3"], "max_length: Input should be greater than or equal to 8"),
        (["label", "--model", "m", "--keep", "3"], "there is no flag --keep"),
    ],
)  # fmt: skip
def test_what_it_does_not_take_is_refused(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(arguments) == ExitCode.REFUSED
    assert capsys.readouterr().err.count(told) == 1
