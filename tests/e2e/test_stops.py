"""What becomes of the server on Ray when a process is killed that cannot come back, or when it is told to stop: all of it
ends at once. These tests end servers that the files before them have asked.
"""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.e2e import faults

pytestmark = pytest.mark.e2e
ROW = [150, 1, 2, 3]


@pytest.mark.parametrize("killed", ["GCS", "raylet", pytest.param("driver", marks=pytest.mark.slow), "root"])
def test_a_process_that_cannot_come_back_ends_all_of_it(shared, killed):
    """Clients get an error, the ports are free within ten seconds, and no process and no file is left."""
    with shared.ended("one", -signal.SIGKILL if killed == "root" else 1) as address:
        everybody = faults.family(address)
        (folder,) = {Path(part) for part in _folders(everybody)}
        with faults.clients(address, ROW):
            time.sleep(0.5)
            faults.of_role(address, killed)[0].kill()
            assert faults.seconds_until(lambda: not faults.left(everybody) and faults.free(address), 10) < 10
        assert not folder.exists()
        said = [line for line in address.log.read_text().splitlines() if "has ended" in line]
        assert len(said) == (0 if killed == "root" else 1), address.log.read_text()
        assert all(line.startswith("certserve: ") for line in said)


def _folders(processes):
    for process in processes:
        for each in faults.sockets(process, "unix"):
            if found := re.match(r"(.*?/cs-[^/]+)/", str(each.laddr)):
                yield found[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_signal_stops_it_after_what_it_has_accepted(shared, number):
    """SIGTERM as Ctrl-C: nothing accepted is lost, those who come meanwhile are told so, exit code 0."""
    with shared.ended("two", 0) as address:
        everybody = faults.family(address)
        with faults.clients(address, ROW, draws=20_000) as exchanges:
            time.sleep(1)
            os.kill(address.process, number)
            assert faults.seconds_until(lambda: not faults.left(everybody), 60) < 60
            assert faults.free(address)
    assert "answered" in {each.outcome for each in exchanges}
    assert [each.outcome for each in exchanges if each.lost] == []
