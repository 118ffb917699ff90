"""How connections are read: in small pieces, and in turns, so that however many send what costs much, others get theirs.

The loop would read as much of one connection as has come, and of all connections, before it looked at anything else; what
little costs much to parse, chunks of one byte above all, would hold up everybody meanwhile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from time import thread_time

from serving.wires.http.connection import HttpConnection

BYTES = 16 * 1024
_FIRST_BYTES = 4 * 1024  # of a connection of which nothing is known, or that is slow to parse
_TURN_S = 0.005
_SLOW_S = 0.001
_SLOW_FOR = 8  # pieces after one that was slow


class ReadingTurns:
    """What all connections of one server may take of one turn of the loop. Those that were quick so far come first."""

    def __init__(self) -> None:
        self._quick: deque[Pieces] = deque()
        self._slow: deque[Pieces] = deque()
        self._left = _TURN_S
        self._begun = False

    def over(self) -> bool:
        """Whether this turn's time is spent."""
        return self._left <= 0

    def spend(self, seconds: float) -> None:
        """Some of this turn was used."""
        self._left -= seconds
        self._go_on()

    def wait(self, connection: Pieces, slow: bool) -> None:
        """Have the connection go on in a later turn."""
        (self._slow if slow else self._quick).append(connection)
        self._go_on()

    def _go_on(self) -> None:
        if not self._begun:
            self._begun = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._begun, self._left = False, _TURN_S
        while self._left > 0 and (waiting := self._quick or self._slow):
            waiting.popleft().go_on()
        if self._quick or self._slow:
            self._go_on()


class Pieces(asyncio.BufferedProtocol):
    """Reads for a connection into `piece`, which many connections may share. A class of its own, since uvloop reads into
    buffers for those alone that are no `asyncio.Protocol`.
    """

    def __init__(self, connection: HttpConnection, piece: memoryview, turns: ReadingTurns) -> None:
        self._connection = connection
        self._piece, self._first = piece, piece[:_FIRST_BYTES]
        self._turns = turns
        self._room = self._first
        self._slow_for = 0
        self._cost_s = 0.0
        self._kept = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`, here and below."""
        self._connection.connection_made(transport)  # type: ignore[arg-type]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read the next bytes: they are passed on, or copied, before anything else is read."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """Some bytes of the client."""
        data, full = bytes(self._room[:nbytes]), nbytes == len(self._room)
        if self._kept or self._turns.over():
            self._kept += data
        else:
            self._pass_on(data)
        if (full or self._slow_for or self._kept) and not self._connection.transport.is_closing():
            self._connection.transport.pause_reading()
            self._turns.wait(self, bool(self._slow_for))

    def go_on(self) -> None:
        """It is this connection's turn: pass on what it has sent, and read more."""
        kept, self._kept = self._kept, b""
        if self._connection.transport.is_closing():
            return
        if kept:
            self._pass_on(kept)
        self._turns.spend(self._cost_s)  # as much is to be expected of what it reads next
        if not (self._connection.flow.read_paused or self._connection.transport.is_closing()):
            self._connection.transport.resume_reading()

    def _pass_on(self, data: bytes) -> None:
        began = thread_time()
        self._connection.data_received(data)
        self._cost_s = thread_time() - began
        self._slow_for = _SLOW_FOR if self._cost_s > _SLOW_S else max(0, self._slow_for - 1)
        self._room = self._first if self._slow_for else self._piece
        self._turns.spend(self._cost_s)

    def eof_received(self) -> bool:
        """Whether the connection stays open for the answer."""
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not take what is written."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It does again."""
        self._connection.resume_writing()
