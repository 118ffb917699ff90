"""What is owed to all requests, and to those of each caller: a newcomer is judged without looking at each. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection

from serving.engine.fair import Party
from serving.engine.line import Entry, RequestId, size
from serving.engine.totals import CappedTotal


class Owed:
    """The draws that jobs are sure to get, by the class of their need and by request."""

    def __init__(self) -> None:
        self._requests: dict[int, dict[RequestId, int]] = {}
        self._in_all: dict[int, CappedTotal] = {}
        self.jobs = 0

    def change(self, entries: Collection[Entry], sign: int) -> None:
        """Put jobs on, or take them off: of each request the total changes once, however many they are."""
        self.jobs += sign * len(entries)
        changes: dict[tuple[int, RequestId], int] = {}
        for entry in entries:
            if needs := entry.needs():
                place = size(entry.remaining), entry.request
                changes[place] = changes.get(place, 0) + sign * needs
        for (at, request), change in changes.items():
            requests = self._requests.setdefault(at, {})
            before = requests.get(request, 0)
            requests[request] = after = before + change
            if not after:
                del requests[request]
            self._in_all.setdefault(at, CappedTotal()).change(before, after)

    def before(self, draws: int, expected: int) -> int:
        """What comes before a request that needs `draws` at least and expects `expected` a row."""
        return sum(owed.capped(draws) for at, owed in self._in_all.items() if at <= size(expected))


class OwedByAll:
    """What is owed in all, and to each caller that has a name."""

    def __init__(self) -> None:
        self._all = Owed()
        self._callers: dict[str, tuple[Party, Owed]] = {}
        self._weight = 0

    def change(self, party: Party, entries: Collection[Entry], sign: int) -> None:
        """Put jobs of a caller on, or take them off."""
        self._all.change(entries, sign)
        if party.name:
            self._change(party, entries, sign)

    def _change(self, party: Party, entries: Collection[Entry], sign: int) -> None:
        if party.name not in self._callers:
            self._callers[party.name] = party, Owed()
            self._weight += party.weight
        known, owed = self._callers[party.name]
        owed.change(entries, sign)
        if not owed.jobs:
            del self._callers[party.name]
            self._weight -= known.weight

    def before(self, draws: int, expected: int, party: Party) -> int:
        """What comes before a request of a caller: of its own requests what needs as little; of the others' no more than
        their share while it gets that and the `draws` themselves.
        """
        everything = self._all.before(draws, expected)
        if not party.name:
            return everything
        known, own = self._callers.get(party.name, (party, None))
        mine = own.before(draws, expected) if own else 0
        others = self._weight - (known.weight if own else 0)
        return mine + min(everything - mine, math.ceil((mine + draws) * others / party.weight))
