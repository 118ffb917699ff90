"""How a connection is read: in small pieces, between which the others have their turn.

The loop would read as much of one connection as has come, and what little costs much to parse, chunks of one byte above
all, would hold up everybody else meanwhile.
"""

from __future__ import annotations

import asyncio

from serving.wires.http.connection import HttpConnection

BYTES = 16 * 1024


class Pieces(asyncio.BufferedProtocol):
    """Reads for a connection into `piece`, which many connections may share. A class of its own, since uvloop reads into
    buffers for those alone that are no `asyncio.Protocol`.
    """

    def __init__(self, connection: HttpConnection, piece: memoryview) -> None:
        self._connection = connection
        self._piece = piece

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`, here and below."""
        self._connection.connection_made(transport)  # type: ignore[arg-type]

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where to read the next bytes: they are passed on before anything else is read."""
        return self._piece

    def buffer_updated(self, nbytes: int) -> None:
        """Some bytes of the client."""
        connection = self._connection
        connection.data_received(bytes(self._piece[:nbytes]))
        if nbytes == len(self._piece) and not connection.transport.is_closing():
            connection.transport.pause_reading()
            connection.loop.call_soon(self._read_on)

    def _read_on(self) -> None:
        if not (self._connection.flow.read_paused or self._connection.transport.is_closing()):
            self._connection.transport.resume_reading()

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
