"""An issuer's keys from a URL: read from time to time by a thread, never while a request waits, and bounded in whatever the
other side could choose.
"""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence

import httpx

from serving.security import key_set
from serving.security.key_set import PublicKey
from serving.security.watched import SecurityError

_log = logging.getLogger("certserve.security")
_EVERY_S, _AT_ONCE_S, _STALE_S = 300.0, 10.0, 3_600.0
_TIMEOUT_S, _IN_ALL_S = 5.0, 10.0
_MOST_BYTES = 2**18
_PLAIN = {"Accept": "application/json", "Accept-Encoding": "identity"}
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class Fetched:
    """See `KeySource`. Keys that could not be read again for an hour count no more."""

    def __init__(self, url: str, fetch: Callable[[str], bytes] | None = None) -> None:
        """Raises `SecurityError` for a URL that is neither HTTPS nor of this host."""
        parsed = _parsed(url)
        here = parsed.scheme == "http" and parsed.host in _LOOPBACK
        if not parsed.host or not (here or parsed.scheme == "https"):
            raise SecurityError(f"{url!r:.200} is not read; expected https://, or http:// of this host alone")
        self._url = url
        self._fetch = fetch or _fetched
        self._keys: Sequence[PublicKey] | None = None
        self._read_at = -_STALE_S
        self._said = ""
        self.wanted = threading.Event()
        threading.Thread(
            target=_go_on, args=(weakref.ref(self), self.wanted), daemon=True, name="certserve-keys"
        ).start()

    @property
    def now(self) -> Sequence[PublicKey] | None:
        """The keys; None where they were not read within the last hour."""
        return self._keys if time.monotonic() - self._read_at < _STALE_S else None

    def missing(self) -> None:
        """Read them soon."""
        self.wanted.set()

    def read(self) -> bool:
        """Read them once; whether that worked."""
        try:
            self._keys, self._read_at, said = key_set.parse(self._fetch(self._url)), time.monotonic(), ""
        except Exception as error:  # whatever it is: a thread that ended would read no new keys any more
            said = f"the keys at {self._url} cannot be read: {str(error) or type(error).__name__}"
        if said and said != self._said:
            _log.error("%s", said)
        self._said = said
        return not said


def _parsed(url: str) -> httpx.URL:
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise SecurityError(f"{url!r:.200} is no URL ({error}); expected that of a JWKS document") from None


def _go_on(reference: weakref.ref[Fetched], wanted: threading.Event) -> None:
    while (fetched := reference()) is not None:
        wanted.clear()
        worked = fetched.read()
        del fetched
        time.sleep(_AT_ONCE_S)  # nobody who invents names of keys has them read any oftener
        if worked:
            wanted.wait(_EVERY_S)


def _fetched(url: str) -> bytes:
    """The document, not redirected. Raises `ValueError` where it is too large, too slow or not there."""
    began, found = time.monotonic(), bytearray()
    with httpx.stream("GET", url, headers=_PLAIN, timeout=_TIMEOUT_S, follow_redirects=False) as answer:
        if answer.status_code != 200:
            raise ValueError(f"the answer was {answer.status_code}; expected 200")
        for piece in answer.iter_raw():
            found += piece
            if len(found) > _MOST_BYTES or time.monotonic() - began > _IN_ALL_S:
                raise ValueError(f"it is over {_MOST_BYTES} bytes, or takes over {_IN_ALL_S:g} s")
    return bytes(found)
