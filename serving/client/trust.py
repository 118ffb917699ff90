"""TLS of the client's side: which authorities it believes, and what it shows of itself where a server asks (mTLS)."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from serving.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """`ca`: authorities in PEM that are believed instead of those that are known; `certificate` and `certificate_key`:
    the client's own pair, in PEM.
    """

    ca: str | Path | None = None
    certificate: str | Path | None = None
    certificate_key: str | Path | None = None

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.certificate_key is None):
            raise InvalidInput("a certificate of the client and its key go together; give both, or neither")

    def verify(self) -> ssl.SSLContext | bool:
        """What httpx calls so. Raises `InvalidInput` where a file cannot be used."""
        if self == Trust():
            return True
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.certificate_key)
        except OSError as error:  # an SSLError among them
            files = ", ".join(str(each) for each in (self.ca, self.certificate, self.certificate_key) if each)
            raise InvalidInput(f"{files}: {error.strerror or error}; expected PEM") from None
        return context

    def files(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """What gRPC's credentials are made of: authorities, key and certificate. Raises `InvalidInput`."""
        return _read(self.ca), _read(self.certificate_key), _read(self.certificate)


def _read(file: str | Path | None) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}; expected PEM") from None
