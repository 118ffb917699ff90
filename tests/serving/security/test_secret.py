from __future__ import annotations

import os
import pwd
from functools import partial
from pathlib import Path

import pytest

from serving.commands import serve
from serving.security.secret import (
    SecretError,
    key_id,
    loose,
    read_secret,
    read_signing_key,
    secret_file,
    signing_key_file,
)
from tests.nobody import as_nobody


def test_a_secret_is_made_once_and_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept = secret_file(None)
    first = read_secret(kept)
    assert len(first) == 32
    assert (secret_file(None), read_secret(kept)) == (kept, first)
    assert kept == tmp_path / "certserve" / "noise-secret"
    assert kept.stat().st_mode & 0o777 == 0o600
    assert os.listdir(kept.parent) == ["noise-secret"]
    assert secret_file(kept) == kept


def test_a_secret_that_cannot_be_kept_or_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"short")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(SecretError, match="--noise-secret-file"):
        secret_file(None)
    with pytest.raises(SecretError, match="5 bytes"):
        secret_file(tmp_path / "file")
    with pytest.raises(SecretError, match="cannot be read"):
        secret_file(tmp_path / "none")


def test_a_key_id_tells_secrets_apart_and_reveals_none():
    assert key_id(b"a" * 32) != key_id(b"b" * 32)
    assert len(key_id(b"a" * 32)) == 12


def test_the_signing_key_is_kept_apart_from_the_noise_secret(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    kept = signing_key_file(None)
    assert signing_key_file(kept) == signing_key_file(None) == kept
    assert kept.stat().st_mode & 0o777 == 0o600
    assert read_signing_key(kept) != read_secret(secret_file(None))
    (tmp_path / "long").write_bytes(b"k" * 33)
    with pytest.raises(SecretError, match="33 bytes; expected 32"):
        signing_key_file(tmp_path / "long")


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device"])
def test_what_is_no_file_is_refused_at_once(kind, tmp_path):
    place = {"device": Path("/dev/zero")}.get(kind, tmp_path / "place")
    if kind == "FIFO":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    for read in (secret_file, signing_key_file):
        with pytest.raises(SecretError, match=f"cannot be read: it is a {kind}, not a regular file; expected 32 bytes"):
            read(place)


@pytest.mark.parametrize("size", [0, 1, 15])
def test_a_secret_that_is_too_short_is_refused_with_its_size(size, tmp_path):
    (tmp_path / "secret").write_bytes(b"s" * size)
    with pytest.raises(SecretError, match=f"has {size} bytes; expected 32 random ones, at least 16"):
        secret_file(tmp_path / "secret")
    with pytest.raises(SecretError, match=f"has {size} bytes; expected 32"):
        signing_key_file(tmp_path / "secret")


def test_a_secret_that_others_can_read_or_change_is_told_of(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(b"s" * 32)
    for mode in (0o600, 0o400, 0o700):
        file.chmod(mode)
        assert loose(file) == ""
    for mode in (0o644, 0o640, 0o604, 0o660, 0o602, 0o666):
        file.chmod(mode)
        assert loose(file) == f"{file} can be read or changed by others (mode {mode:04o}); say chmod 600 {file}"


def test_the_group_of_a_file_that_is_not_ours_may_be_how_we_read_it(tmp_path, monkeypatch):
    """A volume of a container belongs to root, and to the group of the server."""
    file = tmp_path / "secret"
    file.write_bytes(b"s" * 32)
    monkeypatch.setattr(os, "geteuid", lambda: file.stat().st_uid + 1)
    file.chmod(0o440)
    assert loose(file) == ""
    file.chmod(0o444)
    assert "mode 0444" in loose(file)


def _without_home(monkeypatch):
    """As for an arbitrary user id in a container: no HOME, and no entry in the list of users."""
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", _unknown)


def _unknown(number):
    raise KeyError(f"getpwuid(): uid not found: {number}")


def test_without_a_home_folder_a_secret_that_is_given_is_enough(tmp_path, monkeypatch, capsys):
    _without_home(monkeypatch)
    (tmp_path / "secret").write_bytes(b"s" * 32)
    assert secret_file(tmp_path / "secret") == tmp_path / "secret"
    for asked, option in ((secret_file, "--noise-secret-file"), (signing_key_file, "--signing-key-file")):
        with pytest.raises(SecretError, match=f"no home folder .*{option}"):
            asked(None)
    assert serve._signing_key(None) is None
    assert "no receipts will be given: there is no home folder" in capsys.readouterr().err
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert secret_file(None).parent == tmp_path / "state" / "certserve"


@pytest.mark.parametrize("home", ["", "somewhere"])
def test_a_home_that_is_no_absolute_path_is_none(home, monkeypatch, tmp_path):
    _without_home(monkeypatch)
    monkeypatch.setenv("HOME", home)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SecretError, match="no home folder"):
        secret_file(None)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_state_folder_is_ignored_as_its_specification_says(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.chdir(tmp_path)
    assert secret_file(None) == tmp_path / "home" / ".local" / "state" / "certserve" / "noise-secret"
    assert not (tmp_path / "state").exists()


def test_a_state_folder_that_cannot_be_written_or_read_is_one_line_with_the_option(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir(mode=0o700)
    for below in (folder, folder / "state"):
        said = as_nobody(tmp_path, partial(_refusal, below))
        assert "noise-secret cannot be kept in" in said
        assert "(Permission denied); give one with --noise-secret-file" in said


def _refusal(state):
    os.environ["XDG_STATE_HOME"] = str(state)
    with pytest.raises(SecretError) as refused:
        secret_file(None)
    return str(refused.value)
