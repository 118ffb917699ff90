"""What the gateways of one deployment tell each other of quotas: what callers have paid at each, where all can read it.

A gateway that has gone has told what was paid there; what was told on another day is taken away by whoever finds it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from typing import Protocol


class SharedStore(Protocol):
    """Values by key, which all gateways share. It is asked by a thread, so it may wait."""

    def put(self, key: str, value: bytes) -> None:
        """Keep a value in place of the one before."""
        ...

    def get(self, key: str) -> bytes | None:
        """The value, if there is one."""
        ...

    def names(self) -> Iterable[str]:
        """The key of every value."""
        ...

    def delete(self, key: str) -> None:
        """Take a value away, if it is there."""
        ...


class SharedUse:
    """One gateway's part."""

    def __init__(self, store: SharedStore) -> None:
        self._store = store
        self._own = uuid.uuid4().hex

    def exchanged(self, day: int, paid: dict[str, int]) -> dict[str, dict[str, int]]:
        """Tell what callers have `paid` here on a `day`; returns what the others say of it, by gateway."""
        if paid:
            self._store.put(self._own, json.dumps({"day": day, "paid": paid}).encode())
        found = {}
        for key in self._store.names():
            if key == self._own or (value := self._store.get(key)) is None:
                continue
            told = json.loads(value)
            if told["day"] == day:
                found[key] = told["paid"]
            elif told["day"] < day:
                self._store.delete(key)
        return found
