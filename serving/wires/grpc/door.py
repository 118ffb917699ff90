"""The door before the gRPC server: what HTTP/2 lets a client do without end, it ends.

gRPC's own server takes headers without an end, counts neither connections nor what is opened to be reset at once, and has
no option for it. Every connection passes here: its frames are counted, byte for byte unchanged, and go on to the server
over a socket that this process alone can reach. A connection that oversteps is cut: that is counted, and not logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator
from typing import cast

from serving import metrics
from serving.budget import BufferedBytes, Held
from serving.errors import CertserveError
from serving.wires.grpc import refusal
from serving.wires.handshake import Secured

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _WINDOW_UPDATE, _CONTINUATION = 0, 1, 3, 4, 6, 8, 9
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4

_HEAD_BYTES, _HEAD_FRAMES, _HEAD_S = 2**16, 64, 10.0  # of the headers of one call; and to say hello
_SMALL = 256  # bytes, below which a frame carries next to nothing
_SMALL_FRAMES = 1_000  # at most; each answer, and each KiB of answers, allows some more
_A_CALL, _AN_ANSWER, _A_KIB = 8, 4, 2
_AN_UPDATE = bytes([0, 0, 4, _WINDOW_UPDATE])
_EXCESS = 2**22  # bytes of a call that was refused, on their way until its client knows: whole messages of most
_CONNECTIONS, _DESCRIPTORS = 1_024, 3  # at most, and what each of them takes
_ECHO_S = 0.5  # for a client to have heard the farewell


class Frames:
    """The heads of the frames in one direction of a connection, from bytes in any pieces."""

    def __init__(self) -> None:
        self.left = 0
        """Bytes of the last frame that have not come yet."""
        self.any = False
        """Whether a whole frame has come."""
        self._begun = False
        self._part = b""

    @property
    def whole(self) -> bool:
        """Whether what has come so far ends with a frame."""
        return not self.left and not self._part

    def heads(self, data: bytes) -> Iterator[tuple[int, int, int, int]]:
        """Kind, flags, stream and length of every frame whose head ends in `data`; of one that allows the other side to send
        more, how many bytes more instead of its length.
        """
        place, size = 0, len(data)
        while size - place > self.left or (self.left == 0 and place < size):
            place += self.left
            wanted = 13 if self._part[:4] == _AN_UPDATE else 9
            head = self._part + data[place : place + wanted - len(self._part)]
            place += len(head) - len(self._part)
            self.left, self._part = 0, head
            if len(head) < wanted:
                return
            if wanted == 9 and head[:4] == _AN_UPDATE:
                continue  # what it allows belongs to it
            self._part, self._begun = b"", True
            self.left = int.from_bytes(head[:3]) if wanted == 9 else 0
            number = self.left if wanted == 9 else int.from_bytes(head[9:]) & 0x7FFFFFFF
            yield head[3], head[4], int.from_bytes(head[5:9]) & 0x7FFFFFFF, number
        self.left -= size - place
        self.any = self.any or (self._begun and not self.left)


class Door:
    """Takes connections from `listening` and leads them to the server at the path `inner`. What is kept of messages that
    are not answered counts in `buffered`, and is refused before it is read where that is full. `secured` puts TLS before
    what takes a connection in.
    """

    def __init__(
        self,
        listening: socket.socket,
        inner: str,
        buffered: BufferedBytes,
        head_s: float = _HEAD_S,
        secured: Secured | None = None,
    ) -> None:
        self.inner, self.buffered, self.head_s = inner, buffered, head_s
        self._listening = listening
        self._secured = secured
        self._most = _affordable()
        self._connections: dict[_Client, None] = {}
        self._server: asyncio.Server | None = None
        self._closed = False
        self._empty = asyncio.Event()

    async def open(self) -> None:
        """Take connections from now on."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=self._listening, backlog=1_024)

    def _protocol(self) -> asyncio.BaseProtocol:
        return _Client(self) if self._secured is None else self._secured(lambda: _Client(self))

    async def close(self, seconds: float) -> None:
        """Take no more connections, and end those that are there: each once its client knows that no more calls are wanted
        and those that it has begun are answered, or after `seconds`.
        """
        self._closed = True
        if self._server is not None:
            self._server.close()
        self._empty.clear()
        for client in list(self._connections):
            client.dismiss()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for client in list(self._connections):
            client.abort()

    def enter(self, client: _Client) -> bool:
        """Whether there is room: if need be the connection goes that has been silent longest and has no call."""
        if self._closed:
            return False
        if len(self._connections) >= self._most:
            idle = next((each for each in self._connections if not each.calls), None)
            if idle is None:
                return False
            idle.cut()
        self._connections[client] = None
        return True

    def heard(self, client: _Client) -> None:
        """It is not the one that has been silent longest."""
        if client in self._connections:
            del self._connections[client]
            self._connections[client] = None

    def leave(self, client: _Client) -> None:
        """It is gone."""
        self._connections.pop(client, None)
        if not self._connections:
            self._empty.set()


class _Side(asyncio.Protocol):
    """One side of a connection: what it reads is written to the other, no faster than that takes it."""

    transport: asyncio.Transport | None = None
    other: _Side | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's are such by their methods, not by their class

    def pass_on(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()

    def end(self) -> None:
        """Close it once what was written is sent."""
        if self.transport is not None:
            self.transport.close()


class _Client(_Side):
    """The client's side, with the rules."""

    other: _Server | None = None

    def __init__(self, door: Door) -> None:
        self._door = door
        self._frames = Frames()
        self._hello: bytes | None = b""
        self._waiting: list[bytes] = []
        self._late: asyncio.TimerHandle | None = None
        self._block = self._pieces = 0
        self._allowed = _SMALL_FRAMES
        self._in_head = self._open_head = False
        self._refused: dict[int, int] = {}
        self._early, self._to_reset = bytearray(), list[int]()
        self._dismissed = False
        self.unechoed = 0
        """Pings that the client has not answered."""
        self.calls: dict[int, Held] = {}
        """What is held of each call that is neither answered nor given up."""
        self._told = set[int]()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._door.enter(self):
            self.cut()
            return
        self._expect()
        loop = asyncio.get_running_loop()
        self._joining = loop.create_task(loop.create_unix_connection(lambda: _Server(self), self._door.inner))
        self._joining.add_done_callback(self._joined)

    def _joined(self, joining: asyncio.Task[tuple[asyncio.BaseTransport, _Server]]) -> None:
        if joining.cancelled() or joining.exception() is not None:
            self.cut()
            return
        _, self.other = joining.result()
        assert self.transport is not None
        if self.transport.is_closing():
            self.other.end()
        for data in self._waiting:
            self.pass_on(data)
        self._waiting.clear()
        self.other.put_in(bytes(self._early))
        self._reset()
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        self._door.heard(self)
        frames = data if self._hello is None else self._greeted(data)
        for head in self._frames.heads(frames):
            if not self._fits(*head):
                self.cut()
                return
        self._see_to_the_time()
        if self.other is None:
            self._waiting.append(data)
            assert self.transport is not None
            self.transport.pause_reading()
        else:
            self.pass_on(data)
            self._reset()
        self.end_if_done()

    def dismiss(self) -> None:
        """Say that no more calls are wanted, if the client has begun to speak, and end when those that there are have."""
        if self._silent():
            self.end()
            return
        self.unechoed += 1
        self._put_in(refusal.farewell())
        self._dismissed = True
        asyncio.get_running_loop().call_later(_ECHO_S, self._unheard)

    def _unheard(self) -> None:
        """A client that does not answer pings, some do not while they have no calls, is not waited for."""
        self.unechoed = 0
        self.end_if_done()

    def end_if_done(self) -> None:
        """End it after its dismissal, unless there are calls or some may be on their way."""
        if self._dismissed and not self.calls and self.unechoed <= 0:
            self.end()

    def _greeted(self, data: bytes) -> bytes:
        """What follows the preface, without which nothing is HTTP/2."""
        assert self._hello is not None
        hello = self._hello + data[: len(_PREFACE) - len(self._hello)]
        rest = data[len(hello) - len(self._hello) :]
        if not _PREFACE.startswith(hello):
            self.cut()
        self._hello = None if len(hello) == len(_PREFACE) else hello
        return rest

    def _fits(self, kind: int, flags: int, stream: int, length: int) -> bool:
        """Whether this frame is within the rules."""
        heads = kind in (_HEADERS, _CONTINUATION)
        if kind == _HEADERS:
            self.calls.setdefault(stream, self._door.buffered.hold())
            self._block = self._pieces = 0
        elif kind == _RST_STREAM:
            self._gone(stream)
        elif kind == _PING and flags & _ACK:
            self.unechoed -= 1
        elif kind == _DATA and not self._held(stream, length):
            return False
        if kind == _DATA and flags & _END_STREAM:
            self._refused.pop(stream, None)
        if heads:
            self._block, self._pieces = self._block + length, self._pieces + 1
        elif not self._carries(kind, flags, stream, length):
            self._allowed -= 1
        self._in_head, self._open_head = heads, heads and not flags & _END_HEADERS
        return self._block <= _HEAD_BYTES and self._pieces <= _HEAD_FRAMES and self._allowed >= 0

    def _held(self, stream: int, length: int) -> bool:
        """Count data of a call, which is refused where there is no room for it; false if it does not stop then."""
        if stream in self._refused:
            self._refused[stream] += length
            return self._refused[stream] <= _EXCESS
        if (held := self.calls.get(stream)) is not None:
            try:
                held.grow(length)
            except CertserveError as error:
                self._refused[stream] = length
                self._to_reset.append(stream)
                self._put_in(refusal.frames(stream, error))
        return True

    def _reset(self) -> None:
        """Tell the server, between two frames, to drop what it has of refused calls: their clients need not tell it."""
        if self._to_reset and self._frames.whole and not self._open_head:
            for stream in self._to_reset:
                self.pass_on(refusal.reset(stream, refusal.CANCEL))
                if (held := self.calls.pop(stream, None)) is not None:
                    held.shrink(held.size)
                    self.allow(-1)
            self._to_reset.clear()

    def _put_in(self, frames: bytes) -> None:
        if self.other is None:
            self._early += frames
        else:
            self.other.put_in(frames)

    def _gone(self, stream: int) -> None:
        self._refused.pop(stream, None)
        self._told.discard(stream)
        if (held := self.calls.pop(stream, None)) is not None:
            held.shrink(held.size)

    def _carries(self, kind: int, flags: int, stream: int, length: int) -> bool:
        """Whether there is some use in a frame: data, the end of a call, or the answer to a ping or to settings."""
        if kind == _DATA:
            return length >= _SMALL or bool(flags & _END_STREAM and stream in self.calls)
        return kind in (_SETTINGS, _PING) and bool(flags & _ACK)

    def _see_to_the_time(self) -> None:
        """A greeting and headers that have begun have to end in time."""
        more = self._silent() or self._open_head or (self._in_head and self._frames.left > 0)
        if not more and self._late is not None:
            self._late.cancel()
            self._late = None
        elif more and self._late is None:
            self._expect()

    def _silent(self) -> bool:
        """Whether not even one frame has come."""
        return self._hello is not None or not self._frames.any

    def _expect(self) -> None:
        self._late = asyncio.get_running_loop().call_later(self._door.head_s, self.cut)

    def answered(self, stream: int, refused: bool) -> None:
        """The server has ended this call, or refused it."""
        if stream in self.calls:
            self._gone(stream)
            self.allow(-1 if refused else _A_CALL)

    def told(self, stream: int) -> None:
        """The server has sent an answer to this call, which may have more."""
        if stream in self.calls:
            self._told.add(stream)
            self.allow(_AN_ANSWER)

    def was_read(self, stream: int, size: int) -> None:
        """The server has read so many bytes of this call: once that is answered they are no longer waited with."""
        if stream in self._told and (held := self.calls.get(stream)) is not None:
            held.shrink(min(size, held.size))

    def allow(self, frames: int) -> None:
        """Allow so many more small frames."""
        self._allowed = min(_SMALL_FRAMES, self._allowed + frames)

    def cut(self) -> None:
        """End the connection for what its client did."""
        metrics.REFUSED.labels("grpc").inc()
        self.abort()

    def abort(self) -> None:
        """End the connection now."""
        assert self.transport is not None
        self.transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        self._door.leave(self)
        if self._late is not None:
            self._late.cancel()
        self._waiting.clear()
        for stream in list(self.calls):
            self._gone(stream)
        if self.other is not None:
            self.other.end()


class _Server(_Side):
    """The side of gRPC's own server."""

    def __init__(self, client: _Client) -> None:
        self.other: _Client = client
        self._frames = Frames()
        self._open_head = False
        self._to_put_in: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        for kind, flags, stream, length in self._frames.heads(data):
            self._open_head = kind in (_HEADERS, _CONTINUATION) and not flags & _END_HEADERS
            if kind == _RST_STREAM or (kind in (_DATA, _HEADERS) and flags & _END_STREAM):
                self.other.answered(stream, kind == _RST_STREAM)
            elif kind == _DATA and length:
                self.other.told(stream)
            elif kind == _WINDOW_UPDATE:
                self.other.was_read(stream, length)
            elif kind == _PING and not flags & _ACK:
                self.other.unechoed += 1
        self.other.allow(_A_KIB * (len(data) // 1024))
        self.pass_on(data)
        self._put_in()
        self.other.end_if_done()

    def put_in(self, frames: bytes) -> None:
        """Send the client these frames, after the server's first and between two of them."""
        self._to_put_in.append(frames)
        self._put_in()

    def _put_in(self) -> None:
        if self._to_put_in and self._frames.any and self._frames.whole and not self._open_head:
            self.pass_on(b"".join(self._to_put_in))
            self._to_put_in.clear()

    def connection_lost(self, error: Exception | None) -> None:
        self.other.end()


def _affordable() -> int:
    """The connections for which there are descriptors: a quarter of the process's, half being for HTTP."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _CONNECTIONS if soft == resource.RLIM_INFINITY else max(16, min(_CONNECTIONS, soft // (4 * _DESCRIPTORS)))
