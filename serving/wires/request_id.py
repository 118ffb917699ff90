"""The request id that both wires echo: the client's, or a new one."""

from __future__ import annotations

import random
import re

# An id is no secret. Asking the system for each would let go of the interpreter, and wait for it, once a request.
_NUMBERS = random.Random()
_ALLOWED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(given: str | None) -> str:
    """The client's request id if it may be repeated, else a new one."""
    return given if given is not None and _ALLOWED.fullmatch(given) else f"{_NUMBERS.getrandbits(128):032x}"
