"""Workers run the driver's code wherever the driver stands; one that has other code refuses and names both."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as pads
import pytest
from conftest import here, rows, write_candidates
from ray import cloudpickle

from cluster import own_code
from cluster.own_code import PACKAGES, ROOT, carried
from jobs.command import ExitCode, execute


def where() -> str:
    """Which code runs."""
    from operators import cpus

    return str(cpus.__file__)


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder with packages of our names that must not be imported."""
    for name in PACKAGES:
        (tmp_path / "decoys" / name).mkdir(parents=True)
        (tmp_path / "decoys" / name / "__init__.py").write_text(f"raise SystemExit('the decoy {name} was imported')")
    return tmp_path / "decoys"


def call_in_a_worker(folder: Path, path: list[Path], before: str = "") -> str:
    """What `where` says, carried to a process whose import path begins with a folder, as Ray's workers' do."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    try:
        (folder / "carried").write_bytes(cloudpickle.dumps(carried(where)))
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[__name__])
    code = f"{before}\nimport pickle, sys\nprint(pickle.load(open('carried', 'rb'))())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    ran = subprocess.run([sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True)
    return (ran.stdout or ran.stderr).strip().splitlines()[-1]


def copy_of_the_code(folder: Path) -> Path:
    for name in PACKAGES:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "starter"))
    return folder


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's folder, whose sources are known by now, is on no disk that the worker sees."""
    assert own_code._sources()
    monkeypatch.setattr(own_code, "ROOT", folder / "gone")


def test_the_drivers_own_code_is_found_behind_decoys(decoys: Path) -> None:
    assert call_in_a_worker(decoys, []) == str(ROOT / "operators" / "cpus.py")


def test_a_copy_of_the_code_is_as_good_where_the_drivers_folder_is_not(
    decoys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_of_the_code(tmp_path / "node")
    elsewhere(tmp_path, monkeypatch)
    assert call_in_a_worker(decoys, [copy]) == str(copy / "operators" / "cpus.py")


@pytest.mark.parametrize("before", ["", "import operators"])
def test_a_worker_with_other_code_refuses_and_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    other = copy_of_the_code(tmp_path / "node")
    with (other / "operators" / "ranking.py").open("a") as file:
        file.write("# of another version\n")
    if not before:
        elsewhere(tmp_path, monkeypatch)
    told = call_in_a_worker(
        other, [], f"import sys; sys.path[:] = [p for p in sys.path if p != {str(ROOT)!r}]\n{before}"
    )
    assert told.startswith(f"ImportError: the driver runs {own_code.ROOT / 'operators'}, and a worker on ")
    assert f"({other / 'operators' / '__init__.py'})" in told


RUN = """
import sys
from cluster.alone import run_alone
from cluster.session import session
from jobs.command import execute
from operators.cpus import usable_cpus
with session(cpus=1):
    code = execute({job!r})
    run_alone(usable_cpus, 1, 0, 60)
sys.exit(code)
"""


@here
def test_a_job_from_a_folder_with_packages_of_our_names_gives_the_scores_of_any_other(
    decoys: Path, tmp_path: Path, cross_encoder: Path
) -> None:
    write_candidates(tmp_path / "in" / "a.parquet", rows(6, 4))
    stages = json.dumps([{"scorer": {"model": str(cross_encoder), "precision": "fp32"}}])
    job = ["rerank", "--input", str(tmp_path / "in"), "--stages", stages]
    assert execute([*job, "--output", str(tmp_path / "here")]) == ExitCode.DONE
    ran = subprocess.run(
        [sys.executable, "-P", "-c", RUN.format(job=[*job, "--output", "there"])],
        cwd=decoys,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == ExitCode.DONE, ran.stdout + ran.stderr
    there, expected = (pads.dataset(folder).to_table() for folder in (decoys / "there", tmp_path / "here"))
    assert there.sort_by("query_id") == expected.sort_by("query_id")
