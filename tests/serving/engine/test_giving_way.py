"""The thread beneath a worker: it does what it is given, one after the other, and is served after all others."""

from __future__ import annotations

import os
import sys
import threading

import pytest

from serving.engine.giving_way import GivingWay


@pytest.fixture
def beneath(monkeypatch):
    monkeypatch.setattr("serving.priority._STEP", 2)
    thread = GivingWay("beneath")
    yield thread
    thread.close()


def test_it_gives_what_the_work_returns_or_raises_and_goes_on(beneath):
    assert beneath.run(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        beneath.run(lambda: 1 / 0)
    assert beneath.run(threading.get_ident) == beneath.run(threading.get_ident) != threading.get_ident()


@pytest.mark.skipif(sys.platform != "linux", reason="a thread has no priority of its own elsewhere")
def test_it_gives_way_and_who_waits_for_it_does_not(beneath):
    def priority():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert beneath.run(priority) == min(19, priority() + 4)
