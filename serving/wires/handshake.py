"""TLS before a wire: whoever connects has shaken hands, in time, before the wire hears of a connection.

The loop's own TLS would hold as many half handshakes as come. Here they are counted, apart from the connections of the
wires: where there are too many, the one that has taken longest gives way.
"""

from __future__ import annotations

import asyncio
import functools
import resource
import ssl
from collections.abc import Callable, Coroutine, Generator
from typing import Any, cast

from serving import metrics

_SECONDS, _SHUTDOWN_S = 10.0, 2.0
Secured = Callable[[Callable[[], asyncio.BaseProtocol]], asyncio.BaseProtocol]
"""What puts TLS before the protocol of a wire."""


def _affordable() -> int:
    """Handshakes at once: a sixteenth of the descriptors that the process may open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 512 if soft == resource.RLIM_INFINITY else max(16, min(512, soft // 16))


class Handshakes:
    """The handshakes in progress in a process, on whatever port."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self.seconds = seconds
        self._most = _affordable()
        self._under_way: dict[_Handshake, None] = {}

    def before(
        self, protocol: Callable[[], asyncio.BaseProtocol], context: Callable[[], ssl.SSLContext]
    ) -> asyncio.BaseProtocol:
        """What takes a connection in, and hands it to `protocol` after a handshake by the `context` of this moment."""
        return _Handshake(self, protocol, context)

    def enter(self, handshake: _Handshake) -> None:
        """One more; the oldest goes where there are too many."""
        self._under_way[handshake] = None
        if len(self._under_way) > self._most:
            next(iter(self._under_way)).cut()

    def leave(self, handshake: _Handshake) -> None:
        """One that is over."""
        self._under_way.pop(handshake, None)

    def end(self) -> None:
        """The server stops."""
        for each in list(self._under_way):
            each.cut()


class _Handshake(asyncio.Protocol):
    def __init__(
        self, all_: Handshakes, protocol: Callable[[], asyncio.BaseProtocol], context: Callable[[], ssl.SSLContext]
    ) -> None:
        self._all, self._protocol, self._context = all_, protocol, context
        self._early = _Early()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport, loop = cast(asyncio.Transport, transport), asyncio.get_running_loop()
        self._all.enter(self)
        # Begun at once: uvloop reads on, whatever is said, and what came before there is TLS would be lost.
        begun = _Begun(
            loop.start_tls(
                self._transport,
                self._early,
                self._context(),
                server_side=True,
                ssl_handshake_timeout=self._all.seconds,
                ssl_shutdown_timeout=_SHUTDOWN_S,
            )
        )
        self._shaking = loop.create_task(self._shake(begun))

    async def _shake(self, begun: _Begun) -> None:
        try:
            transport = await begun
        except (OSError, asyncio.CancelledError):  # an SSLError and a timeout among them
            metrics.REFUSED.labels("tls").inc()
            self._transport.abort()
            return
        finally:
            self._all.leave(self)
        if transport is not None and not self._early.lost:
            self._early.hand_over(transport, self._protocol())

    def cut(self) -> None:
        """End it."""
        self._all.leave(self)
        self._shaking.cancel()


class _Begun:
    """A coroutine that begins at once, up to where it waits; to await it is to go on from there."""

    def __init__(self, coroutine: Coroutine[Any, Any, asyncio.Transport | None]) -> None:
        self._coroutine = coroutine
        self._waits = coroutine.send(None)

    def __await__(self) -> Generator[Any, Any, asyncio.Transport | None]:
        waits = self._waits
        while True:
            try:
                value = yield waits
            except BaseException as error:
                go_on = functools.partial(self._coroutine.throw, error)
            else:
                go_on = functools.partial(self._coroutine.send, value)
            try:
                waits = go_on()
            except StopIteration as done:
                return cast("asyncio.Transport | None", done.value)


class _Early(asyncio.Protocol):
    """Hears what comes between the end of the handshake and its being known."""

    def __init__(self) -> None:
        self._data: list[bytes] = []
        self._ended = self.lost = False

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`, here and below."""
        self._data.append(data)

    def eof_received(self) -> bool:
        self._ended = True
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.lost = True

    def hand_over(self, transport: asyncio.Transport, protocol: asyncio.BaseProtocol) -> None:
        """Let the wire's own protocol go on."""
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        for data in self._data:
            if not transport.is_closing():
                _feed(protocol, data)


def _feed(protocol: asyncio.BaseProtocol, data: bytes) -> None:
    if isinstance(protocol, asyncio.BufferedProtocol):
        while data:
            room = memoryview(protocol.get_buffer(len(data)))
            size = min(len(room), len(data))
            room[:size], data = data[:size], data[size:]
            protocol.buffer_updated(size)
    else:
        cast(asyncio.Protocol, protocol).data_received(data)
