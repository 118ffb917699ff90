"""The request id that both wires echo: the client's, or a new one."""

from __future__ import annotations

import re
import secrets

_ALLOWED = re.compile(r"[A-Za-z0-9._-]{1,128}")


def request_id(given: str | None) -> str:
    """The client's request id if it may be repeated, else a new one."""
    return given if given is not None and _ALLOWED.fullmatch(given) else secrets.token_hex(16)
