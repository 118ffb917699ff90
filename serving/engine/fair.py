"""Fair shares of a device among callers: whoever has had least of it, for its weight, comes first. Pure.

Only callers that wait count: one that comes back after a while begins where the others are, and has saved up nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_KEPT = 1_024


@dataclass(frozen=True, slots=True)
class Party:
    """A caller, whose share under load is in proportion to `weight`. Nobody in particular has no name."""

    name: str = ""
    weight: int = 1


NOBODY = Party()


class Turns:
    """What each caller has had, in places of batches for its weight. Places are all that time is measured in."""

    def __init__(self) -> None:
        self._here: dict[str, float] = {}
        self._gone: dict[str, float] = {}
        """Callers that have had more than those that are here when they left."""
        self._now = 0.0

    def comes(self, name: str) -> None:
        """A caller begins to wait: it has had as much as whoever here has had least, or more."""
        self._here[name] = max(self._gone.pop(name, 0.0), min(self._here.values(), default=self._now))

    def leaves(self, name: str) -> None:
        """A caller waits for nothing any more."""
        had = self._here.pop(name)
        if not self._here:
            self._now, self._gone = max(self._now, had), {}
            return
        self._gone[name] = had
        if len(self._gone) > _KEPT:  # most of them are as if they had never been here
            least = min(self._here.values())
            self._gone = {each: had for each, had in self._gone.items() if had > least}

    def first(self, names: Iterable[str]) -> str:
        """Whose turn it is among these."""
        return min(names, key=self.had)

    def served(self, party: Party, places: int) -> None:
        """A caller has got so many places."""
        self._here[party.name] += places / party.weight

    def had(self, name: str) -> float:
        """What a caller that waits has had."""
        return self._here[name]
