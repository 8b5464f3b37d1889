"""Workers run the driver's code wherever the driver stands; one that has other code refuses and names both."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as pads
import pytest
from ray import cloudpickle

from ray_rerank.cluster import own_code
from ray_rerank.cluster.own_code import NAMESPACE, PACKAGES, ROOT, carried, copy_code
from ray_rerank.jobs.exit_codes import ExitCode
from support.candidates import rows, write_candidates
from support.command import execute
from support.marks import here


def where() -> str:
    """Which code runs."""
    from ray_rerank.operators.models import cpus

    return str(cpus.__file__)


@pytest.fixture
def decoys(tmp_path: Path) -> Path:
    """A folder with packages of our names that must not be imported."""
    for name in (NAMESPACE, *PACKAGES, *(f"{NAMESPACE}/{name}" for name in PACKAGES)):
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


def elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's folder, whose sources are known by now, is on no disk that the worker sees."""
    assert own_code._sources()
    monkeypatch.setattr(own_code, "ROOT", folder / "gone")


def test_the_drivers_own_code_is_found_behind_decoys(decoys: Path) -> None:
    assert call_in_a_worker(decoys, []) == str(ROOT / "operators" / "models" / "cpus.py")


def test_a_copy_of_the_code_is_as_good_where_the_drivers_folder_is_not(
    decoys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = copy_code(tmp_path / "node")
    elsewhere(tmp_path, monkeypatch)
    assert call_in_a_worker(decoys, [copy.parent]) == str(copy / "operators" / "models" / "cpus.py")


@pytest.mark.parametrize("before", ["", "import ray_rerank.operators"])
def test_a_worker_with_other_code_refuses_and_names_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str
) -> None:
    other = copy_code(tmp_path / "node")
    with (other / "operators" / "errors.py").open("a") as file:
        file.write("# of another version\n")
    if not before:
        elsewhere(tmp_path, monkeypatch)
    no_install = "sys.meta_path[:] = [finder for finder in sys.meta_path if 'editable' not in str(finder)]"
    told = call_in_a_worker(other.parent, [], f"import sys; {no_install}\n{before}")
    assert told.startswith(f"ImportError: the driver runs {own_code.ROOT / 'operators'}, and a worker on ")
    assert f"({other / 'operators' / '__init__.py'})" in told


RUN = """
import sys
from ray_rerank.cluster.session import session
from ray_rerank.cluster.single_task import run_alone
from ray_rerank.jobs.cli.command import execute
from ray_rerank.operators.models.cpus import usable_cpus
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
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == ExitCode.DONE, ran.stdout + ran.stderr
    there, expected = (pads.dataset(folder).to_table() for folder in (decoys / "there", tmp_path / "here"))
    assert there.sort_by("query_id") == expected.sort_by("query_id")
