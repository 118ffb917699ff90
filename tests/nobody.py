"""Running a piece of a test without the rights of root, whom no permission stops."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_NOBODY = 65_534


def as_nobody(folder: Path, call: Callable[[], str]) -> str:
    """What `call` returns in a process of its own; root becomes nobody there, who may pass through to `folder`.

    An exception becomes its text.
    """
    if os.geteuid() == 0:
        for each in (folder, *folder.parents):
            if each.stat().st_mode & 0o001 == 0:
                each.chmod(each.stat().st_mode | 0o001)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(_NOBODY)
                os.setuid(_NOBODY)
            said = call()
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as stream:
        said = stream.read().decode()
    os.waitpid(child, 0)
    return said
