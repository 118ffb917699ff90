"""What becomes of the server on Ray when a process is killed that cannot come back, or when it is told to stop: all of it
ends at once. These tests end servers that the files before them have asked.
"""

from __future__ import annotations

import os
import signal
import time

import pytest

from tests.e2e import faults

pytestmark = pytest.mark.e2e
ROW = [150, 1, 2, 3]


@pytest.mark.parametrize("killed", ["GCS", pytest.param("driver", marks=pytest.mark.slow), "root"])
def test_a_process_that_cannot_come_back_ends_all_of_it(shared, killed):
    """Whoever asks at the time. The server that is asked over TLS is ended so by its raylet, see `test_door`."""
    with shared.ended("one", -signal.SIGKILL if killed == "root" else 1) as address, faults.clients(address, ROW):
        time.sleep(0.5)
        faults.all_end_with(address, killed)


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
