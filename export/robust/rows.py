"""All training rows in a file, as grid integers of the smallest type: read in any order, and never held in memory."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from export.build.lattice import label_places, lattices, with_places
from export.bundle import InputSpec
from export.data import UNLABELLED, DataError, Dataset
from export.progress import ProgressBar, progress

_ROWS = 256


@dataclass(frozen=True, eq=False, kw_only=True)
class StoredRows:
    """Grid integers [n, *shape], on disk, and their labels int64 [n]."""

    integers: NDArray[np.integer]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, places: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """The rows at these places: grid integers as floats, and labels."""
        return torch.from_numpy(self.integers[places].astype(np.float32)), torch.from_numpy(self.labels[places])


def values(spec: InputSpec, integers: Tensor) -> Tensor:
    """What grid integers [n, *shape], given as floats, stand for in the caller's units."""
    low, step = (torch.tensor(np.asarray(each), dtype=torch.float32) for each in (spec.low, spec.step))
    return low + step * integers


def stored(data: Dataset, spec: InputSpec, labels: tuple[str, ...], folder: Path) -> StoredRows:
    """The rows of a data set, from the folder where it holds these very ones, else written there."""
    known = json.dumps([data.digest, spec.model_dump_json(), list(labels)])
    note, file, named = folder / "rows.json", folder / "rows.npy", folder / "labels.npy"
    if not (note.exists() and note.read_text() == known):
        folder.mkdir(parents=True, exist_ok=True)
        note.unlink(missing_ok=True)
        _write(data, spec, label_places(data, labels), file, named)
        partial = note.with_suffix(".partial")
        partial.write_text(known)
        os.replace(partial, note)
    return StoredRows(integers=np.load(file, mmap_mode="r"), labels=np.load(named))


def _write(data: Dataset, spec: InputSpec, places: NDArray[np.int64], file: Path, named: Path) -> None:
    kind = np.min_scalar_type(int(spec.grid.tops.max()))
    kept = np.lib.format.open_memmap(file, mode="w+", dtype=kind, shape=(len(data), *spec.shape))
    truth = np.empty(len(data), np.int64)
    start = 0
    bar: ProgressBar[object] = progress(what="reading", total=len(data), unit="row")
    with bar:
        for lattice, labels in lattices(data, spec, _ROWS):
            kept[start : start + len(lattice)] = lattice
            truth[start : start + len(lattice)] = with_places(labels, places)
            start += len(lattice)
            bar.update(len(lattice))
    if (truth == UNLABELLED).any():
        raise DataError(f"{data.source} has rows without a label; nothing can be learnt from them: leave them out")
    kept.flush()
    np.save(named, truth)
