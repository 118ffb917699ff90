"""API keys: who bears one, and what they may do. A key is 32 random bytes as text; the file of keys holds hashes alone.

    {"keys": [{"name": "camera", "sha256": "...", "scopes": ["infer"], "expires": "2030-01-01T00:00:00Z"}]}

A key is looked up by its hash, so how long that takes tells nothing of how much of a wrong one was right; and since keys are
random, not chosen, one pass of SHA-256 is as good as any slow hash.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from certify import strict_json
from serving.errors import Unauthenticated, Unavailable
from serving.security.callers import NO_QUOTA, Caller, Quota
from serving.security.watched import Watched

PREFIX = "cs-"
"""What every key begins with, so that it is told from a token, and found by whoever looks for lost secrets."""
_MOST_KEYS = 10_000
_audit = logging.getLogger("certserve.audit")
_CallerName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._@-]{1,64}\Z")]
MOST_WEIGHT = 1_000
_Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    """One key as the file has it. A name may have several, so that one can follow another."""

    name: _CallerName
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    scopes: list[Literal["infer", "read", "admin"]]
    expires: _Moment | None = None
    revoked: _Moment | None = None
    draws_per_second: _Count | None = None
    draws_per_day: _Count | None = None
    weight: Annotated[int, msgspec.Meta(ge=1, le=MOST_WEIGHT)] = 1

    @property
    def id(self) -> str:
        """Which key it is, for people."""
        return self.sha256[:12]


class _KeysFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    keys: list[Key]


def new() -> str:
    """A key that nobody has."""
    return PREFIX + secrets.token_urlsafe(32)


def hashed(key: str) -> str:
    """What the file keeps of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def parse(data: bytes) -> list[Key]:
    """The keys in a file. Raises `ValueError`, which repeats nothing of what could be a key."""
    try:
        document = strict_json.loads(data)
        found = msgspec.convert(document, _KeysFile).keys
    except msgspec.ValidationError as error:
        raise ValueError(f"{error}; expected the form that `certserve keys add` writes") from None
    except ValueError:
        raise ValueError("this is no JSON document of keys; `certserve keys add` writes one") from None
    if len(found) > _MOST_KEYS:
        raise ValueError(f"it has {len(found)} keys; expected {_MOST_KEYS} at most")
    if len({each.sha256 for each in found}) < len(found):
        raise ValueError("two of its keys are the same; expected each to be there once")
    return found


def written(keys: Sequence[Key]) -> bytes:
    """The file of some keys."""
    return msgspec.json.format(msgspec.json.encode(_KeysFile(list(keys))), indent=1) + b"\n"


@dataclass(frozen=True, slots=True)
class _Borne:
    caller: Caller
    until: float


class Keys:
    """The callers that bear a key of a file, which is watched: one that is revoked there is refused within a second."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time, quota: Quota = NO_QUOTA) -> None:
        """`quota` is that of keys that have none of their own. Raises `SecurityError` where the file cannot be read."""
        self._clock = clock
        self._told: dict[str, Key] | None = None
        self._watched = Watched([file], lambda contents: _by_hash(self._audited(parse(contents[0])), quota))

    def _audited(self, keys: list[Key]) -> list[Key]:
        """The keys; what has changed since they were read before is put into the log."""
        now = {each.id: each for each in keys}
        before = now if self._told is None else self._told
        self._told = now
        for key_id in sorted(now.keys() | before.keys()):
            was, found = before.get(key_id), now.get(key_id)
            if was != found and (either := found or was):
                _audit.warning("key %s of %s: %s", key_id, either.name, _change(was, found))
        return keys

    def caller(self, key: str) -> Caller:
        """Who bears this key. Raises `Unauthenticated`, or `Unavailable` where the file cannot be read any more."""
        known = self._watched.now
        if known is None:
            raise Unavailable("the server cannot read its keys; try again later", retry_after_s=5)
        borne = known.get(hashed(key))
        if borne is None:
            raise Unauthenticated("the key is not known, or was revoked; ask the operator of the server for another")
        if self._clock() >= borne.until:
            raise Unauthenticated("the key has expired; ask the operator of the server for another")
        return borne.caller


def _change(was: Key | None, found: Key | None) -> str:
    if was is None:
        return "added"
    if found is None:
        return "removed"
    return "revoked" if found.revoked and not was.revoked else "changed"


def _by_hash(keys: Sequence[Key], quota: Quota) -> Mapping[str, _Borne]:
    return {each.sha256: _borne(each, quota) for each in keys if each.revoked is None}


def _borne(key: Key, quota: Quota) -> _Borne:
    own = Quota(
        draws_per_second=quota.draws_per_second if key.draws_per_second is None else key.draws_per_second,
        draws_per_day=quota.draws_per_day if key.draws_per_day is None else key.draws_per_day,
    )
    until = float("inf") if key.expires is None else key.expires.timestamp()
    caller = Caller(name=key.name, scopes=frozenset(key.scopes), quota=own or None, weight=key.weight)
    return _Borne(caller, until)
