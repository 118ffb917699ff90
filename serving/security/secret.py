"""What the server must keep: the secret of the noise keys, and the signing key. Read from files, or made once and kept.

Whoever knows it can search for an input on which the draws mislead, so only the gateway does. Every replica and restart
has to use the same one: each change of it spends alpha anew. The signing key is a secret of its own: engines need it, and
never the noise secret.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

from export import regular_file

VARIABLE = "CERTSERVE_NOISE_SECRET_FILE"
_BYTES = 32


class SecretError(RuntimeError):
    """The noise secret or the signing key cannot be read or kept."""


def secret_file(file: Path | None) -> Path:
    """Where the secret is: `file`, or the user's state folder, where it is made at first use with mode 0600."""
    if file is None:
        file = _made_once("noise-secret", "--noise-secret-file")
    read_secret(file)
    return file


def signing_key_file(file: Path | None) -> Path:
    """Where the signing key is: `file`, or the user's state folder, where it is made at first use with mode 0600."""
    if file is None:
        file = _made_once("signing-key", "--signing-key-file")
    read_signing_key(file)
    return file


def read_secret(file: Path) -> bytes:
    """The secret in `file`. Raises `SecretError` if it cannot be read or is too short."""
    secret = _read(file, "noise secret")
    if len(secret) < 16:
        raise SecretError(
            f"the noise secret {file} has {len(secret)} bytes; expected {_BYTES} random ones, at least 16"
        )
    return secret


def read_signing_key(file: Path) -> bytes:
    """The signing key in `file`, of exactly 32 bytes. Raises `SecretError`."""
    key = _read(file, "signing key")
    if len(key) != _BYTES:
        raise SecretError(f"the signing key {file} has {len(key)} bytes; expected {_BYTES} random ones")
    return key


def loose(file: Path) -> str:
    """What to say of a secret file whose mode lets others read or change it; nothing where it does not.

    Where the file is not ours, its group may be how we read it (volumes of a container), and is not others.
    """
    found = file.stat()
    others = 0o066 if found.st_uid == os.geteuid() else 0o006
    if not found.st_mode & others:
        return ""
    return f"{file} can be read or changed by others (mode {stat.S_IMODE(found.st_mode):04o}); say chmod 600 {file}"


def _read(file: Path, what: str) -> bytes:
    try:
        return regular_file.read(file)
    except OSError as error:
        raise SecretError(f"the {what} {file} cannot be read: {error.strerror}; expected {_BYTES} bytes") from error


def key_id(secret: bytes) -> str:
    """A public name for a secret, to tell a rotation in the log."""
    return hashlib.sha256(b"certserve key id\0" + secret).hexdigest()[:12]


def _state_folder(flag: str) -> Path:
    """The user's state folder: XDG_STATE_HOME, whose specification has relative paths ignored, or ~/.local/state."""
    named = Path(os.environ.get("XDG_STATE_HOME") or ".")
    if named.is_absolute():
        return named / "certserve"
    # "~" stays as it is for a user whom the system does not know, and an empty HOME would become the root folder.
    home = Path(os.path.expanduser("~") if os.environ.get("HOME") != "" else "")
    if not home.is_absolute():
        raise SecretError(f"there is no home folder to keep a secret in; give one with {flag}, or set XDG_STATE_HOME")
    return home / ".local" / "state" / "certserve"


def _made_once(name: str, flag: str) -> Path:
    file = _state_folder(flag) / name
    if not os.path.lexists(file):
        _make(file, flag)
    return file


def _make(file: Path, flag: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written aside and linked into place: of two servers that start at once both use the one that came first.
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=file.name)  # mode 0600
        aside = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(secrets.token_bytes(_BYTES))
        try:
            os.link(aside, file)
        except FileExistsError:
            pass
        finally:
            aside.unlink()
    except OSError as error:
        raise SecretError(
            f"{file.name} cannot be kept in {file.parent} ({error.strerror}); give one with {flag}"
        ) from error
