"""From what a file holds as labels to indices and names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.data.dataset import UNLABELLED, DataError

MOST_LABELS = 2**16
_WHOLE = re.compile(r"[0-9]+(\.0*)?")


@dataclass(slots=True)
class LabelsFound:
    """The different labels of a data set, gathered in one walk. `where` and `unit` say in errors where they were."""

    where: str
    unit: str = "row"
    seen: set[str] = field(default_factory=set)

    def add(self, labels: Iterable[object], first: int) -> None:
        """Take the labels of the rows from `first` on: whole numbers, truth values, or text."""
        for row, label in enumerate(labels, first):
            self.seen.add(self._text(label, row))
        if len(self.seen) > MOST_LABELS:
            raise DataError(
                f"{self.where} has more than {MOST_LABELS} different labels; a label is a class, not a quantity: name"
                " another column, or make classes of it"
            )

    def _text(self, label: object, row: int) -> str:
        whole = isinstance(label, float | np.floating) and float(label).is_integer()
        if not (whole or isinstance(label, str | int | np.integer | np.bool_)) or not (text := _plain(label)):
            raise DataError(
                f"{self.where}, {self.unit} {row}: the label is {label!r:.80}; expected a whole number or a name in each"
                " row: fill it in, or leave the row out"
            )
        return text

    def table(self) -> Labels:
        """Indices and names: numbers from 0 stand for themselves, anything else is sorted and counted through.

        Where all are whole, numbers may be written as floats (1.0), as programs do with columns that once had gaps.
        """
        if self.seen and all(_WHOLE.fullmatch(each) for each in self.seen):
            index = {each: int(each.partition(".")[0]) for each in self.seen}
            largest = max(index.values())
            if largest >= MOST_LABELS:
                raise DataError(f"{self.where} has the label {largest}; expected numbers from 0 to {MOST_LABELS - 1}")
            return Labels(tuple(map(str, range(largest + 1))), True, index)
        names = tuple(sorted(self.seen))
        return Labels(names, False, {name: index for index, name in enumerate(names)})


@dataclass(frozen=True, slots=True)
class Labels:
    """Names by index, and the index of each label as it is written."""

    names: tuple[str, ...]
    numbered: bool
    index: Mapping[str, int]

    def of(self, labels: Iterable[object]) -> NDArray[np.int64]:
        """The indices of these labels."""
        return np.array([self.index[_plain(each)] for each in labels], dtype=np.int64)


def _plain(label: object) -> str:
    return str(int(label)) if isinstance(label, bool | np.bool_) else str(label).strip()


NO_LABELS = Labels((), False, {})


def none(rows: int) -> NDArray[np.int64]:
    """The labels of rows that have none."""
    return np.full(rows, UNLABELLED, dtype=np.int64)
