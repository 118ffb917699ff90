from __future__ import annotations

import io
import sys

import pytest

from export import progress as module
from export.progress import Lines, progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """Seconds, moved by hand."""
    now = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(Lines, "_said", None)
    return now


def test_a_log_gets_a_line_now_and_then_and_no_bar(clock, capsys):
    for step in progress(range(100), what="fit"):
        clock[0] += 1.0
        assert step >= 0
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "fit: 30 of 100, about 70 s left",
        "fit: 60 of 100, about 40 s left",
        "fit: 90 of 100, about 10 s left",
    ]
    assert "\r" not in said


def test_short_runs_that_follow_each_other_share_the_time_of_a_line(clock, capsys):
    for epoch in range(10):
        with progress(range(4), what=f"epoch {epoch}") as bar:
            for _ in bar:
                clock[0] += 2.0
            bar.set_postfix(loss=0.5)
    assert capsys.readouterr().err.splitlines() == [
        "epoch 3: 3 of 4, about 2 s left",
        "epoch 7: 2 of 4, about 4 s left",
    ]


def test_what_is_counted_by_hand_says_what_is_beside_it(clock, capsys):
    with progress(total=2, what="attack") as bar:
        bar.set_postfix(claims=3)
        clock[0] += 31.0
        bar.update()
    assert capsys.readouterr().err == "attack: 1 of 2, claims 3, about 31 s left\n"


@pytest.mark.parametrize(("total", "left"), [(2_000, "32 s"), (10_050, "5 min"), (1_000_000, "8.9 h")])
def test_the_time_left_is_forecast_from_what_this_run_did(clock, capsys, total, left):
    """A thousand in 32 seconds; what an earlier run did took none of this one's time."""
    with progress(what="fit", total=total, initial=50 if total == 10_050 else 0) as bar:
        clock[0] += 32.0
        bar.update(1_000)
    assert capsys.readouterr().err.endswith(f"of {total}, about {left} left\n")


def test_a_terminal_gets_a_bar(clock, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(progress(range(3), what="fit")) == [0, 1, 2]
    assert "fit:" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()


def test_nothing_is_said_where_quiet_is_asked_for(clock, monkeypatch):
    for stream in (Terminal(), io.StringIO()):
        monkeypatch.setattr(sys, "stderr", stream)
        for _ in progress(range(3), what="fit", quiet=True):
            clock[0] += 100.0
        assert stream.getvalue() == ""
