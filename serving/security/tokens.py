"""JSON Web Tokens: signed by an issuer whose public keys are known, for this audience, within their time.

PyJWT checks the signature, by the one algorithm that the key is for. What is signed is read here, strictly: an issuer's
`exp` is a number, and a text that looks like one is none.
"""

from __future__ import annotations

import base64
import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import jwt
import msgspec

from certify import strict_json
from serving.errors import Unauthenticated, Unavailable
from serving.security.callers import NO_QUOTA, SCOPES, Caller, Quota
from serving.security.key_set import ALGORITHMS, PublicKey

_MOST_CHARACTERS = 8_192
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_HEADER = {"alg", "typ", "kid", "x5t", "x5t#S256"}  # a header that wants more, a key of its own above all, is refused
_TYPES = {"jwt", "at+jwt", "application/at+jwt"}
_TRIED = 4  # keys, where the token does not say which
_Texts = str | list[str]


class _Header(msgspec.Struct, frozen=True):
    alg: str
    typ: str = "JWT"
    kid: str | None = None


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,128}\Z")]
    aud: _Texts
    exp: float
    nbf: float = -math.inf
    iat: float = -math.inf
    scope: _Texts = ""
    scp: _Texts = ""


class KeySource(Protocol):
    """Where the issuer's keys come from."""

    @property
    def now(self) -> Sequence[PublicKey] | None:
        """The keys; None where they are not known."""
        ...

    def missing(self) -> None:
        """A token names a key that is not there: there may be new ones."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """Whose tokens are accepted, for whom, and how far the clocks may be apart."""

    issuer: str
    audience: str
    leeway_s: float


class Tokens:
    """The callers that bear a token. Their names begin with "jwt:", so that none is taken for that of a key."""

    def __init__(
        self,
        keys: KeySource,
        accepted: Accepted,
        clock: Callable[[], float] = time.time,
        quota: Quota = NO_QUOTA,
    ) -> None:
        self._quota = quota or None
        self._keys = keys
        self._accepted = accepted
        self._clock = clock

    def caller(self, token: str) -> Caller:
        """Who bears this token. Raises `Unauthenticated`, or `Unavailable` where the issuer's keys are not known."""
        if len(token) > _MOST_CHARACTERS:
            raise Unauthenticated(f"the token is too long; expected {_MOST_CHARACTERS} characters at most")
        if not _FORM.fullmatch(token):
            raise Unauthenticated("what is sent is neither a key nor a token; send Authorization: Bearer <key>")
        claims = self._claims(self._signed(token, _header(token)))
        asked = {scope for field in (claims.scope, claims.scp) for scope in _listed(field)}
        return Caller(name=f"jwt:{claims.sub}", scopes=frozenset(SCOPES) & asked, quota=self._quota)

    def _signed(self, token: str, header: _Header) -> bytes:
        """What the issuer has signed."""
        known = self._keys.now
        if known is None:
            raise Unavailable("the keys of the tokens' issuer are not known at this moment; try again", retry_after_s=5)
        fitting = [each for each in known if each.algorithm == header.alg and _may_be_meant(each, header)]
        if not fitting:
            self._keys.missing()
        for each in fitting[:_TRIED]:
            try:
                payload: bytes = jwt.PyJWS(algorithms=[each.algorithm]).decode(token, each.key, [each.algorithm])
            except jwt.exceptions.PyJWTError:
                continue
            return payload
        raise Unauthenticated("no key of the issuer has signed this token; get a new one")

    def _claims(self, payload: bytes) -> _Claims:
        """What is signed, if it holds here and now."""
        accepted, now = self._accepted, self._clock()
        try:
            claims = msgspec.convert(strict_json.loads(payload), _Claims)
        except (ValueError, msgspec.ValidationError):
            raise Unauthenticated("the token lacks iss, sub, aud or exp, or one of them is no such thing") from None
        if claims.iss != accepted.issuer:
            raise Unauthenticated("the token is of another issuer than the one that is believed here")
        if accepted.audience not in ([claims.aud] if isinstance(claims.aud, str) else claims.aud):
            raise Unauthenticated("the token is for another audience than this server")
        if not (math.isfinite(claims.exp) and now < claims.exp + accepted.leeway_s):
            raise Unauthenticated("the token has expired; get a new one")
        if max(claims.nbf, claims.iat) > now + accepted.leeway_s:
            raise Unauthenticated("the token is not valid yet; are the clocks right?")
        return claims


def _header(token: str) -> _Header:
    """The head of a token, which nobody has signed yet: it chooses among known keys and nothing else."""
    part = token.partition(".")[0]
    try:
        document = strict_json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
        header = msgspec.convert(document, _Header)
    except (ValueError, msgspec.ValidationError):
        raise Unauthenticated("the head of the token cannot be read; get a new one") from None
    assert isinstance(document, dict)
    if not document.keys() <= _HEADER or header.typ.lower() not in _TYPES:
        raise Unauthenticated(f"the head of the token has more than {', '.join(sorted(_HEADER))}; it is not accepted")
    if header.alg not in ALGORITHMS:
        raise Unauthenticated(f"the token is not signed by one of {', '.join(ALGORITHMS)}")
    return header


def _may_be_meant(key: PublicKey, header: _Header) -> bool:
    return header.kid is None or key.name is None or key.name == header.kid


def _listed(field: _Texts) -> list[str]:
    return field.split(" ") if isinstance(field, str) else field
