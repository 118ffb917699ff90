from __future__ import annotations

import os

import pytest

from serving.secret import SecretError, key_id, read_secret, read_signing_key, secret_file, signing_key_file


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
