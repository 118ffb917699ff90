"""One walk through labelled data under noise, from which every score of the registry is fitted, in bounded memory.

Kept of N rows are counts, sums and scatter of their features (`certify.ood.mahalanobis.Moments`: two shards merge by
addition, as by Chan's formula) and a sample of a few thousand features, evenly spaced in the data, for what needs
features themselves. Features are those of one noisy draw of each row, keyed by the row: what is served is noisy, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from certify.ood.mahalanobis import Moments, unit
from certify.smoothing.law import Law
from export.build.checkpoint import Arrays, Checkpoint
from export.build.lattice import LatticeRows, label_places, lattices, with_places
from export.build.passes import BATCH, noisy_lattice, row_key
from export.bundle import InputSpec
from export.data import Dataset
from export.progress import ProgressBar, progress

FeaturesOf = Callable[[LatticeRows], tuple[NDArray[np.floating], NDArray[np.floating]]]
"""Lattice rows int32 [n, *shape] -> features [n, d] that enter the last layer, and logits [n, C]."""

BANK = 4_096
"""Features that are kept as they are: at least half of these where the data have so many rows."""


class FitError(ValueError):
    """Nothing can be fitted to these data; the message says why."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Gathered:
    """What is known of `rows` rows: moments of the features and of the unit features, and each `stride`-th feature.

    `right` counts rows whose largest logit was that of their label: a network in a wrong mode, or labels in another order,
    show themselves there.
    """

    plain: Moments
    units: Moments
    sample: NDArray[np.float32]
    stride: int
    rows: int
    right: int

    @property
    def accuracy(self) -> float:
        """Of single noisy draws."""
        return self.right / self.rows

    def add(self, features: NDArray[np.floating], logits: NDArray[np.floating], labels: NDArray[np.int64]) -> Gathered:
        """With a batch of features [n, d], logits [n, C] and labels [n] more."""
        chosen = features[-self.rows % self.stride :: self.stride].astype(np.float32)
        sample, stride = np.concatenate([self.sample, chosen]), self.stride
        while len(sample) > BANK:
            sample, stride = sample[::2], 2 * stride
        return Gathered(
            plain=self.plain.add(features, labels),
            units=self.units.add(unit(features), labels),
            sample=sample,
            stride=stride,
            rows=self.rows + len(labels),
            right=self.right + int(np.sum(logits.argmax(axis=1) == labels)),
        )

    @staticmethod
    def empty(features: NDArray[np.floating], classes: int) -> Gathered:
        """Nothing yet; the features [n, d] of a first batch fix the shifts."""
        return Gathered(
            plain=Moments.empty(features.mean(axis=0), classes),
            units=Moments.empty(unit(features).mean(axis=0), classes),
            sample=np.empty((0, features.shape[1]), np.float32),
            stride=1,
            rows=0,
            right=0,
        )

    def arrays(self) -> Arrays:
        """All of it, for a checkpoint."""
        return {
            **{f"{name}.{part}": getattr(getattr(self, name), part) for name in _MOMENTS for part in _PARTS},
            "sample": self.sample,
            "numbers": np.array([self.stride, self.rows, self.right], dtype=np.int64),
        }

    @staticmethod
    def of(arrays: Arrays) -> Gathered:
        """From what `arrays` gave."""
        plain, units = (Moments(*(arrays[f"{name}.{part}"] for part in _PARTS)) for name in _MOMENTS)
        stride, rows, right = map(int, arrays["numbers"])
        return Gathered(
            plain=plain,
            units=units,
            sample=arrays["sample"],
            stride=stride,
            rows=rows,
            right=right,
        )


_MOMENTS, _PARTS = ("plain", "units"), ("shift", "counts", "sums", "scatter")


def gather(
    dataset: Dataset,
    spec: InputSpec,
    labels: tuple[str, ...],
    law: Law,
    features_of: FeaturesOf,
    *,
    checkpoint: Path | None = None,
    identity: str = "",
    quiet: bool = False,
) -> Gathered:
    """Walk once through the data of a model that takes `spec` and has `labels`.

    With a `checkpoint` it goes on where it was broken off, to the same numbers bit for bit; `identity` then says what
    `features_of` and `law` are, by a digest. Raises `DataError`, `CheckpointError`, and `FitError` for labels without any
    row.
    """
    places = label_places(dataset, labels)
    kept = Checkpoint(checkpoint, f"fit {identity} {dataset.digest}" if checkpoint else "")
    found = kept.load()
    gathered = Gathered.of(found) if found else None
    start = gathered.rows if gathered else 0
    bar: ProgressBar[object] = progress(what="fit", total=len(dataset), initial=start, unit="row", quiet=quiet)
    with bar:
        for rows, each in lattices(dataset, spec, BATCH, start):
            noisy = [noisy_lattice(row, law, row_key("fit", start + place), 0, 1) for place, row in enumerate(rows)]
            features, logits = features_of(np.concatenate(noisy))
            gathered = gathered or Gathered.empty(features, len(labels))
            gathered = gathered.add(features, logits, with_places(each, places))
            start += len(rows)
            kept.keep(gathered.arrays())
            bar.update(len(rows))
    assert gathered is not None, "no data set is empty"
    kept.keep(gathered.arrays(), at_once=True)
    if (missing := np.flatnonzero(gathered.plain.counts < 1)).size:
        names = ", ".join(repr(labels[place]) for place in missing[:5])
        raise FitError(f"{dataset.source} has no row of {names}; every label of the model needs some to be fitted")
    return gathered
