from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serving import processors

MANY = 64


@pytest.fixture(autouse=True)
def _a_large_machine(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(MANY)))
    monkeypatch.setattr(os, "cpu_count", lambda: 2 * MANY)


def tree(root, files):
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


CASES = {
    "no groups at all": ({}, MANY),
    "version 2, no quota": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, MANY),
    "version 2, a container's own top": (
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "300000 100000\n"},
        3,
    ),
    "version 2, a path of the host": (
        {"proc/self/cgroup": "0::/kubepods/pod1/abc\n", "sys/fs/cgroup/cpu.max": "200000 100000\n"},
        2,
    ),
    "version 2, a group above has less": (
        {
            "proc/self/cgroup": "0::/a/b\n",
            "sys/fs/cgroup/a/cpu.max": "400000 100000\n",
            "sys/fs/cgroup/a/b/cpu.max": "800000 100000\n",
        },
        4,
    ),
    "a part of a processor": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "20000 100000\n"}, 1),
    "a processor and a part": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "250000 100000\n"}, 2),
    "more than there are": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, MANY),
    "version 1, no quota": (
        {"proc/self/cgroup": "4:cpu,cpuacct:/x\n", "sys/fs/cgroup/cpu,cpuacct/x/cpu.cfs_quota_us": "-1\n"},
        MANY,
    ),
    "version 1, a container's own top": (
        {
            "proc/self/cgroup": "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "500000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
        5,
    ),
    "version 1 beside 2": (
        {
            "proc/self/cgroup": "2:cpu:/x\n0::/x\n",
            "sys/fs/cgroup/unified/x/cpu.max": "max 100000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_quota_us": "600000\n",
            "sys/fs/cgroup/cpu/x/cpu.cfs_period_us": "100000\n",
        },
        6,
    ),
    "damaged files": (
        {"proc/self/cgroup": "0::/\nnonsense\n\n", "sys/fs/cgroup/cpu.max": "\xff 0\n"},
        MANY,
    ),
    "a period of nothing": ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "100000 0\n"}, MANY),
}


@pytest.mark.parametrize("case", CASES)
def test_the_quota_of_the_control_group_counts(case, tmp_path):
    files, expected = CASES[case]
    assert processors.usable(tree(tmp_path, files)) == expected


def test_a_process_that_may_use_one_processor_draws_with_one_thread():
    """Set as taskset and cpusets set it, in a process of its own."""
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from serving import processors; print(processors.usable())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
