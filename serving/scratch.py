"""Folders for files of this run alone: no other user can enter them, and their paths leave room for the names of sockets."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

# Ray's sockets lie some 70 bytes deeper, and the system allows a socket's path 107.
_LONGEST = 20
_LOCK = "lock"
_FRESH_S = 60.0


class PrivateFolder:
    """A new folder at `path`, until `remove`. One that a killed process left is removed when the next is made.

    Raises `OSError` where none can be made.
    """

    def __init__(self) -> None:
        place = _short(os.environ)
        _sweep(Path(place))
        self.path = Path(tempfile.mkdtemp(prefix="cs-", dir=place))
        # The system lets go of the lock when the process ends, whatever ends it: so the folder says whether it is in use.
        self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        with contextlib.suppress(OSError):  # not every file system has locks
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def remove(self) -> None:
        """Remove it with all that is in it."""
        if self._lock >= 0:
            shutil.rmtree(self.path, ignore_errors=True)
            os.close(self._lock)
            self._lock = -1


@contextmanager
def private_folder() -> Iterator[Path]:
    """The path of a private folder that is gone afterwards. Raises `OSError`."""
    folder = PrivateFolder()
    try:
        yield folder.path
    finally:
        folder.remove()


def _sweep(place: Path) -> None:
    """Remove what processes of this user have left that were killed."""
    for lock in place.glob(f"cs-*/{_LOCK}"):
        with contextlib.suppress(OSError):
            if _abandoned(lock):
                shutil.rmtree(lock.parent, ignore_errors=True)


def _abandoned(lock: Path) -> bool:
    """Whether nobody holds the lock; one that was just made may be locked next."""
    found = lock.parent.lstat(), lock.lstat()
    if any(each.st_uid != os.getuid() for each in found) or time.time() - found[1].st_mtime < _FRESH_S:
        return False
    file = os.open(lock, os.O_RDWR | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    finally:
        os.close(file)
    return True


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
