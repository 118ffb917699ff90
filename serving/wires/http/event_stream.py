"""Server-sent events: how an answer is written that is watched while it comes about.

Until its first event there is no head, so what fails by then is an error as every other. What fails later is the event
`error`, whose data are that error's JSON and its status, since the head has said 200.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable

from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from serving import strict_json
from serving.errors import CertserveError
from serving.events import Event
from serving.gateway.statistics import Clock
from serving.messages import Answer
from serving.wires import live, off_loop
from serving.wires.answer_document import Document
from serving.wires.http.frame import error_headers, refusal_of
from serving.wires.live import HEARTBEAT_S, News
from serving.wires.observed import ClientGone

TYPE = "text/event-stream"
COMMENT = b":\n\n"
"""Says nothing, and shows that the connection lives."""
PROBE = "probe"
"""The state of an exchange under which its connection finds what it may write between two pieces of the answer, to learn
whether a client that sends no more still listens."""
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Content-Type": TYPE}


def event(name: str, data: object, identifier: object = None) -> bytes:
    """One event. Its data are JSON on one line; the identifier holds no line's end."""
    about = b"" if identifier is None else f"id: {identifier}\n".encode()
    return b"event: " + name.encode() + b"\n" + about + b"data: " + strict_json.dumps(data) + b"\n\n"


def rows(kind: str, documents: Iterable[Document]) -> bytes:
    """What an event says of some rows, one event each, whose identifier is the number of its draws."""
    return b"".join(event(kind, each, each["prediction"]["draws"]) for each in documents)


def unnamed(documents: Iterable[Document]) -> bytes:
    """Events without a name, as other servers send them."""
    return b"".join(b"data: " + strict_json.dumps(each) + b"\n\n" for each in documents)


async def follow(
    events: AsyncGenerator[Event[Answer], None], write: Callable[[News], bytes], clock: Clock, stream: EventStream
) -> None:
    """Write events as they come, the newest to a client that takes them slowly, and a comment where none comes for long."""
    async with contextlib.aclosing(live.with_pauses(live.news(events, clock), HEARTBEAT_S)) as coming:
        async for each in coming:
            if each is None:
                await stream.pause()
            else:
                await stream.write(await _written(write, each))


async def _written(write: Callable[[News], bytes], news: News) -> bytes:
    return await off_loop.written(lambda _: write(news), news.answer)


def wanted(accept: str) -> bool:
    """Whether an Accept field names event streams, and likes JSON no better."""
    likes = {"application/json": 0.0, TYPE: 0.0}
    for part in accept.lower().split(","):
        kind, *parameters = (each.strip() for each in part.split(";"))
        if kind in likes:
            likes[kind] = _quality(parameters)
    return likes[TYPE] > 0 and likes[TYPE] >= likes["application/json"]


def _quality(parameters: list[str]) -> float:
    for each in parameters:
        name, _, value = each.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


class EventStream:
    """The way of events to one client, no faster than it takes them."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope, self._send = scope, send
        self.begun = False
        """Whether the head has gone out."""

    async def write(self, data: bytes) -> None:
        """Some whole events, after the head."""
        if not self.begun:
            self.begun = True
            self._scope.setdefault("state", {})[PROBE] = COMMENT
            fields = [(name.lower().encode(), value.encode()) for name, value in _HEADERS.items()]
            await self._send({"type": "http.response.start", "status": 200, "headers": fields})
        await self._body(data, more=True)

    async def pause(self) -> None:
        """Show that the connection lives, once there is a head to follow."""
        if self.begun:
            await self._body(COMMENT, more=True)

    async def fail(self, error: CertserveError) -> None:
        """The end of an answer that has begun and comes to nothing."""
        document: dict[str, object] = {"error": error.message, "status": error.http_status}
        if "Retry-After" in (fields := error_headers(error)):
            document["retry_after_s"] = int(fields["Retry-After"])
        await self.write(event("error", document))

    async def end(self) -> None:
        """No more comes."""
        await self._body(b"", more=False)

    async def _body(self, data: bytes, more: bool) -> None:
        message: Message = {"type": "http.response.body", "body": data, "more_body": more}
        await self._send(message)


class Streaming(Response):
    """The response whose events `work` writes. What it raises becomes an error, of the kind that is due."""

    def __init__(self, work: Callable[[EventStream], Awaitable[None]]) -> None:
        super().__init__()
        self._work = work

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        stream = EventStream(scope, send)
        try:
            await self._work(stream)
        except Exception as error:
            if not stream.begun:
                raise
            if isinstance(error, ClientGone):
                return
            await stream.fail(refusal_of(error))
        await stream.end()
