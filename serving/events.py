"""What is said of a request while it is answered: events, of which the last is the answer.

`Base`      at once: the answers of the base network, of which nothing is claimed
`Progress`  what the counts so far prove. A radius may fall again; the best that was seen stays true, for every event
            holds with the others together
`Final`     the answer, as whoever asks for nothing else gets it

Every event is whole by itself, so a reader who is slow misses none but old ones; the base event is kept for every reader.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Spoken = TypeVar("Spoken")
Other = TypeVar("Other")


@dataclass(frozen=True, slots=True, eq=False)
class Event(Generic[Spoken]):
    """Something that is true of every row, and who says so: a reply between engine and gateway, an answer on the wires."""

    said: Spoken

    def saying(self, said: Other) -> Event[Other]:
        """The same kind of event in other words."""
        kind: Any = type(self)
        found: Event[Other] = kind(said)
        return found


class Base(Event[Spoken]):
    """See the module."""

    __slots__ = ()


class Progress(Event[Spoken]):
    """See the module."""

    __slots__ = ()


class Final(Event[Spoken]):
    """See the module."""

    __slots__ = ()


class Events(Generic[Spoken]):
    """One request, not begun: iterate over its events, or await what the last one says, at no more cost than that has.

    Whoever stops to iterate, and closes the iterator, or is cancelled, gives the work up.
    """

    def __init__(
        self, last: Callable[[], Awaitable[Spoken]], stream: Callable[[], AsyncGenerator[Event[Spoken], None]]
    ) -> None:
        """`last` answers at once; `stream` yields what is said meanwhile, too, and ends with a `Final`."""
        self._last = last
        self._stream = stream

    def __await__(self) -> Generator[Any, Any, Spoken]:
        return self._last().__await__()

    def __aiter__(self) -> AsyncGenerator[Event[Spoken], None]:
        return self._stream()


class _Mailbox(Generic[Spoken]):
    """Room for the base event, and for one more: a newer one takes the place of one that nobody has fetched."""

    def __init__(self) -> None:
        self._base: Event[Spoken] | None = None
        self._event: Event[Spoken] | None = None
        self._filled, self._closed = asyncio.Event(), False

    async def fill(self, events: AsyncIterable[Event[Spoken]]) -> None:
        """Put in every event as it comes."""
        async with contextlib.aclosing(aiter(events)) as stream:  # type: ignore[type-var]
            async for event in stream:
                if isinstance(event, Base):
                    self._base = event
                else:
                    self._event = event
                self._filled.set()

    def close(self, _: object) -> None:
        """No more comes."""
        self._closed = True
        self._filled.set()

    async def fetch(self) -> Event[Spoken] | None:
        """The base event, then the newest, as soon as there is one; None where no more comes."""
        await self._filled.wait()
        found = self._base or self._event
        if self._base is None:
            self._event = None
        self._base = None
        if self._event is None and not self._closed:
            self._filled.clear()
        return found


async def newest(events: AsyncIterable[Event[Spoken]]) -> AsyncGenerator[Event[Spoken], None]:
    """The newest event each time one is asked for, the base event and the last in any case; older ones are left out."""
    mailbox: _Mailbox[Spoken] = _Mailbox()
    filling = asyncio.create_task(mailbox.fill(events))
    filling.add_done_callback(mailbox.close)
    try:
        while (event := await mailbox.fetch()) is not None:
            yield event
            if isinstance(event, Final):
                return
        await filling  # raises what ended it
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)
