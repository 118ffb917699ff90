"""How far a long run is: a bar where somebody watches a terminal, else a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, Self, TypeVar

T = TypeVar("T", covariant=True)
EVERY_S = 30.0


class ProgressBar(Protocol[T]):
    """As tqdm has it: the items are walked through, or counted by `update`."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: object) -> None: ...
    def __iter__(self) -> Iterator[T]: ...

    def update(self, n: int = 1) -> object:
        """`n` more are done."""
        ...

    def set_postfix(self, **values: object) -> None:
        """What to say beside the count."""
        ...


def progress(
    items: Sequence[T] = (),
    *,
    what: str,
    total: int | None = None,
    initial: int = 0,
    unit: str = "it",
    quiet: bool = False,
) -> ProgressBar[T]:
    """Tells on standard error how far `what` is, through `items` or up to `total`; nothing if `quiet`.

    `initial` of them were done by an earlier run, and do not count where the time left is forecast.
    """
    total = len(items) if total is None else total
    if sys.stderr.isatty() or quiet:
        from tqdm import tqdm  # not installed where bundles are only served

        bar: ProgressBar[T] = tqdm(items, total=total, initial=initial, desc=what, unit=unit, disable=quiet, leave=None)
        return bar
    return Lines(items, total, what, initial)


class Lines(Generic[T]):
    """A line now and then, for a log. Bars that follow each other share the time of the last line."""

    _said: float | None = None

    def __init__(self, items: Iterable[T], total: int, what: str, initial: int = 0) -> None:
        self._items, self._total, self._what = items, total, what
        self._done, self._initial, self._beside = initial, initial, ""
        self._started = time.monotonic()
        Lines._said = Lines._said or time.monotonic()  # the first line of a run comes after half a minute, too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def __iter__(self) -> Iterator[T]:
        for each in self._items:
            yield each
            self.update()

    def update(self, n: int = 1) -> None:
        """`n` more are done."""
        self._done += n
        now = time.monotonic()
        if now - (Lines._said or now) >= EVERY_S:
            Lines._said = now
            left = _spelled((now - self._started) / (self._done - self._initial) * max(0, self._total - self._done))
            line = f"{self._what}: {self._done} of {self._total}{self._beside}, about {left} left"
            print(line, file=sys.stderr, flush=True)

    def set_postfix(self, **values: object) -> None:
        """What to say beside the count."""
        self._beside = "".join(f", {name} {value}" for name, value in values.items())


def _spelled(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{round(seconds)} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{minutes / 60:.1f} h"
