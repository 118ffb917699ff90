"""Who asks, and what they may do: the port that a login implements.

The frame of each wire asks for the caller of every request before any route sees it, so that a route which is added later is
never open by mistake; health alone is told to everybody. `Everybody` is what is served today.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from serving.errors import Forbidden

INFER = "infer"
"""The scope of those who may have inputs predicted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever sent a request: a name, empty for nobody in particular, and the scopes of what they may do."""

    name: str
    scopes: frozenset[str]

    def must_have(self, scope: str) -> None:
        """Raise `Forbidden` where the caller has no such scope."""
        if scope not in self.scopes:
            raise Forbidden(
                f"the caller {self.name!r:.80} has no scope {scope!r}; ask the operator of the server for it"
            )


ANONYMOUS = Caller(name="", scopes=frozenset({INFER}))
CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the request that is worked at; each wire's frame sets it."""


class Callers(Protocol):
    """Tells callers by what they send beside their requests."""

    def caller(self, fields: Mapping[str, str]) -> Caller:
        """The caller, by the header fields of HTTP or the metadata of gRPC, whose names are in lower case. It is asked on
        the loop, once a request, so it must not wait. Raises `Unauthenticated`.
        """
        ...


class Everybody:
    """The `Callers` of a server without a login: whoever asks is anonymous and may have inputs predicted."""

    def caller(self, fields: Mapping[str, str]) -> Caller:
        """See `Callers.caller`."""
        return ANONYMOUS


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields by name. One that comes twice is one with a comma, so that of two credentials none is chosen."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
