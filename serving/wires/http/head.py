"""The head of a request as it is judged before anything begins, and the answer to one that is refused."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus

from serving.errors import CertserveError, InvalidInput, NotOffered
from serving.wires.http.frame import error_headers, error_text, known_by

_HOST = re.compile(rb"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")
_FRAMING = (b"host", b"content-length", b"transfer-encoding")
_OF_THE_BODY = (b"content-type", b"content-encoding", b"inference-header-content-length")
"""What says how a body is read: given twice, it says two things."""
_LOOKED_AT = frozenset((*_FRAMING, *_OF_THE_BODY))


def check_head(fields: Iterable[tuple[bytes, bytes]], version: str, upgrade: bool) -> None:
    """Refuse heads that two readers may read in two ways, and codings that are not offered."""
    found = [(name, value.strip()) for name, value in fields if name in _LOOKED_AT]
    hosts, lengths, codings = ([value for name, value in found if name == each] for each in _FRAMING)
    if len(hosts) > 1 or (not hosts and version not in ("1.0", "0.9")) or not all(map(_HOST.fullmatch, hosts)):
        raise InvalidInput("expected one Host field with the server's name in it")
    if codings and (lengths or version == "1.0" or len(codings) > 1):
        raise InvalidInput(
            "expected Content-Length or one Transfer-Encoding, not both, and the latter in HTTP/1.1 alone"
        )
    if codings and codings[0].lower() != b"chunked":
        raise NotOffered(f"Transfer-Encoding {codings[0].decode('latin-1')!r:.80} is not read; expected chunked")
    names = [name for name, _ in found]
    for name in _OF_THE_BODY:
        if names.count(name) > 1:
            raise InvalidInput(f"{name.decode().title()} is given {names.count(name)} times; give it once")
    if upgrade and (codings or any(length != b"0" for length in lengths)):
        raise NotOffered("no other protocol is offered on this connection; leave the Upgrade field out")


def refusal(error: CertserveError, fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """An error as it is written where no application is asked: whole, with id and trace of a request with these `fields`."""
    text = error_text(error)
    headers = {
        **error_headers(error),
        "content-type": "application/json",
        "content-length": str(len(text)),
        "connection": "close",
        **dict(known_by(fields).fields()),
    }
    status = HTTPStatus(error.http_status)
    lines = [f"HTTP/1.1 {status.value} {status.phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join((*lines, "", "")).encode() + text
