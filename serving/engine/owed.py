"""What is owed to all requests, and to those of each caller: a newcomer is judged without looking at each. Pure."""

from __future__ import annotations

import math

from serving.engine.fair import Party
from serving.engine.line import Entry, RequestId, size
from serving.engine.totals import CappedTotal


class Owed:
    """The draws that jobs are sure to get, by the class of their need and by request."""

    def __init__(self) -> None:
        self._requests: dict[int, dict[RequestId, int]] = {}
        self._in_all: dict[int, CappedTotal] = {}
        self.jobs = 0

    def change(self, entry: Entry, sign: int) -> None:
        """Put a job on, or take it off."""
        self.jobs += sign
        at, needs = size(entry.remaining), entry.needs()
        if not needs:
            return
        requests = self._requests.setdefault(at, {})
        before = requests.get(entry.request, 0)
        requests[entry.request] = after = before + sign * needs
        if not after:
            del requests[entry.request]
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

    def change(self, party: Party, entry: Entry, sign: int) -> None:
        """Put a job of a caller on, or take it off."""
        self._all.change(entry, sign)
        if party.name:
            self._change(party, entry, sign)

    def _change(self, party: Party, entry: Entry, sign: int) -> None:
        if party.name not in self._callers:
            self._callers[party.name] = party, Owed()
            self._weight += party.weight
        known, owed = self._callers[party.name]
        owed.change(entry, sign)
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
