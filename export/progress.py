"""How far a long run is: a bar where somebody watches a terminal, else a line every half minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Generic, Protocol, Self, TypeVar

from tqdm import tqdm

T = TypeVar("T", covariant=True)
EVERY_S = 30.0


class Progress(Protocol[T]):
    """As tqdm has it: the items are walked through, or counted by `update`."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *raised: object) -> None: ...
    def __iter__(self) -> Iterator[T]: ...

    def update(self) -> object:
        """One more is done."""
        ...

    def set_postfix(self, **values: object) -> None:
        """What to say beside the count."""
        ...


def progress(
    items: Sequence[T] = (), *, what: str, total: int | None = None, unit: str = "it", quiet: bool = False
) -> Progress[T]:
    """Tells on standard error how far `what` is, through `items` or up to `total`; nothing if `quiet`."""
    total = len(items) if total is None else total
    if sys.stderr.isatty() or quiet:
        bar: Progress[T] = tqdm(items, total=total, desc=what, unit=unit, disable=quiet, leave=None)
        return bar
    return Lines(items, total, what)


class Lines(Generic[T]):
    """A line now and then, for a log. Bars that follow each other share the time of the last line."""

    _said: float | None = None

    def __init__(self, items: Iterable[T], total: int, what: str) -> None:
        self._items, self._total, self._what = items, total, what
        self._done, self._beside = 0, ""
        Lines._said = Lines._said or time.monotonic()  # the first line of a run comes after half a minute, too

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def __iter__(self) -> Iterator[T]:
        for each in self._items:
            yield each
            self.update()

    def update(self) -> None:
        """One more is done."""
        self._done += 1
        now = time.monotonic()
        if now - (Lines._said or now) >= EVERY_S:
            Lines._said = now
            print(f"{self._what}: {self._done} of {self._total}{self._beside}", file=sys.stderr, flush=True)

    def set_postfix(self, **values: object) -> None:
        """What to say beside the count."""
        self._beside = "".join(f", {name} {value}" for name, value in values.items())
