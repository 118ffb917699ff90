"""Everything that can be wrong with a request, in one flat tree.

    CertserveError
    ├── InvalidInput        400  INVALID_ARGUMENT      the request itself is wrong
    ├── Unauthenticated     401  UNAUTHENTICATED       nobody knows who asks
    ├── Forbidden           403  PERMISSION_DENIED     the caller is known, and may not do this
    ├── NotFound            404  NOT_FOUND             no such model, version or route
    ├── MethodNotAllowed    405  UNIMPLEMENTED
    ├── TooSlow             408  DEADLINE_EXCEEDED     the request did not come in time
    ├── TooLarge            413  RESOURCE_EXHAUSTED    the body is over the limit
    ├── UnsupportedMedia    415  UNIMPLEMENTED         content type or encoding
    ├── MalformedMessage    422  INTERNAL              over gRPC alone: bytes that are no message
    ├── Overloaded          429  RESOURCE_EXHAUSTED    with a retry hint
    ├── HeadTooLarge        431  RESOURCE_EXHAUSTED    the header fields are over the limit
    ├── Internal            500  INTERNAL              our fault
    ├── NotOffered          501  UNIMPLEMENTED         part of a protocol that is not built
    ├── Unavailable         503  UNAVAILABLE           starting, stopping, or the engine died; with a retry hint
    └── DeadlinePassed      504  DEADLINE_EXCEEDED     before even the base prediction

`code` is the canonical gRPC code by name; no wire library is imported. The message says what was wrong, what was
expected and how to mend it, and repeats only what the client sent. Errors cross process borders as values.
"""

from __future__ import annotations

SEE_LOG = "the operator's log says more"
"""What a message ends with that tells less than is known; whoever sends it logs it, with the request's id."""


class CertserveError(Exception):
    """Any refusal or failure that a client is told of."""

    code = "UNKNOWN"
    http_status = 500

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.message, self.retry_after_s)


def _rebuild(kind: type[CertserveError], message: str, retry_after_s: float | None) -> CertserveError:
    return kind(message, retry_after_s=retry_after_s)


class InvalidInput(CertserveError):
    """The request itself is wrong; sending it again will not help."""

    code, http_status = "INVALID_ARGUMENT", 400


class MalformedMessage(CertserveError):
    """A call without a message, or with bytes that are none; the fault is the client's, the code is gRPC's."""

    code, http_status = "INTERNAL", 422


class Unauthenticated(CertserveError):
    """The request does not say who asks, or not so that it can be believed; send credentials that the server knows."""

    code, http_status = "UNAUTHENTICATED", 401


class Forbidden(CertserveError):
    """The caller is known, and may not do this."""

    code, http_status = "PERMISSION_DENIED", 403


class NotFound(CertserveError):
    """No such model, version or route."""

    code, http_status = "NOT_FOUND", 404


class MethodNotAllowed(CertserveError):
    """The route exists, with another method."""

    code, http_status = "UNIMPLEMENTED", 405


class TooSlow(CertserveError):
    """The client did not send its request in time."""

    code, http_status = "DEADLINE_EXCEEDED", 408


class TooLarge(CertserveError):
    """The body is over the server's limit."""

    code, http_status = "RESOURCE_EXHAUSTED", 413


class UnsupportedMedia(CertserveError):
    """A content type or encoding that is not read."""

    code, http_status = "UNIMPLEMENTED", 415


class Overloaded(CertserveError):
    """More draws are owed than the server admits, or asked for than the caller may have; try again after `retry_after_s`."""

    code, http_status = "RESOURCE_EXHAUSTED", 429


class HeadTooLarge(CertserveError):
    """The request line and the header fields are over the server's limit."""

    code, http_status = "RESOURCE_EXHAUSTED", 431


class Internal(CertserveError):
    """The server's fault; the message holds no trace."""

    code, http_status = "INTERNAL", 500


class NotOffered(CertserveError):
    """Part of a protocol that this server does not implement."""

    code, http_status = "UNIMPLEMENTED", 501


class Unavailable(CertserveError):
    """Starting, stopping, or no engine could be reached in time; try again."""

    code, http_status = "UNAVAILABLE", 503


class DeadlinePassed(CertserveError):
    """The deadline came before even the base prediction."""

    code, http_status = "DEADLINE_EXCEEDED", 504
