"""What callers may draw, and have: a rate, of which ten seconds may be saved up, and a sum for each day (UTC). Pure.

A request is let in while the caller is owed something after what its requests in flight are expected to take, and pays in
the end what it took. So over time nobody draws more than the quota; at one moment the excess is what requests in flight
take beyond what rows of that caller have taken lately. Gateways tell each other what was paid (`told`, `heard`) several
times a second: that much later they know it, and by so much more a caller of several may exceed the rate for a moment.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from serving.errors import Overloaded
from serving.security.callers import Caller, Quota

_SAVED_S = 10.0
_DAY_S = 86_400
_AT_FIRST, _LATELY = 1_024, 8
_KEPT = 10_000


@dataclass(slots=True)
class _Account:
    """One caller's: `owed` draws at `at`; `paid` in this gateway and `others` elsewhere, on `day`; expected `in_flight`."""

    owed: float
    at: float
    day: int
    paid: int = 0
    others: int = 0
    in_flight: float = 0.0
    a_row: float = _AT_FIRST


class Bill:
    """What one request has taken so far; what it is not told it takes to be what was expected."""

    def __init__(self, expected: float) -> None:
        self.draws = math.ceil(expected)

    def took(self, draws: int) -> None:
        """All that the request took."""
        self.draws = draws


class Ledger:
    """The accounts of all callers that have a quota."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds since 1970, by which days begin."""
        self._clock = clock
        self._accounts: dict[str, _Account] = {}
        self._heard: dict[str, Mapping[str, int]] = {}

    @contextmanager
    def charged(self, caller: Caller, rows: int, most: int) -> Iterator[Bill]:
        """While a request of so many rows, of `most` draws each at most, is answered. Raises `Overloaded`; what ends in an
        error before it is answered costs nothing.
        """
        assert caller.quota is not None
        account = self._account(caller.name, caller.quota)
        self._refuse(account, caller.quota)
        expected = rows * min(float(most), account.a_row)
        account.in_flight += expected
        bill = Bill(expected)
        try:
            yield bill
        except Exception:
            bill.draws = 0
            raise
        finally:
            account.in_flight -= expected
            self._pay(account, bill.draws)
            if bill.draws:
                account.a_row += (bill.draws / rows - account.a_row) / _LATELY

    def said(self, caller: Caller) -> str:
        """What a caller may still draw, as RateLimit has it: of each quota the rest, and seconds till it is whole."""
        quota = caller.quota
        if quota is None or (account := self._accounts.get(caller.name)) is None:
            return ""
        parts, now = [], self._clock()
        if quota.draws_per_second:
            whole = math.ceil((_SAVED_S * quota.draws_per_second - account.owed) / quota.draws_per_second)
            parts.append(f'"second";r={max(0, int(account.owed))};t={max(0, whole)}')
        if quota.draws_per_day:
            rest = quota.draws_per_day - account.paid - account.others
            parts.append(f'"day";r={max(0, rest)};t={math.ceil(_DAY_S - now % _DAY_S)}')
        return ", ".join(parts)

    def told(self) -> tuple[int, dict[str, int]]:
        """Which day it is, and what each caller has paid here in all of it."""
        today = self._today()
        return today, {name: each.paid for name, each in self._accounts.items() if each.day == today and each.paid}

    def heard(self, gateways: Mapping[str, Mapping[str, int]]) -> None:
        """What others were `told`, by gateway. What they were told for the first time counts for the day alone."""
        for gateway, paid in gateways.items():
            before = self._heard.get(gateway, paid)
            for name, draws in paid.items():
                if (account := self._accounts.get(name)) is not None:
                    account.owed -= max(0, draws - before.get(name, 0))
        self._heard = dict(gateways)
        for name, account in self._accounts.items():
            account.others = self._elsewhere(name)

    def _elsewhere(self, name: str) -> int:
        return sum(paid.get(name, 0) for paid in self._heard.values())

    def _today(self) -> int:
        return int(self._clock() // _DAY_S)

    def _account(self, name: str, quota: Quota) -> _Account:
        now, most = self._clock(), _SAVED_S * quota.draws_per_second
        account = self._accounts.get(name)
        if account is None:
            self._forget()
            account = self._accounts[name] = _Account(most, now, self._today(), others=self._elsewhere(name))
        account.owed = min(most, account.owed + max(0.0, now - account.at) * quota.draws_per_second)
        account.at = now
        if account.day != self._today():
            account.day, account.paid, account.others = self._today(), 0, 0
        return account

    def _refuse(self, account: _Account, quota: Quota) -> None:
        rest = quota.draws_per_day - account.paid - account.others - account.in_flight
        if quota.draws_per_day and rest <= 0:
            raise Overloaded(
                f"the {quota.draws_per_day} draws of this day are taken, or about to be; try again tomorrow (UTC)",
                retry_after_s=math.ceil(_DAY_S - self._clock() % _DAY_S),
            )
        lacks = account.in_flight - account.owed
        if quota.draws_per_second and lacks >= 0:
            raise Overloaded(
                f"more than {quota.draws_per_second} draws a second are asked for; try again later, or ask for fewer",
                retry_after_s=max(1, math.ceil(lacks / quota.draws_per_second)),
            )

    def _pay(self, account: _Account, draws: int) -> None:
        account.owed -= draws
        account.paid += draws

    def _forget(self) -> None:
        """Of callers whom an issuer names there may be any number: the first of those that were longest here go."""
        if len(self._accounts) >= _KEPT:
            del self._accounts[next(iter(self._accounts))]
