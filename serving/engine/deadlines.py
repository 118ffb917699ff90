"""When each request in flight has to be answered: the next deadline without looking at everybody. No clock."""

from __future__ import annotations

import heapq
import math

_SLACK = 64


class Deadlines:
    """Requests by number, each with its deadline. Who leaves early is forgotten when its turn comes, or in a clearing."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []
        self._of: dict[int, float] = {}

    def add(self, number: int, deadline: float) -> None:
        """A new request; its number was never seen before."""
        self._of[number] = deadline
        heapq.heappush(self._heap, (deadline, number))

    def remove(self, number: int) -> None:
        """A request is answered or given up, if it is here."""
        if self._of.pop(number, None) is not None and len(self._heap) > 2 * len(self._of) + _SLACK:
            self._heap = [(deadline, each) for each, deadline in self._of.items()]
            heapq.heapify(self._heap)

    def next(self) -> float:
        """The earliest deadline; infinite where there is none."""
        while self._heap and self._heap[0][1] not in self._of:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else math.inf

    def due(self, now: float) -> list[int]:
        """The requests whose deadline is over, the earliest first; they are no longer here."""
        found = []
        while self.next() <= now:
            _, number = heapq.heappop(self._heap)
            del self._of[number]
            found.append(number)
        return found
