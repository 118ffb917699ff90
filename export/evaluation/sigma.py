"""sigma suggested from data: certified accuracy against sigma on validation rows, a network being what it is.

A larger sigma reaches farther and costs accuracy; which is best depends on the network, the data and the radius that is
wanted. The rows are looked at to choose: whoever reports what a bundle is worth measures it on other ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from certify.bounds import binomial
from certify.smoothing.ball import Euclidean
from certify.smoothing.law import Law, scale
from certify.smoothing.laws import gaussian_on_grid
from export.build.lattice import label_places, lattices, with_places
from export.build.noise_table import rounded_gaussian_tails
from export.build.passes import draw_rows
from export.bundle import InputSpec, Manifest
from export.bundle.batches import NoisyRun
from export.data import Dataset
from export.evaluation import band
from export.evaluation.band import Between
from export.evaluation.records import EvaluationError
from export.progress import ProgressBar, progress

CHOOSING = 100
"""Draws that choose a label; those that bound it are others (Cohen et al. 2019)."""
IN_SIGMAS = (0.5, 1.0, 2.0, 4.0)
"""Radii that are looked at, in the least sigma, where no others are asked for."""
_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class AtSigma:
    """One sigma: the share of rows that are right and certified at each radius, all radii at once."""

    sigma: float
    certified: list[Between]
    mean_radius: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Certified accuracy at each sigma and radius, in the caller's units; the bands hold at each sigma by itself."""

    radii: list[float]
    draws: int
    alpha: float
    data_rows: int
    rows: list[AtSigma]

    def line(self, place: int) -> list[float]:
        """Of one radius, the share at each sigma."""
        return [each.certified[place].share for each in self.rows]


def sweep(
    manifest: Manifest,
    validation: Dataset,
    noisy: NoisyRun,
    sigmas: Sequence[float],
    radii: Sequence[float] = (),
    draws: int = 1_000,
    *,
    alpha: float | None = None,
    confidence: float = 0.95,
    quiet: bool = False,
) -> Sweep:
    """Certify every row at every sigma (caller's units) with `draws` draws: 100 more choose the label.

    `noisy` is the network that votes; it need not have been trained at any of these. Raises `EvaluationError`.
    """
    if not sigmas or min(sigmas) <= 0 or draws < 1:
        raise EvaluationError(f"expected sigmas above 0 and one draw or more; got {list(sigmas)} and {draws}")
    alpha = manifest.defaults.alpha if alpha is None else alpha
    looked_at = list(radii) or [min(sigmas) * each for each in IN_SIGMAS]
    found = []
    for sigma in sorted(sigmas):
        steps = sigma / manifest.input.length
        drawn = math.nextafter(steps * manifest.input.length, 0.0)  # and no more than that bounds a radius
        norm = Euclidean(manifest.input.units, (manifest.input.length,), manifest.input.grid.norm)
        law = gaussian_on_grid(steps, rounded_gaussian_tails(steps), drawn, norm)
        each = worth(manifest.input, manifest.labels, validation, noisy, law, draws, alpha, quiet=quiet)
        values = np.fromiter(each, dtype=np.float64)
        certified = band.curve(values, looked_at, confidence)
        found.append(AtSigma(sigma=sigma, certified=certified, mean_radius=float(np.maximum(values, 0).mean())))
    return Sweep(radii=looked_at, draws=draws, alpha=alpha, data_rows=len(validation), rows=found)


def worth(
    spec: InputSpec,
    labels: tuple[str, ...],
    validation: Dataset,
    noisy: NoisyRun,
    law: Law,
    draws: int,
    alpha: float,
    *,
    quiet: bool,
) -> Iterator[float]:
    """Of each row the radius within which it is right and certified, -1 where it is not."""
    guarantee = law.at(np.zeros(spec.shape, np.int32)).guarantee
    places, start = label_places(validation, labels), 0
    bar: ProgressBar[object] = progress(
        what=f"sigma {scale(guarantee):g}", total=len(validation), unit="row", quiet=quiet
    )
    with bar:
        for rows, truth in lattices(validation, spec, _ROWS):
            drawn = draw_rows(rows, law, noisy, "sigma", CHOOSING + draws, first=start, quiet=True)
            for votes, label in zip(drawn.votes, with_places(truth, places), strict=True):
                chosen = int(np.bincount(votes[:CHOOSING], minlength=len(labels) + 1)[: len(labels)].argmax())
                hits = int(np.sum(votes[CHOOSING:] == chosen))
                complement = binomial.clopper_pearson_complement(draws, hits, alpha) + guarantee.charge
                radius = guarantee.radius(min(1.0, complement)).size
                yield radius if radius > 0 and chosen == label else -1.0
            start += len(rows)
            bar.update(len(rows))


def best(found: Sweep, place: int) -> AtSigma:
    """The sigma of the largest certified accuracy at a radius; the smaller one of equals."""
    return max(found.rows, key=lambda each: (each.certified[place].share, -each.sigma))


def advice(found: Sweep) -> str:
    """In one line, the sigma that the rows suggest for each radius."""
    parts = []
    for place, radius in enumerate(found.radii):
        chosen = best(found, place)
        reached = f"sigma {chosen.sigma:g} ({chosen.certified[place]})"
        parts.append(f"radius {radius:.4g}: {reached if chosen.certified[place].share else 'none of these'}")
    return "suggested by these rows, which are not fit to report it on: " + "; ".join(parts)


def markdown(found: Sweep) -> str:
    """The sweep as a table."""
    lines = [
        f"{found.data_rows:,} rows, {found.draws:,} draws bound (100 more choose), alpha {found.alpha:g}; in brackets a band"
        " at confidence 0.95 for all radii of a sigma at once.",
        "",
        "| sigma | " + " | ".join(f"certified {radius:.4g}" for radius in found.radii) + " | mean radius |",
        "|-|" + "-|" * (len(found.radii) + 1),
    ]
    for each in found.rows:
        lines.append(f"| {each.sigma:g} | " + " | ".join(map(str, each.certified)) + f" | {each.mean_radius:.3f} |")
    return "\n".join(lines)
