"""Every descendant of a process is ended, those whose parent has died among them."""

from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

# Three generations, of which the middle one ends at once; the youngest ignores SIGTERM.
PROGRAM = """
import subprocess, sys, time
from serving.deployments import family
family.adopt_orphans()
young = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(0, flush=True); time.sleep(60)"
middle = f"import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', {young!r}], start_new_session=True, " \\
    "stdout=subprocess.PIPE, stderr=subprocess.DEVNULL); p.stdout.readline(); print(p.pid, flush=True)"
done = subprocess.run([sys.executable, "-c", middle], capture_output=True, text=True, check=True)
other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(done.stdout.strip(), other.pid, flush=True)
sys.stdin.readline()
family.end()
print("ended", flush=True)
sys.stdin.readline()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the system finds orphans on Linux alone")
def test_orphans_and_children_are_ended():
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        pids = [int(pid) for pid in program.stdout.readline().split()]
        assert len(pids) == 2
        assert psutil.STATUS_ZOMBIE not in [psutil.Process(pid).status() for pid in pids]
        program.stdin.write("\n")
        program.stdin.flush()
        assert program.stdout.readline() == "ended\n"
        assert [pid for pid in pids if psutil.pid_exists(pid)] == []
    finally:
        program.kill()
        program.wait()
