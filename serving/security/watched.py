"""Files that may change while the server runs: read again several times a second, and used only where they can be.

Contents are compared, not times: an edit in the same tick of the clock is seen, and so is a mounted Secret, whose files
are links that are put elsewhere.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from export import regular_file

_log = logging.getLogger("certserve.security")
_LOOK_EVERY_S = 0.2
_LOOKS = 3  # without success, after which what was read before counts no more
_MOST_BYTES = 2**20
_Value = TypeVar("_Value")


class SecurityError(RuntimeError):
    """Something that decides who may come in cannot be read; the message names the file and what was expected."""


class Watched(Generic[_Value]):
    """What `read` makes of some files. `now` is None where they cannot be read for more than a moment.

    A file that is half written is such a moment: what was read before holds until then; with `keep`, until they can be read
    again. Raises `SecurityError` where they cannot be read at first; `read` raises `SecurityError` or `ValueError`.
    """

    def __init__(self, files: Sequence[Path], read: Callable[[Sequence[bytes]], _Value], *, keep: bool = False) -> None:
        self._files = files
        self._keep = keep
        self._read = read
        self._contents = _contents(files)
        self.now: _Value | None = self._made(self._contents)
        self._failed = 0
        threading.Thread(target=_watch, args=(weakref.ref(self),), daemon=True, name="certserve-watch").start()

    def look(self) -> None:
        """Read the files once more."""
        try:
            contents = _contents(self._files)
            if contents != self._contents or self._failed:
                self.now, self._contents, self._failed = self._made(contents), contents, 0
                _log.warning("%s read again", " and ".join(map(str, self._files)))
        except Exception as error:  # whatever it is: a thread that ended would notice no revocation any more
            self._failed += 1
            if self._failed == _LOOKS:
                if not self._keep:
                    self.now = None
                _log.error(
                    "%s; until then %s", error, "what was there before is used" if self._keep else "all are refused"
                )

    def _made(self, contents: Sequence[bytes]) -> _Value:
        try:
            return self._read(contents)
        except ValueError as error:
            raise SecurityError(f"{' and '.join(map(str, self._files))}: {error}") from None


def _watch(reference: weakref.ref[Watched[_Value]]) -> None:
    pause = threading.Event()
    while not pause.wait(_LOOK_EVERY_S):
        watched = reference()
        if watched is None:
            return
        watched.look()
        del watched


def _contents(files: Sequence[Path]) -> list[bytes]:
    found = []
    for file in files:
        try:
            found.append(regular_file.read(file))
        except OSError as error:
            raise SecurityError(f"{file} cannot be read: {error.strerror}") from error
        if len(found[-1]) > _MOST_BYTES:
            raise SecurityError(f"{file} has {len(found[-1])} bytes; expected {_MOST_BYTES} at most")
    return found
