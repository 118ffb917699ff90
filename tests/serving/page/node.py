"""Node, which runs the page's modules without a browser."""

from __future__ import annotations

import shutil

_FOUND = shutil.which("node")
if _FOUND is None:
    raise RuntimeError("the tests of the page need Node 20 or newer; on Debian: apt-get install nodejs")
NODE: str = _FOUND
