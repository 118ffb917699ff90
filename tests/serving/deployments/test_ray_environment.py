"""What a Ray of our own is started with: nothing that other users could enter, no proxy, no path too long for sockets."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from serving.deployments.ray_environment import environment
from serving.scratch import private_folder

FOLDER = Path("/tmp/cs-12345678")
DEEPEST = "/ray/session_2026-11-29_19-10-00_123456_1234567/sockets/plasma_store"


@pytest.mark.parametrize("proxy", ["http_proxy", "https_proxy", "all_proxy", "grpc_proxy"])
@pytest.mark.parametrize("case", [str.lower, str.upper])
def test_no_proxy_comes_between_the_processes(monkeypatch, proxy, case):
    monkeypatch.setenv(case(proxy), "http://127.0.0.1:9")
    assert case(proxy) not in environment(FOLDER)


def test_another_cluster_is_never_joined_and_the_token_is_new_each_time(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    first, second = environment(FOLDER), environment(FOLDER)
    assert "RAY_ADDRESS" not in first
    assert len(first["RAY_AUTH_TOKEN"]) == 64
    assert first["RAY_AUTH_TOKEN"] != second["RAY_AUTH_TOKEN"]


def test_what_the_user_sets_is_kept(monkeypatch):
    monkeypatch.setenv("RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH", "20000")
    monkeypatch.setenv("ANYTHING", "else")
    found = environment(FOLDER)
    assert found["TMPDIR"] == str(FOLDER)
    assert (found["RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH"], found["ANYTHING"]) == ("20000", "else")


@pytest.mark.parametrize("length", [1, 40, 200])
def test_the_folder_is_private_short_and_gone_afterwards(monkeypatch, tmp_path, length):
    place = tmp_path / ("x" * length)
    place.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    with private_folder() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.stat().st_uid == os.getuid()
        assert len(str(folder) + DEEPEST) <= 103
        (folder / "ray").mkdir(mode=0o777)
    assert not folder.exists()


def test_without_any_short_folder_it_says_what_to_set(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("x" * 60)))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OSError, match="set TMPDIR to a folder whose path has at most"), private_folder():
        pass
