"""Reading a file that has to be one: anything else is refused at once, where opening a FIFO would wait for a writer."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read(path: Path) -> bytes:
    """The bytes of the file. Raises `OSError`, whose `strerror` says what is there instead of a regular file."""
    _refuse_others(os.stat(path), path)  # before it is opened: to open a device may already do something
    # Not to wait, should it have become a FIFO meanwhile.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as stream:
        _refuse_others(os.fstat(stream.fileno()), path)
        return stream.read()


def _refuse_others(found: os.stat_result, path: Path) -> None:
    kind = stat.S_IFMT(found.st_mode)
    if kind != stat.S_IFREG:
        raise OSError(errno.EINVAL, f"it is {_KINDS.get(kind, 'something else')}, not a regular file", str(path))
