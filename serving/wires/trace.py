"""By what a request is known to those who look for it later: its id, and the trace of the W3C Trace Context (level 1).

A client's `x-request-id`, `traceparent` and `tracestate` are taken where they are valid, and made anew where they are not;
answers carry them back on every wire, and so does the log. In a trace the server is a span of its own.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from serving.log import REQUEST_ID, TRACE_ID

FIELDS = ("x-request-id", "traceparent", "tracestate")
"""The header fields, and the names in the metadata of gRPC."""

# An id is no secret. Asking the system for each would let go of the interpreter, and wait for it, once a request.
_NUMBERS = random.Random()
_ALLOWED = re.compile(r"[A-Za-z0-9._-]{1,128}")
_PARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(-.*)?")
_KNOWN_FLAGS = 0x01
_KEY = r"(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
_VALUE = r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
_MEMBER = re.compile(f"{_KEY}={_VALUE}")
_MOST_MEMBERS, _MOST_CHARACTERS = 32, 512


@dataclass(frozen=True, slots=True)
class Known:
    """A request's id, its trace, the server's own span of that (both lower-case hexadecimal), the trace's flags, and what
    other systems keep with it.
    """

    request_id: str
    trace_id: str
    span_id: str
    flags: int = 0
    state: str = ""

    def fields(self) -> tuple[tuple[str, str], ...]:
        """What every answer carries."""
        values = self.request_id, f"00-{self.trace_id}-{self.span_id}-{self.flags:02x}", self.state
        return tuple(zip(FIELDS, values, strict=True))[: 3 if self.state else 2]

    def enter(self) -> None:
        """Name it in the log from here on."""
        REQUEST_ID.set(self.request_id)
        TRACE_ID.set(self.trace_id)


def known(fields: Mapping[str, str]) -> Known:
    """By what a request with these `FIELDS`, which may hold others, is known from now on."""
    given = fields.get("x-request-id", "")
    request_id = given if _ALLOWED.fullmatch(given) else f"{_NUMBERS.getrandbits(128):032x}"
    span_id = f"{_NUMBERS.getrandbits(64) or 1:016x}"
    parent = _PARENT.fullmatch(fields.get("traceparent", ""))
    if parent is None or (parent[1] == "00" and parent[4]):
        return Known(request_id, f"{_NUMBERS.getrandbits(128) or 1:032x}", span_id)
    return Known(
        request_id, parent[2], span_id, int(parent[3], 16) & _KNOWN_FLAGS, _state(fields.get("tracestate", ""))
    )


def _state(given: str) -> str:
    """The state as it came, empty if it is none: it is kept whole or not at all."""
    members = [each.strip(" \t") for each in given.split(",") if each.strip(" \t")]
    keys = [each.partition("=")[0] for each in members]
    right = len(members) <= _MOST_MEMBERS and len(set(keys)) == len(keys) and all(map(_MEMBER.fullmatch, members))
    text = ",".join(members)
    return text if right and len(text) <= _MOST_CHARACTERS else ""
