"""Who asks, and what they may do: the port that a login implements.

The frame of each wire asks for the caller of every request before any route sees it, so that a route which is added later is
never open by mistake; health alone is told to everybody. Every route and method names the scope that it stands under. Where
there is no login nobody is asked: whoever comes is `ANONYMOUS`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from serving.errors import Forbidden, Unauthenticated

INFER, READ, ADMIN = "infer", "read", "admin"
"""The scopes: to have inputs predicted, to read what is served and how it goes, to change what is served."""
SCOPES = (INFER, READ, ADMIN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What a caller may draw; 0 is as much as it likes."""

    draws_per_second: int = 0
    draws_per_day: int = 0

    def __bool__(self) -> bool:
        return bool(self.draws_per_second or self.draws_per_day)


NO_QUOTA = Quota()


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Whoever sent a request: a name, empty for nobody in particular, and the scopes of what they may do.

    Under load callers have shares of the devices in proportion to their `weight`.
    """

    name: str
    scopes: frozenset[str]
    quota: Quota | None = None
    weight: int = 1

    def must_have(self, scope: str) -> None:
        """Raise `Forbidden` where the caller has no such scope, `Unauthenticated` where it is nobody in particular."""
        if scope in self.scopes:
            return
        if not self.name:
            raise Unauthenticated(f"this is for callers with the scope {scope!r}; send Authorization: Bearer <key>")
        raise Forbidden(f"the caller {self.name!r:.80} has no scope {scope!r}; ask the operator of the server for it")


ANONYMOUS = Caller(name="", scopes=frozenset({INFER, READ}))
CALLER: ContextVar[Caller] = ContextVar("caller")
"""The caller of the request that is worked at; each wire's frame sets it."""
LEFT: ContextVar[str] = ContextVar("left", default="")
"""What is left of the caller's quota after the request that is worked at, as the field RateLimit says it."""


class Callers(Protocol):
    """Tells callers by what they send beside their requests."""

    def caller(self, fields: Mapping[str, str]) -> Caller:
        """The caller, by the header fields of HTTP or the metadata of gRPC, whose names are in lower case. It is asked on
        the loop, once a request, so it must not wait. Raises `Unauthenticated`.
        """
        ...


def of_caller() -> str:
    """For a line of the log: whose request is worked at, where that is known."""
    name = CALLER.get(ANONYMOUS).name
    return f" of {name}" if name else ""


def joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Fields by name. One that comes twice is one with a comma, so that of two credentials none is chosen."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found
