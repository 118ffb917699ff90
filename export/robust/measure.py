"""What a network is worth before and after: accuracy without noise, and certified accuracy by a quick count of draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from certify.smoothing.law import Law
from export.build.lattice import label_places, lattices, with_places
from export.bundle import InputSpec
from export.bundle.batches import NoisyRun
from export.data import Dataset
from export.evaluation import band
from export.evaluation.band import Between
from export.evaluation.sigma import CHOOSING, worth
from export.robust.networks import Voter
from export.robust.rows import values

ALPHA, CONFIDENCE = 0.001, 0.95
_ROWS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Shares of the measured rows; `certified` at each radius of the table, all radii at once, in the caller's units."""

    accuracy: float
    certified: Sequence[Between]
    mean_radius: float


def measured(
    voter: Voter,
    data: Dataset,
    spec: InputSpec,
    labels: tuple[str, ...],
    law: Law,
    radii: Sequence[float],
    draws: int,
) -> Measured:
    """Of every row of `data`: 100 draws choose its label, `draws` others bound it."""
    places, right = label_places(data, labels), 0
    for lattice, truth in lattices(data, spec, _ROWS):
        right += int((votes(voter, spec, lattice) == with_places(truth, places)).sum())
    worths = worth(spec, labels, data, noisy_run(voter, spec), law, draws, ALPHA, quiet=False)
    reached = np.fromiter(worths, dtype=np.float64)
    return Measured(
        accuracy=right / len(data),
        certified=band.curve(reached, list(radii), CONFIDENCE),
        mean_radius=float(np.maximum(reached, 0).mean()),
    )


def votes(voter: Voter, spec: InputSpec, lattice: NDArray[np.int32]) -> NDArray[np.int64]:
    """The label of each row; where a logit is not finite none, the number of labels."""
    with torch.no_grad():
        logits = voter(values(spec, torch.from_numpy(lattice).float()))
        finite = logits.isfinite().all(dim=1)
        found: NDArray[np.int64] = torch.where(finite, logits.argmax(1), logits.shape[1]).numpy()
    return found


def noisy_run(voter: Voter, spec: InputSpec) -> NoisyRun:
    """The votes as a noisy pass gives them, without a score."""

    def noisy(lattice: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        return votes(voter, spec, lattice), np.zeros(len(lattice), np.float32)

    return noisy


def table(rows: dict[str, Measured], radii: Sequence[float], *, count: int, draws: int, sigma: float) -> str:
    """Before and after, as Markdown."""
    lines = [
        f"{count:,} rows, sigma {sigma:g}; {draws:,} draws bound ({CHOOSING} more choose), alpha {ALPHA:g}; in brackets a"
        f" band at confidence {CONFIDENCE:g} for all radii at once.",
        "",
        "| network | accuracy without noise | "
        + " | ".join(f"certified {each:.4g}" for each in radii)
        + " | mean radius |",
        "|-|-|" + "-|" * (len(radii) + 1),
    ]
    for name, each in rows.items():
        cells: list[Any] = [name, f"{each.accuracy:.3f}", *each.certified, f"{each.mean_radius:.4g}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)
