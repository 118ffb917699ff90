"""What a killed process leaves in the temporary folder is removed by the next, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from serving import scratch
from serving.scratch import PrivateFolder
from tests.servers import ROOT

HOLD = "from serving.scratch import PrivateFolder; f = PrivateFolder(); print(f.path, flush=True); input()"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(scratch, "_short", lambda _: str(tmp_path))
    monkeypatch.setattr(scratch, "_LONGEST", 200)
    return tmp_path


def holder(place):
    """Another process with a folder of its own there, and that folder."""
    held = HOLD.replace("PrivateFolder; f", "PrivateFolder; import serving.scratch as s; s._LONGEST = 200; f")
    process = subprocess.Popen(
        [sys.executable, "-c", held],
        cwd=ROOT,
        env=os.environ | {"TMPDIR": str(place)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    return process, place / os.path.basename(process.stdout.readline().strip())


def test_what_a_killed_process_left_goes_and_what_a_living_one_has_stays(place, monkeypatch):
    (killed, left), (living, held) = holder(place), holder(place)
    try:
        (left / "ray" / "session").mkdir(parents=True)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        fresh = PrivateFolder()
        assert left.exists(), "a folder that was just made may be locked next"
        monkeypatch.setattr(scratch, "_FRESH_S", 0.0)
        own = PrivateFolder()
        assert not left.exists()
        assert held.is_dir()
        assert fresh.path.is_dir(), "nor are those of this process"
        own.remove()
        own.remove()
        assert not own.path.exists()
    finally:
        living.communicate("")
        killed.communicate()


def test_what_is_not_of_its_making_stays(place, monkeypatch):
    monkeypatch.setattr(scratch, "_FRESH_S", 0.0)
    (place / "cs-elsewhere").mkdir()
    (place / "other").mkdir()
    (place / "other" / "lock").touch()
    (place / "cs-a-link").symlink_to(place / "other")
    (place / "cs-locked-by-a-link").mkdir()
    (place / "cs-locked-by-a-link" / "lock").symlink_to(place / "other" / "lock")
    before = set(place.rglob("*"))
    PrivateFolder().remove()
    assert set(place.rglob("*")) == before


def test_folders_of_other_users_stay(place, monkeypatch):
    monkeypatch.setattr(scratch, "_FRESH_S", 0.0)
    (place / "cs-of-others").mkdir()
    (place / "cs-of-others" / "lock").touch()
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    PrivateFolder().remove()
    assert (place / "cs-of-others" / "lock").exists()
