"""TLS of the server's side: one pair of certificate and key for all its ports, read again when it changes.

TLS 1.2 or 1.3, forward secrecy and authenticated encryption alone. What replaces the files is used for the connections that
come afterwards; while it cannot be used, a certificate without its key above all, the pair before it serves on.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from serving.config import Settings
from serving.security.watched import SecurityError, Watched

_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all as good


@dataclass(frozen=True, slots=True)
class Contexts:
    """How connections are secured: those of HTTP, metrics among them, and those of gRPC."""

    http: ssl.SSLContext
    grpc: ssl.SSLContext


class Tls(Watched[Contexts]):
    """The contexts of a server, as its files are `now`. With `client_ca` only clients that it has certified are let in."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Raises `SecurityError` where the files are no pair."""

        def read(_: Sequence[bytes]) -> Contexts:
            return Contexts(
                _context(certificate, key, client_ca, "http/1.1"), _context(certificate, key, client_ca, "h2")
            )

        super().__init__([certificate, key, *([client_ca] if client_ca else [])], read, keep=True)

    @property
    def http(self) -> ssl.SSLContext:
        """For a new connection of HTTP."""
        assert self.now is not None
        return self.now.http

    @property
    def grpc(self) -> ssl.SSLContext:
        """For a new connection of gRPC."""
        assert self.now is not None
        return self.now.grpc


def tls(settings: Settings) -> Tls | None:
    """The TLS of a server by its settings, None where it has none. Raises `SecurityError`."""
    if settings.tls_cert_file is None or settings.tls_key_file is None:
        return None
    return Tls(settings.tls_cert_file, settings.tls_key_file, settings.tls_client_ca_file)


def _context(certificate: Path, key: Path, client_ca: Path | None, protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols([protocol])
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
        if client_ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
    except (OSError, ValueError) as error:  # an SSLError among them
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise SecurityError(
            f"TLS cannot be had with {certificate} and {key}: {reason}; expected a pair in PEM"
        ) from None
    return context


def _no_password() -> str:
    raise ValueError("the key is encrypted")  # OpenSSL would ask at the terminal
