"""HTTP/2 by hand, for what no client library sends."""

from __future__ import annotations

import asyncio
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY, CONTINUATION = 0, 1, 3, 4, 7, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def integer(value, bits, first=0):
    """A number as header compression has it."""
    most = (1 << bits) - 1
    if value < most:
        return bytes([first | value])
    out, value = bytes([first | most]), value - most
    while value >= 128:
        out, value = out + bytes([value % 128 + 128]), value // 128
    return out + bytes([value])


def header(name, value):
    """One header, written out and put into no table."""
    return b"\x00" + b"".join(integer(len(text), 7) + text for text in (name, value))


PING = frame(6, 0, 0, b"12345678")


def head(path=b"/inference.GRPCInferenceService/ServerLive"):
    """The headers of a call."""
    rest = {b":path": path, b":authority": b"x", b"te": b"trailers", b"content-type": b"application/grpc"}
    return b"\x83\x86" + b"".join(header(name, value) for name, value in rest.items())


class Connection:
    """A connection that keeps what it is sent, and whether it is still open."""

    def __init__(self, reader, writer):
        self._reader, self._writer = reader, writer
        self.received = b""
        self.sent = 0
        self.open = True
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def open(cls, port, preface=PREFACE + frame(SETTINGS, 0, 0)):
        self = cls(*await asyncio.open_connection("127.0.0.1", port))
        await self.send(preface)
        return self

    async def _read(self):
        try:
            while data := await self._reader.read(2**16):
                self.received = (self.received + data)[-(2**16) :]
        except OSError:
            pass
        self.open = False

    async def send(self, data):
        """Whether it could be sent."""
        try:
            self._writer.write(data)
            await self._writer.drain()
            self.sent += len(data)
        except OSError:
            self.open = False
        return self.open

    async def closed(self, seconds):
        """Whether the server closes it within that time."""
        await asyncio.wait([self._reading], timeout=seconds)
        return not self.open

    async def close(self):
        self._writer.close()
        self._reading.cancel()
