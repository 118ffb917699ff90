"""The port of all readers: labelled inputs that are walked through in batches, never held as a whole."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

UNLABELLED = -1
"""The label of an input that has none; nothing that fits or counts by label takes it."""


class DataError(ValueError):
    """A data set cannot be read; the message, of one line, names the file and the row, and how to mend it."""


@dataclass(frozen=True, eq=False, slots=True)
class Batch:
    """Some rows: inputs [n, *shape] of numbers as they are stored, and labels int64 [n]."""

    inputs: NDArray[np.generic]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)


RowReader = Callable[[range, int], Iterator[Batch]]
"""The rows at these places, which rise, in batches of at most so many rows."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Dataset:
    """Inputs in a fixed order, with their labels.

    `units`: `grid` where the numbers are grid integers (8-bit pictures, and arrays of integers), `values` where they are in
    the caller's units. `pictures`: inputs are [height, width, channels]. `names` are the labels by index; with `numbered`
    the data hold the indices themselves, and the names say no more. `columns` are those of a table. Without labels there
    are no names, and every label is `UNLABELLED`. `files` are all that was read, in the order of the rows. `part` tells rows
    apart that files and places do not.
    """

    source: str
    shape: tuple[int, ...]
    units: Literal["grid", "values"]
    names: tuple[str, ...]
    places: range
    files: tuple[Path, ...]
    read: RowReader
    numbered: bool = False
    pictures: bool = False
    columns: tuple[str, ...] = ()
    part: str = ""

    def __len__(self) -> int:
        return len(self.places)

    def batches(self, rows: int, start: int = 0) -> Iterator[Batch]:
        """All rows from `start` on, `rows` at a time (the last batch may be shorter). The same rows every time.

        Raises `DataError` for a row that cannot be read; the rows before it have come.
        """
        if rows < 1 or start < 0:
            raise ValueError(f"expected batches of one row or more from row 0 or later; got {rows} and {start}")
        if places := self.places[start:]:
            yield from _rebatched(self.read(places, rows), rows)

    def every(self, step: int) -> Dataset:
        """The data set of each `step`-th row, the first among them."""
        return replace(self, places=self.places[::step])

    def first(self, rows: int) -> Dataset:
        """The data set of the first rows."""
        return replace(self, places=self.places[:rows])

    def only(self, chosen: NDArray[np.int64]) -> Dataset:
        """The data set of the rows at these places of this one, one or more, which rise."""

        def read(places: range, rows: int) -> Iterator[Batch]:
            wanted = chosen[places.start : places.stop : places.step]
            at = int(wanted[0])
            for batch in self.batches(rows, at):
                inside = np.isin(np.arange(at, at + len(batch)), wanted)
                at += len(batch)
                if inside.any():
                    yield Batch(batch.inputs[inside], batch.labels[inside])
                if at > wanted[-1]:
                    return

        part = hashlib.sha256(f"{self.places!r}{self.part}".encode() + chosen.astype("<i8").tobytes()).hexdigest()
        return replace(self, places=range(len(chosen)), read=read, part=part)

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of names and bytes of all files, and of which rows are meant: the data set's provenance."""
        total = hashlib.sha256(repr(self.places).encode() + self.part.encode())
        for path in self.files:
            name = path.relative_to(self.source) if path.is_relative_to(self.source) else path.name
            with path.open("rb") as stream:
                content = hashlib.file_digest(stream, "sha256").digest()
            total.update(hashlib.sha256(str(name).encode()).digest() + content)
        return "sha256:" + total.hexdigest()


def _rebatched(parts: Iterable[Batch], rows: int) -> Iterator[Batch]:
    """The same rows in batches of exactly `rows`, but the last."""
    kept: list[Batch] = []
    waiting = 0
    for part in parts:
        kept.append(part)
        waiting += len(part)
        while waiting >= rows:
            whole = _joined(kept)
            yield Batch(whole.inputs[:rows], whole.labels[:rows])
            waiting -= rows
            kept = [Batch(whole.inputs[rows:], whole.labels[rows:])] if waiting else []
    if waiting:
        yield _joined(kept)


def _joined(parts: list[Batch]) -> Batch:
    if len(parts) == 1:
        return parts[0]
    return Batch(np.concatenate([each.inputs for each in parts]), np.concatenate([each.labels for each in parts]))


def picked(batches: Iterable[Batch], first: int, places: range) -> Iterator[Batch]:
    """Of rows that come one after the other from row `first` on, those at `places`; nothing is read beyond the last."""
    at = first
    for batch in batches:
        inside = np.arange(at, at + len(batch))
        wanted = (inside >= places.start) & (inside < places.stop) & ((inside - places.start) % places.step == 0)
        at += len(batch)
        if wanted.all():
            yield batch
        elif wanted.any():
            yield Batch(batch.inputs[wanted], batch.labels[wanted])
        if at > places[-1]:
            return
