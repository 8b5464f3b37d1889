"""What a process may use counts, not what the machine has: affinity, and quotas of cgroups of both versions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ray_rerank.operators.models.cpus import cgroup_cpus, usable_cpus
from support.paths import ROOT


def machine(tmp_path: Path, membership: str, files: dict[str, str]) -> float | None:
    """The quota that is found where these are the process's membership and the cgroups' files."""
    for name, content in files.items():
        path = tmp_path / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "membership").write_text(membership)
    return cgroup_cpus(tmp_path / "cgroup", tmp_path / "membership")


def v1(folder: str, quota: int, period: int = 100_000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


@pytest.mark.parametrize(
    ("membership", "files", "cpus"),
    [
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3),
        ("0::/a/b\n", {"a/b/cpu.max": "50000 100000\n", "a/cpu.max": "300000 100000\n"}, 0.5),
        ("0::/../../other\n", {"cpu.max": "400000 100000\n"}, 4),
        ("0::/not/to/be/seen/in/a/container\n", {"cpu.max": "200000 100000\n"}, 2),
        ("4:cpu,cpuacct:/docker/x\n0::/\n", v1("cpu,cpuacct/docker/x", 250_000), 2.5),
        ("4:cpu,cpuacct:/docker/x\n", v1("cpu", 100_000, 50_000), 2),
        ("1:cpu:/\n0::/\n", v1("cpu", -1), None),
        ("1:cpu:/a\n0::/\n", v1("cpu/a", 100_000) | {"unified/cpu.max": "max 100000\n"}, 1),
        ("3:cpuset:/\n5:memory:/\n", v1("cpuset", 100_000), None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        ("nonsense\n", {"cpu.max": "200000 100000\n"}, None),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, membership: str, files: dict[str, str], cpus: float | None) -> None:
    assert machine(tmp_path, membership, files) == cpus


def test_a_system_without_cgroups_has_no_quota(tmp_path: Path) -> None:
    assert cgroup_cpus(tmp_path, tmp_path / "nothing") is None


@pytest.mark.parametrize(("quota", "usable"), [("50000 100000", 1), ("1900000 1000000", 1), ("max 100000", None)])
def test_a_quota_is_rounded_down_to_whole_cpus_and_never_to_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, usable: int | None
) -> None:
    machine(tmp_path, "0::/\n", {"cpu.max": quota})
    monkeypatch.setattr(
        "ray_rerank.operators.models.cpus.cgroup_cpus.__defaults__", (tmp_path / "cgroup", tmp_path / "membership")
    )
    assert usable_cpus() == (usable or len(os.sched_getaffinity(0)))


COUNTED = """
from ray_rerank.jobs.scoring.config import Stage
from ray_rerank.jobs.scoring.plan import local_cpus
from ray_rerank.operators.comparison.hardware import this_hardware
from ray_rerank.operators.models.cpus import usable_cpus
stage = Stage(scorer={'kind': 'cross-encoder', 'model': 'm'})
print(usable_cpus(), this_hardware().cores, local_cpus((stage,)))
"""


@pytest.mark.skipif(shutil.which("taskset") is None, reason="taskset is not installed")
def test_an_affinity_counts() -> None:
    one = str(min(os.sched_getaffinity(0)))
    ran = subprocess.run(
        ["taskset", "-c", one, sys.executable, "-c", COUNTED], cwd=ROOT, capture_output=True, text=True
    )
    assert ran.stdout == "1 1 1\n", ran.stderr
