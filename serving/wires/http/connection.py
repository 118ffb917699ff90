"""One HTTP connection, bounded in whatever a stranger can choose: the size, fields and time of a head, the framing of a
body, how many connections there are, and what is pipelined.

uvicorn's protocol does the rest. Whatever is refused here is answered in the form of every other error, and counted
instead of logged: strangers write no lines into the log.
"""

from __future__ import annotations

import asyncio
import resource
import socket
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httptools
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.protocols.utils import is_ssl

from serving import metrics
from serving.budget import BufferedBytes, Held
from serving.errors import CertserveError, HeadTooLarge, InvalidInput, TooSlow, Unavailable
from serving.wires.http.event_stream import PROBE
from serving.wires.http.head import check_head, refusal
from serving.wires.http.paths import HEALTH
from serving.wires.http.turns import FewAtOnce, Woken

_CLOSING_S = 2.0  # a client that still sends gets this long to read why it is refused
_DISCARDING_S = 10.0  # and this long to end a body that was refused before its end
_STALLED_S = 30.0  # and this long to take some of an answer
_ON_ITS_WAY_S = 0.5  # for a request on a connection that was opened or used just before the server stops
_LONG_IDLE_S = 5.0
_ASK_AGAIN_S = 0.5
_NEVER = float("inf")
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Requests that begin or go on in one turn of the loop, and that end with their connection: some milliseconds of work.
_BEGUN_AT_ONCE = _ENDED_AT_ONCE = 8


def _fair_connections() -> int:
    """Half of the descriptors that the process may open, the rest being for gRPC, models and the engine."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 4096 if soft == resource.RLIM_INFINITY else max(16, min(4096, soft // 2))


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontLimits:
    """What connections may cost. Sizes in bytes, times in seconds; `idle_s` is between two requests."""

    head_bytes: int = 64 * 1024
    head_fields: int = 100
    head_s: float = 10.0
    idle_s: float = 75.0
    connections: int = field(default_factory=_fair_connections)
    pipelined: int = 16
    framing_bytes: int = 64 * 1024
    chunks: int = 64 * 1024


class Front:
    """What the connections of one server share: their limits, and who has to give way to a newcomer."""

    def __init__(self, limits: FrontLimits, buffered: BufferedBytes) -> None:
        self.limits = limits
        self.buffered = buffered
        self.connections: set[HttpConnection] = set()
        self.owing: dict[HttpConnection, None] = {}
        """Connections whose request is not whole yet, the longest waited for first."""
        self.idle: dict[HttpConnection, float] = {}
        """Connections whose last request is answered, and since when, the longest idle first."""
        self.leaving = self.stopping = False
        self.beginning, self.ending = FewAtOnce(_BEGUN_AT_ONCE), FewAtOnce(_ENDED_AT_ONCE)

    def admit(self, newcomer: HttpConnection, now: float) -> None:
        """Take a connection in. Where there are too many, one that has nothing in progress gives way, or the newcomer."""
        self.connections.add(newcomer)
        if len(self.connections) > self.limits.connections:
            self._least(newcomer, now).give_way()
        self.owing[newcomer] = None

    def _least(self, newcomer: HttpConnection, now: float) -> HttpConnection:
        if self.owing:
            return next(iter(self.owing))
        longest = next(iter(self.idle.items()), (newcomer, now))
        return longest[0] if now - longest[1] > _LONG_IDLE_S else newcomer

    def sweep(self, now: float) -> None:
        """See to the connections whose time is over, each in its turn."""
        for each in [each for each in self.connections if each.due < now]:
            self.ending.soon(partial(self._see_to, each))

    def _see_to(self, each: HttpConnection) -> None:
        now = each.loop.time()
        if each in self.connections and each.due < now:
            each.on_due(now)


class _Refused(Exception):
    """Ends the parser's work from within a callback."""


class HttpConnection(HttpToolsProtocol):
    """See the module. `due` is when the connection is looked at next, on the loop's clock."""

    def __init__(self, front: Front, **settings: Any) -> None:
        super().__init__(**settings)
        self._front = front
        self._limits = front.limits
        self._hold: Held = front.buffered.hold()
        self._refusal: CertserveError | None = None
        self._deaf = self._in_head = self._in_message = self._half_closed = self._asked = self._stalled = False
        self._head_bytes = self._fields = self._field_bytes = self._raw = self._delivered = self._chunks = 0
        self._used = 0.0
        self.due = _NEVER

    # The transport's side

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A new connection, which has to send a head in time."""
        super().connection_made(transport)
        self._used = now = self.loop.time()
        self.due = now + (_ON_ITS_WAY_S if self._front.stopping else self._limits.head_s)
        self._front.admit(self, now)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._front.connections.discard(self)
        self._forget()
        end = partial(super().connection_lost, exc)
        if self.cycle is None or self.cycle.response_complete:
            end()
        else:
            self._front.ending.soon(end)

    def _forget(self) -> None:
        self._front.owing.pop(self, None)
        self._front.idle.pop(self, None)
        self._hold.shrink(self._hold.size)

    def data_received(self, data: bytes) -> None:
        """Some bytes of the client."""
        if self._deaf:
            return
        try:
            self._account(len(data))
            self.parser.feed_data(data)
            self._check(len(data))
        except httptools.HttpParserUpgrade:
            self._deaf = True  # what follows is not HTTP
        except httptools.HttpParserError:
            self.refuse(
                self._refusal or InvalidInput("this is no valid HTTP/1.1; check the client, or what is between")
            )
        except CertserveError as error:
            self.refuse(error)

    def _account(self, size: int) -> None:
        """Bytes that nobody reads yet count: those of an incomplete head, and of requests behind one in progress."""
        if self._in_head or self.pipeline or self._answering():
            self._hold.grow(size)
        if self._in_message:
            self._raw += size

    def _check(self, size: int) -> None:
        if self._in_head:
            if not self._hold.size:
                self._hold.grow(size)
            self._head_bytes += size
            if self._head_bytes > self._limits.head_bytes:
                raise self._head_too_large()
        elif self._hold.size and not (self.pipeline or self._answering()):
            self._hold.shrink(self._hold.size)
        if self._in_message and self._raw - self._delivered > self._limits.framing_bytes + 8 * self._delivered:
            raise InvalidInput("the body is mostly framing: chunk extensions or trailers; send plain, larger chunks")

    def _answering(self) -> bool:
        """Whether a request is in progress that has come whole."""
        return self.cycle is not None and not (self.cycle.response_complete or self.cycle.more_body)

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more. If it sent a whole request it may still wait for the answer."""
        if self._deaf or not self._answering() or is_ssl(self.transport):
            return False
        self._half_closed = self._deaf = True
        self.cycle.keep_alive = False
        self.due = self.loop.time() + _ASK_AGAIN_S
        return True

    def pause_writing(self) -> None:
        """The client does not take its answer as fast as it is written."""
        super().pause_writing()
        self._stalled, self.due = True, self.loop.time() + _STALLED_S

    def resume_writing(self) -> None:
        """It took some."""
        super().resume_writing()
        self._stalled, self.due = False, _NEVER

    # The parser's side

    def on_message_begin(self) -> None:
        """The first byte of a head."""
        super().on_message_begin()
        self._unset_keepalive_if_required()
        self._in_head = True
        self._head_bytes = self._fields = self._field_bytes = self._raw = self._delivered = self._chunks = 0
        self._front.idle.pop(self, None)
        self._front.owing.setdefault(self)
        if self.due == _NEVER and not self._answering():
            self.due = self.loop.time() + self._limits.head_s

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field, of the head or of the trailer: the latter says nothing here."""
        self._fields += 1
        self._field_bytes += len(name) + len(value)
        if self._fields > self._limits.head_fields or self._field_bytes + len(self.url) > self._limits.head_bytes:
            self._fail(self._head_too_large())
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A whole head: checked before anything begins."""
        upgrade, version = self.parser.should_upgrade(), self.parser.get_http_version()
        if version == "1.0":
            self.expect_100_continue = False  # its clients know no interim answers, and would take one for the last
        try:
            check_head(self.headers, version, upgrade)
        except CertserveError as error:
            self._fail(error)
        if len(self.pipeline) >= self._limits.pipelined:
            self._fail(InvalidInput("too many requests at once on one connection; wait for an answer"))
        super().on_headers_complete()
        self.cycle.message_event = Woken(self._front.beginning)
        # Whether a refused body still comes is the client's to choose.
        if upgrade or self.expect_100_continue or self._front.leaving:
            self.cycle.keep_alive = False
        self._in_head, self._in_message = False, True
        self._front.owing[self] = self._front.owing.pop(self, None)  # now the last
        self.due = _NEVER

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        """In its turn, where many begin at once; whoever asks whether the server is well waits for nobody."""
        begin = partial(super()._start_asgi_task, cycle, app)
        if cycle.scope["path"] in HEALTH:
            begin()
        else:
            self._front.beginning.soon(begin)

    def on_chunk_header(self) -> None:
        """One chunk more: each costs time, however small it is."""
        self._chunks += 1
        if self._chunks > self._limits.chunks + self._delivered // 512:
            self._fail(InvalidInput(f"the body comes in {self._chunks} tiny chunks; send larger ones"))

    def on_body(self, body: bytes) -> None:
        """Some of the body."""
        self._delivered += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The end of a request."""
        super().on_message_complete()
        self._in_message = False
        self._front.owing.pop(self, None)
        if self.cycle.response_complete:
            self._rest()

    def on_response_complete(self) -> None:
        """The end of an answer: the next request may begin, once the rest of this one has come."""
        super().on_response_complete()
        now = self.loop.time()
        if self.transport.is_closing():
            self.due = now + _STALLED_S
        elif not self.pipeline and self.cycle.response_complete:
            self._hold.shrink(self._hold.size)
            self._front.idle[self] = self._used = now
            self._next(now)

    def _next(self, now: float) -> None:
        if self._deaf:
            self.transport.close()
        elif self._in_message or self._in_head:
            self._unset_keepalive_if_required()
            self.due = now + (_DISCARDING_S if self._in_message else self._limits.head_s)

    def _rest(self) -> None:
        """The rest of a request that was answered before its end has come."""
        self.due = _NEVER
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def _fail(self, error: CertserveError) -> None:
        self._refusal = error
        raise _Refused

    def _head_too_large(self) -> HeadTooLarge:
        size, fields = self._limits.head_bytes, self._limits.head_fields
        return HeadTooLarge(f"the head of the request is over the limit of {size} bytes or {fields} fields; send less")

    # What ends it

    def answer_last(self) -> None:
        """Say, in answers that have not begun, that the connection ends with them."""
        for each in (self.cycle, *(cycle for cycle, _ in self.pipeline)):
            if each is not None and not each.response_started:
                each.keep_alive = False

    def shutdown(self) -> None:
        """The server stops: end it after the answer to what is in progress, or to what may be on its way."""
        at_rest = self.cycle is None or self.cycle.response_complete
        if at_rest and not self._deaf and self.loop.time() < self._used + _ON_ITS_WAY_S:
            self.due = min(self.due, self._used + _ON_ITS_WAY_S)
        else:
            super().shutdown()

    def timeout_keep_alive_handler(self) -> None:
        """Idle for too long."""
        self.on_due(self.loop.time())

    def on_due(self, now: float) -> None:
        """The time is over that something had."""
        if self._half_closed and not self._stalled and not self.transport.is_closing():
            self._ask(now)
        elif self._in_head and not self._deaf:
            self.refuse(
                TooSlow(f"the head of the request did not come within {self._limits.head_s:g} s; send it again")
            )
        elif self._stalled or self._deaf or self._in_message or self.transport.is_closing():
            self.transport.abort()
        else:
            self.transport.close()
            self.due = now + _CLOSING_S

    def _ask(self, now: float) -> None:
        """Find out whether a client that sends no more still listens: one that is gone resets what is sent to it.

        HTTP/1.0 has nothing that could be sent, and its clients are taken for gone.
        """
        reset = self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if reset or self.scope["http_version"] == "1.0":
            self.transport.abort()
            return
        self._asked = not self._asked
        self.due = now + (0.1 if self._asked else _ASK_AGAIN_S)
        if self._asked and not self.pipeline:
            self.transport.write(self._question())

    def _question(self) -> bytes:
        """What says nothing to a client that listens: an interim answer, or a piece of one that may have such pieces."""
        if not self.cycle.response_started:
            return _CONTINUE
        probe: bytes = self.scope["state"].get(PROBE, b"")
        return b"%x\r\n%b\r\n" % (len(probe), probe) if probe and not self.cycle.response_complete else b""

    def give_way(self) -> None:
        """Close, for others need the place."""
        if self._deaf:
            self.transport.abort()
        else:
            limit = self._limits.connections
            full = f"the server has {limit} connections open, as many as it takes; try again"
            self.refuse(Unavailable(full, retry_after_s=1), linger=False)

    def refuse(self, error: CertserveError, linger: bool = True) -> None:
        """Answer `error` and close; a client that still sends is heard out for a moment, so that it can read why."""
        self._deaf = True
        metrics.REFUSED.labels(str(error.http_status)).inc()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and self._answering() and not self.pipeline:
            cycle.keep_alive = False  # its answer is under way, and the connection ends with it
        elif self._owes_an_answer():
            self.transport.abort()
        else:
            if cycle is not None and not cycle.response_complete:
                cycle.disconnected = True
                cycle.message_event.set()
            self._say(error, linger)

    def _owes_an_answer(self) -> bool:
        """Whether anything that is written now would be taken for the answer to another request, or a part of it."""
        cycle = self.cycle
        if self.pipeline or self.transport.is_closing():
            return True
        return cycle is not None and (self._in_message if cycle.response_complete else cycle.response_started)

    def _say(self, error: CertserveError, linger: bool) -> None:
        self._unset_keepalive_if_required()
        self._forget()
        self.transport.write(refusal(error, self.headers or ()))
        if linger and not self._front.stopping and self.transport.can_write_eof():
            self._front.owing[self] = None
            self.due = self.loop.time() + _CLOSING_S
            self.transport.write_eof()
        else:
            self.due = self.loop.time() + _CLOSING_S
            self.transport.close()

    def _unsupported_upgrade_warning(self) -> None:
        """No line in the log for each."""
