"""An answer that is watched while it comes about: which of its rows each event says anew, in one form for all wires.

    base         at once: the base network's answer to a row, of which nothing is claimed
    certificate  what the draws counted by then prove of the row. Its radius may fall again; the best that was seen stays
                 true, for all events of an answer hold together
    final        what the row's answer says to whoever asks for nothing else

A row is said again only once more of its draws are counted; every row has a base and a final event.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from typing import TypeVar

from serving.events import Base, Event, Final, Progress
from serving.gateway.statistics import Clock
from serving.messages import Answer

HEARTBEAT_S = 15.0
"""Without an event for so long, a wire that can shows that the connection lives."""
STALLED_S = 30.0
"""A reader who takes nothing for so long is given up."""

NAMES: dict[type[Event[Answer]], str] = {Base: "base", Progress: "certificate", Final: "final"}
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class News:
    """What an event says of some rows: `numbers` are their places among the `of` rows of the request, in their order, and
    `answer` has these rows alone. `kind` is one of `NAMES`.
    """

    kind: str
    numbers: tuple[int, ...]
    of: int
    answer: Answer


class Follower:
    """What was said of each row of one request."""

    def __init__(self) -> None:
        self._draws: dict[int, int] = {}

    def news(self, event: Event[Answer]) -> News:
        """What this event adds; of a final one, every row."""
        rows = event.said.predictions
        final = isinstance(event, Final)
        numbers = tuple(place for place, row in enumerate(rows) if final or self._draws.get(place) != row.draws)
        self._draws |= {place: rows[place].draws for place in numbers}
        said = replace(event.said, predictions=tuple(rows[place] for place in numbers))
        return News(kind=NAMES[type(event)], numbers=numbers, of=len(rows), answer=said)


async def news(events: AsyncGenerator[Event[Answer], None], clock: Clock) -> AsyncGenerator[News, None]:
    """What each of a request's events adds; its `clock` is told of the answer. Closing it closes them."""
    follower = Follower()
    async with contextlib.aclosing(events):
        async for event in events:
            if isinstance(event, Final):
                clock.answered(event.said)
            if (found := follower.news(event)).numbers:
                yield found


async def with_pauses(items: AsyncGenerator[_Item, None], seconds: float) -> AsyncGenerator[_Item | None, None]:
    """The items, and None whenever none has come for so many seconds. Closing it closes them."""
    coming = asyncio.ensure_future(anext(items, None))
    try:
        while True:
            await asyncio.wait([coming], timeout=seconds)
            if not coming.done():
                yield None
            elif (item := coming.result()) is None:
                return
            else:
                yield item
                coming = asyncio.ensure_future(anext(items, None))
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
        await items.aclose()
