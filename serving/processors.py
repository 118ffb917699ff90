"""How many processors this process may use: not those of the machine, but what affinity and the container leave of them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath


def usable(root: Path = Path("/")) -> int:
    """The processors in this process's affinity (taskset, cpuset), or fewer where a control group's quota is less.

    At least one. A part of a processor is not counted: one thread more would only be stopped for its share of the time.
    `root` is where `proc` and `sys` are.
    """
    quotas = [quota for quota in (*_second_version(root), *_first_version(root)) if quota > 0]
    return max(1, int(min([float(_affinity()), *quotas])))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _second_version(root: Path) -> Iterator[float]:
    """Quotas in processors, of the group and of each above it: `cpu.max` holds "<quota or max> <period>"."""
    for folder in _folders(root, "", ("sys/fs/cgroup", "sys/fs/cgroup/unified")):
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        yield _ratio(quota, period)


def _first_version(root: Path) -> Iterator[float]:
    for folder in _folders(root, "cpu", ("sys/fs/cgroup/cpu", "sys/fs/cgroup/cpu,cpuacct")):
        yield _ratio(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _folders(root: Path, controller: str, mounts: tuple[str, ...]) -> Iterator[Path]:
    """The folders of this process's control group and of all above it, under each place where they may be mounted.

    A container often sees its own group as the top, and the path of the host in `/proc/self/cgroup`: what is not there is
    passed over.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):
            group = PurePosixPath(path.lstrip("/"))
            yield from (root / mount / each for mount in mounts for each in (group, *group.parents))


def _read(file: Path) -> str:
    try:
        return file.read_text().strip()
    except (OSError, ValueError):
        return ""


def _ratio(quota: str, period: str) -> float:
    """Processors, or 0 where there is no quota ("max", "-1", nothing)."""
    if quota.isdecimal() and period.isdecimal() and int(period) > 0:
        return int(quota) / int(period)
    return 0.0
