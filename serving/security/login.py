"""Whom a server lets in, by its settings: bearers of a key, of a token, or of either."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from serving.config import Settings
from serving.errors import Unauthenticated
from serving.security import key_set
from serving.security.callers import READ, Caller, Callers, Quota
from serving.security.fetched import Fetched
from serving.security.keys import PREFIX, Keys
from serving.security.tokens import Accepted, KeySource, Tokens
from serving.security.watched import Watched

_VISITOR = Caller(name="", scopes=frozenset({READ}))
"""Whoever brings no credentials, where metadata are for everybody."""


class Login:
    """See `Callers`: `Authorization: Bearer <key or token>`, the same field on both wires."""

    def __init__(self, keys: Keys | None, tokens: Tokens | None, open_metadata: bool) -> None:
        self._keys = keys
        self._tokens = tokens
        self._open_metadata = open_metadata

    def caller(self, fields: Mapping[str, str]) -> Caller:
        """See `Callers.caller`. What was sent is never repeated."""
        given = fields.get("authorization")
        if given is None and self._open_metadata:
            return _VISITOR
        if given is None:
            raise Unauthenticated("nobody is served here without a key; send Authorization: Bearer <key>")
        scheme, _, credential = given.partition(" ")
        if scheme.lower() == "bearer":
            if self._keys is not None and credential.startswith(PREFIX):
                return self._keys.caller(credential)
            if self._tokens is not None:
                return self._tokens.caller(credential)
        raise Unauthenticated("what is sent is no key of this server; send Authorization: Bearer <key>")


def login(settings: Settings) -> Callers | None:
    """Who tells callers by these settings; None where nobody is asked. Raises `SecurityError`."""
    quota = Quota(draws_per_second=settings.caller_draws_per_second, draws_per_day=settings.caller_draws_per_day)
    keys = Keys(settings.keys_file, quota=quota) if settings.keys_file else None
    tokens = None
    if settings.jwt_keys:
        accepted = Accepted(
            issuer=settings.jwt_issuer, audience=settings.jwt_audience, leeway_s=float(settings.jwt_leeway_s)
        )
        tokens = Tokens(_key_source(settings.jwt_keys), accepted, quota=quota)
    return None if keys is None and tokens is None else Login(keys, tokens, settings.metadata == "open")


def _key_source(place: str) -> KeySource:
    return Fetched(place) if "://" in place else _FromFile(Path(place))


class _FromFile(Watched[list[key_set.PublicKey]]):
    def __init__(self, file: Path) -> None:
        super().__init__([file], lambda contents: key_set.parse(contents[0]))

    def missing(self) -> None:
        """Nothing: the file is looked at all the time."""
