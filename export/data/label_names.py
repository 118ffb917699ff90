"""From what a file holds as labels to indices and names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from export.data.dataset import UNLABELLED, DataError

MOST_LABELS = 2**16


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
        text = str(int(label)) if isinstance(label, bool | np.bool_) else "" if label is None else str(label).strip()
        if not text or isinstance(label, float | np.floating):
            raise DataError(
                f"{self.where}, {self.unit} {row}: the label is {label!r}; expected a whole number or a name in each row"
            )
        return text

    def table(self) -> Labels:
        """Indices and names: numbers from 0 stand for themselves, anything else is sorted and counted through."""
        if self.seen and all(each.isascii() and each.isdigit() for each in self.seen):
            largest = max(map(int, self.seen))
            if largest >= MOST_LABELS:
                raise DataError(f"{self.where} has the label {largest}; expected numbers from 0 to {MOST_LABELS - 1}")
            return Labels(tuple(map(str, range(largest + 1))), True, {each: int(each) for each in self.seen})
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
        plain = (str(int(each)) if isinstance(each, bool | np.bool_) else str(each).strip() for each in labels)
        return np.array([self.index[each] for each in plain], dtype=np.int64)


NO_LABELS = Labels((), False, {})


def none(rows: int) -> NDArray[np.int64]:
    """The labels of rows that have none."""
    return np.full(rows, UNLABELLED, dtype=np.int64)
