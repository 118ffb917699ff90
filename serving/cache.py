"""Where code that was compiled here is kept: one folder of the user's, which nobody else can write to.

What lies there is run, so whoever can write to it can run anything as this user. Hence it is never a place that others can
guess under the shared temporary folder, and a folder that could have been touched by others is refused.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import stat
import tempfile
from pathlib import Path


class CacheError(RuntimeError):
    """The folder for compiled code is not the user's alone."""


def folder(name: str) -> Path:
    """The folder of this name in `$XDG_CACHE_HOME/certserve`, by default `~/.cache/certserve`, made if it is absent.

    Where there is no home that can be written to, it is in a folder of this process alone, gone at its end. Raises
    `CacheError` where others own the folder or may write to it.
    """
    home = _home()
    if home is not None:
        try:
            return _private(_private(home / "certserve") / name)
        except OSError:  # a full disk, or a home for reading only
            pass
    return _private(_of_this_process() / name)


def _home() -> Path | None:
    given = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(given):  # the specification ignores others
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        return None


def _private(path: Path) -> Path:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise CacheError(
            f"{path} holds code that is run, and is a link, or others own it or may write to it: remove it, or set"
            " XDG_CACHE_HOME to a folder of your own"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        path.chmod(0o700)
    return path


@functools.cache
def _of_this_process() -> Path:
    path = Path(tempfile.mkdtemp(prefix="certserve-cache-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path
