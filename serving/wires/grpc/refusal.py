"""The door's own frames: the refusal of a call before gRPC's server has read it, and the farewell of a connection."""

from __future__ import annotations

import base64
from urllib.parse import quote

from serving.errors import CertserveError
from serving.wires.grpc.frame import status
from serving.wires.trace import known

_HEADERS, _RST_STREAM, _PING, _GOAWAY = 1, 3, 6, 7
_NO_FAULT, CANCEL = 0, 8
_LARGEST = 2**31 - 1
_END_OF_ALL = 0b101  # of the headers and of the stream
_OK = b"\x88"  # `:status: 200`, as the table that both sides know has it
_PRINTABLE = " !\"#$&'()*+,-./:;<=>?@[]^_`{|}~"


def frames(stream: int, error: CertserveError) -> bytes:
    """Trailers that carry the error as every other has it, with a new id and trace, and a reset without a fault."""
    code, message, trailers = status(error, known({}))
    fields: dict[str, str | bytes] = {"content-type": "application/grpc", "grpc-status": str(code.value[0])}
    fields |= {"grpc-message": quote(message, safe=_PRINTABLE), **dict(trailers)}
    block = _OK + b"".join(_field(name, value) for name, value in fields.items())
    return _frame(_HEADERS, _END_OF_ALL, stream, block) + reset(stream, _NO_FAULT)


def reset(stream: int, code: int) -> bytes:
    """The frame that ends a call at once."""
    return _frame(_RST_STREAM, 0, stream, code.to_bytes(4))


def farewell() -> bytes:
    """That no call more is wanted on this connection, those on their way being welcome; and a ping, after whose echo there
    are none on their way.
    """
    return _frame(_GOAWAY, 0, 0, _LARGEST.to_bytes(4) + bytes(4)) + _frame(_PING, 0, 0, b"farewell")


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def _field(name: str, value: str | bytes) -> bytes:
    """A header written out and put into no table, so that whatever the server sends next is read as it was meant."""
    data = value.encode() if isinstance(value, str) else base64.b64encode(value).rstrip(b"=")
    return b"\x00" + b"".join(_length(len(part)) + part for part in (name.encode(), data))


def _length(size: int) -> bytes:
    """A number of seven bits and, if it is larger, as many groups of seven as it takes."""
    if size < 127:
        return bytes([size])
    groups, size = bytearray([127]), size - 127
    while size >= 128:
        groups.append(size % 128 + 128)
        size //= 128
    return bytes([*groups, size])
