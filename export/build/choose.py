"""Which score serves: that which tells foreign inputs best, measured on held-out rows and on sets of foreign ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from certify.ood.scores import Scorer
from certify.smoothing.law import Law
from export.build.fit import FeaturesOf
from export.build.lattice import LatticeRows, lattices
from export.build.outside import auroc, foreign_sets
from export.build.passes import BATCH, noisy_lattice, row_key
from export.bundle import InputSpec
from export.data import Dataset
from export.progress import progress

MOST_ROWS = 2_000
"""Of each set: scores are compared with a standard error of about a hundredth, and memory is bounded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The score of the largest mean AUROC, and the AUROC of each score on each foreign set; one noisy draw a row."""

    name: str
    aurocs: Mapping[str, Mapping[str, float]]

    def table(self) -> str:
        """As Markdown, the best score first."""
        sets = list(next(iter(self.aurocs.values())))
        ordered = sorted(self.aurocs, key=lambda name: -_mean(self.aurocs[name]))
        lines = ["| score | mean AUROC | " + " | ".join(sets) + " |", "|-|-|" + "-|" * len(sets)]
        for name in ordered:
            values = " | ".join(f"{self.aurocs[name][each]:.3f}" for each in sets)
            lines.append(f"| {name} | {_mean(self.aurocs[name]):.3f} | {values} |")
        return "\n".join(lines)


def choose(
    scorers: Mapping[str, Scorer],
    held_out: Dataset,
    spec: InputSpec,
    law: Law,
    features_of: FeaturesOf,
    outside: Iterable[Dataset] = (),
    *,
    quiet: bool = False,
) -> Choice:
    """Measure every score on held-out rows that the fit has not seen, against foreign sets made of them and `outside`.

    The rows must not be those of the calibration: what is chosen by them is not independent of them.
    """
    inside = rows_of(held_out, spec)
    sets = foreign_sets(inside, spec, seed=0)
    sets |= {each.source: rows_of(each, spec) for each in outside}
    ordinary = _scores(scorers, inside, law, features_of, "inside", quiet)
    aurocs: dict[str, dict[str, float]] = {name: {} for name in scorers}
    for place, (name, rows) in enumerate(sets.items()):
        scores = _scores(scorers, rows, law, features_of, f"outside {place}", quiet)
        for scorer in scorers:
            aurocs[scorer][name] = auroc(ordinary[scorer], scores[scorer])
    return Choice(name=max(aurocs, key=lambda name: _mean(aurocs[name])), aurocs=aurocs)


def rows_of(dataset: Dataset, spec: InputSpec, most: int = MOST_ROWS) -> LatticeRows:
    """At most so many rows, evenly spaced, as inputs of the model."""
    some = dataset.every(max(1, -(-len(dataset) // most)))
    return np.concatenate([rows for rows, _ in lattices(some, spec, BATCH)])


def _scores(
    scorers: Mapping[str, Scorer],
    rows: LatticeRows,
    law: Law,
    features_of: FeaturesOf,
    purpose: str,
    quiet: bool,
) -> dict[str, NDArray[np.float64]]:
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in scorers}
    for first in progress(range(0, len(rows), BATCH), what=purpose, quiet=quiet):
        part = range(first, min(first + BATCH, len(rows)))
        noisy = [noisy_lattice(rows[row], law, row_key(purpose, row), 0, 1) for row in part]
        features, logits = features_of(np.concatenate(noisy))
        for name, scorer in scorers.items():
            found[name].append(scorer.scores(features, logits))
    return {name: np.concatenate(parts) for name, parts in found.items()}


def _mean(values: Mapping[str, float]) -> float:
    return float(np.mean(list(values.values())))
