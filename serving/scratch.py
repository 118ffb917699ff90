"""Folders for files of this run alone: no other user can enter them, and their paths leave room for the names of sockets."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Ray's sockets lie some 70 bytes deeper, and the system allows a socket's path 107.
_LONGEST = 20


def make() -> Path:
    """A new private folder, which the caller removes. Raises `OSError`."""
    return Path(tempfile.mkdtemp(prefix="cs-", dir=_short(os.environ)))


@contextmanager
def private_folder() -> Iterator[Path]:
    """A private folder that is gone afterwards. Raises `OSError`."""
    folder = make()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _short(variables: Mapping[str, str]) -> str:
    """The usual temporary folder, unless its path is too long."""
    own = tempfile.gettempdir()
    for place in (own, variables.get("XDG_RUNTIME_DIR", ""), "/tmp", "/var/tmp", "/dev/shm"):
        if place and len(os.fsencode(place)) <= _LONGEST and os.access(place, os.W_OK | os.X_OK):
            return place
    raise OSError(
        f"the temporary folder {own} has too long a path for sockets, and /tmp cannot be written to; set TMPDIR to a folder"
        f" whose path has at most {_LONGEST} characters"
    )
