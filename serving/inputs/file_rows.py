"""What files give: integers that are on the grid already, and what had to be done to each file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    _Array = np.ndarray[Any, np.dtype[np.int32]]
else:
    _Array = np.ndarray


class FileRows(_Array):
    """Rows (n, *shape) of grid integers; `treated` says for each row, in words, what was done to its file before."""

    treated: tuple[tuple[str, ...], ...]

    def __array_finalize__(self, other: Any) -> None:
        self.treated = getattr(other, "treated", ())


class TreatedRow(_Array):
    """One row (*shape) as a reader gives it, where something had to be done to the file: `said` in words."""

    said: tuple[str, ...]

    def __array_finalize__(self, other: Any) -> None:
        self.said = getattr(other, "said", ())


def treated(row: NDArray[np.int32], said: Sequence[str]) -> NDArray[np.int32]:
    """The row, with what was done to its file."""
    if not said:
        return row
    found = row.view(TreatedRow)
    found.said = tuple(said)
    return found


def together(rows: Sequence[NDArray[np.int32]]) -> FileRows:
    """The rows as one array, with what was done to each."""
    arrays = [np.asarray(row) for row in rows]
    found = (arrays[0][None] if len(arrays) == 1 else np.stack(arrays)).view(FileRows)
    found.treated = tuple(getattr(row, "said", ()) for row in rows)
    return found
