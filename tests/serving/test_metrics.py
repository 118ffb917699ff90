"""The counts of processes that share a folder: on a disk that fills up they go on, and nobody dies of it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from serving import metrics
from serving.metrics import FOLDER_VARIABLE
from tests.servers import ROOT

# Every metric, with labels as many models and codes would give it; then what the disk holds of each file.
COUNT = """
import os, sys
from pathlib import Path
from serving import metrics
for place in range(200):
    metrics.REQUESTS.labels("http", f"code {place}").inc()
    metrics.CERTIFICATES.labels(f"model {place}", "certified").inc()
metrics.REQUEST_SECONDS.labels("http").observe(1.0)
metrics.PENDING.set(3)
metrics.MODELS.set(1)
for path in sorted(Path(os.environ[metrics.FOLDER_VARIABLE]).iterdir()):
    found = path.stat()
    print(path.name, found.st_size, 512 * found.st_blocks)
"""


def counted(folder, program=COUNT):
    environment = os.environ | {FOLDER_VARIABLE: str(folder), "PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="only some systems can reserve room")
def test_the_room_of_every_count_is_taken_before_it_is_used(tmp_path):
    """A hole in a file that is mapped into memory is what kills its writer on a full disk."""
    done = counted(tmp_path / "counts")
    assert done.returncode == 0, done.stderr
    files = [line.split() for line in done.stdout.splitlines()]
    assert len(files) == 4
    assert {name.rsplit("_", 1)[0] for name, _, _ in files} == {
        "counter",
        "histogram",
        "gauge_livesum",
        "gauge_livemax",
    }
    for name, size, taken in files:
        assert int(taken) >= int(size) > 0, name


def test_a_process_that_finds_no_room_counts_apart(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    done = counted(tmp_path / "file" / "counts", "import serving.log; serving.log.start()\n" + COUNT)
    assert done.returncode == 0, done.stderr
    assert "the metrics leave out process" in done.stderr
    assert len(done.stdout.splitlines()) == 4


def test_callers_have_few_labels_however_many_an_issuer_names(monkeypatch):
    monkeypatch.setattr(metrics, "_named", set())
    labels = {metrics.caller_label(f"jwt:{number % 5_000}") for number in range(10_000)}
    assert len(labels) == 101
    assert metrics.caller_label("jwt:0") == "jwt:0"
    assert metrics.caller_label("jwt:4999") == "(others)"
