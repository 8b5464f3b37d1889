"""A family is one file, one import and one entry: jobs, forecasts, guards and pictures follow its class attributes."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as pads
import pytest

from ray_rerank.cluster.own_code import copy_code
from support.candidates import rows, write_candidates

FAMILY = """
from typing import Any, ClassVar, Literal

import numpy as np

from ray_rerank.operators.scorers.base import Pointwise
from ray_rerank.operators.scorers.config import ModelConfig, ScoreMeaning


class LengthConfig(ModelConfig):
    title: ClassVar[str] = "passage length"
    colour: ClassVar[str] = "#123456"

    kind: Literal["length"] = "length"
    sign: int = 1

    @property
    def score_meaning(self) -> ScoreMeaning:
        return "logit"

    def identity(self) -> dict[str, Any]:
        return {"kind": self.kind, "sign": self.sign}

    def load(self, threads: int | None = None) -> "Length":
        return Length(self.sign)


class Length(Pointwise):
    precision = "fp32"

    def __init__(self, sign: int) -> None:
        self._sign = sign

    def evaluate(self, rows, work):
        work.evaluations += len(rows)
        return np.array([self._sign * len(document) for _, document in rows], np.float32)
"""


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """The packages with the family in them, as somebody would add it."""
    package = copy_code(tmp_path / "code")
    (package / "operators" / "scorers" / "length.py").write_text(FAMILY)
    registry = package / "operators" / "scorers" / "registry.py"
    content = registry.read_text()
    content = content.replace(
        "\nFamily = ", "\nfrom ray_rerank.operators.scorers.length import LengthConfig\n\nFamily = LengthConfig | ", 1
    )
    assert "LengthConfig | " in content
    registry.write_text(content)
    return package.parent


def run(code: Path, *arguments: str) -> str:
    program = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(code)}
    done = subprocess.run(program, cwd=code, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_job_scores_with_it_and_a_guard_reads_its_scores(code: Path, tmp_path: Path) -> None:
    content = rows(4, 5)
    write_candidates(tmp_path / "in" / "a.parquet", content)
    stages = json.dumps([{"scorer": {"kind": "length", "model": "none", "sign": -1}}])
    command = ["rerank", "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--stages", stages]
    command += ["--executor", "inline", "--cache", str(tmp_path / "cache")]
    assert "length none" in run(code, "-m", "ray_rerank.jobs", *command, "--dry-run")
    run(code, "-m", "ray_rerank.jobs", *command)
    texts = {c["doc_id"]: c["text"] for row in content for c in row["candidates"]}
    for row in pads.dataset(tmp_path / "out").to_table().to_pylist():
        assert [c["score"] for c in row["ranking"]] == sorted(-len(texts[c["doc_id"]]) for c in row["ranking"])[::-1]
    guard = (
        "from ray_rerank.operators.mining.guard import Guard\nimport numpy as np\n"
        "guard = Guard.model_validate({'scorer': {'kind': 'length', 'model': 'm'}, 'at_most': 0.9})\n"
        "print(guard.seen(np.array([0.0])))"
    )
    assert re.fullmatch(r"\[0\.5\]\n", run(code, "-c", guard)), "a logit, seen through a sigmoid"


def test_the_rest_follows_its_class_attributes(code: Path) -> None:
    look = (
        "from ray_rerank.jobs.compare.picture import _look\n"
        "from ray_rerank.operators.scorers.registry import FAMILIES, is_pairwise, scorer_config\n"
        "print(_look('length'), is_pairwise({'kind': 'length'}), is_pairwise({'kind': 'duot5'}))\n"
        "print(FAMILIES['length'].__name__, scorer_config({'kind': 'length', 'model': 'm'}).sign)"
    )
    assert run(code, "-c", look) == "('#123456', 'h', 'passage length') False True\nLengthConfig 1\n"


def test_nothing_branches_on_a_kind(code: Path) -> None:
    kinds = "cross-encoder|bi-encoder|colbert|monot5|rankt5|duot5"
    branch = re.compile(rf'(==|!=|\bin)\s*[({{\[]?\s*"({kinds})"')
    outside = [
        f"{path.name}:{number}: {line.strip()}"
        for path in code.rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if branch.search(line)
    ]
    assert not [line for line in outside if not line.startswith("sentence_files.py")], outside
