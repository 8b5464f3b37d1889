"""How many CPUs a process may really use: not those of the machine, where a quota or an affinity gives it fewer."""

import os
from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """Whole CPUs that this process may use at once: its affinity, and its cgroups' quotas rounded down; at least 1."""
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpus()
    return affinity if quota is None else max(min(affinity, int(quota)), 1)


def cgroup_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """The smallest CPU quota of the cgroups, v1 or v2, that a process is in; None where there is none.

    Args:
        cgroups: where the cgroup filesystems are mounted.
        membership: the process's /proc/PID/cgroup.
    """
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return None
    quotas = [_quota(folder) for line in lines for folder in _folders(line, cgroups)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _folders(line: str, cgroups: Path) -> Iterator[Path]:
    """The folders that can hold a quota for one line of the membership: a group binds all that are below it.

    In a container the path is the host's and need not be there; then the group is what is mounted.
    """
    _, controllers, path = line.split(":", 2) if line.count(":") >= 2 else ("", "none", "")
    if controllers == "":
        roots = [cgroups, cgroups / "unified"]
    elif "cpu" in controllers.split(","):
        roots = [cgroups / controllers, cgroups / "cpu"]
    else:
        return
    parts = [part for part in path.split("/") if part not in ("", "..")]
    for root in roots:
        yield from (root.joinpath(*parts[:depth]) for depth in range(len(parts) + 1))


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            most, period = (folder / "cpu.max").read_text().split()
        else:
            most = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return float(most) / float(period) if most not in ("max", "-1") else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
