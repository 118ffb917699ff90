"""What the base pass tells of the votes: the prior of `certify.bounds.prior`, fitted on held-out rows.

Rows are put into cells by the margin of their base pass. In each, how rare misses are among rows that a radius could be
proven of is estimated from counts, by expectation and maximisation over fixed atoms. A bad fit costs draws, never validity;
how many a fit saves is measured (`prior_worth`), and a bundle has none that saves none, unless it is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from certify.bounds.prior import PriorTable, margin
from certify.claims.certificate import AlphaSplit, Terms
from certify.smoothing.ball import parse
from certify.smoothing.law import Law
from export.build.calibrate import SCORE_DRAWS, Calibration, key_of_row
from export.build.lattice import lattices
from export.build.passes import BaseRun
from export.build.prior_worth import Worth, worth
from export.bundle import InputSpec, PriorSpec
from export.bundle.batches import NoisyRun
from export.data import Dataset

ATOMS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Misses as parts of what the radius allows: at 1 nothing is proven."""
FITTED, MEASURED = 500, 100
"""Rows that a prior is fitted on, and others that show what it is worth."""
_BEYOND = (1.0, 1.5, 2.0, 3.0)
_CELLS, _STEPS = 4, 200
_EVIDENCE, _MOST_DRAWS = 8.0, 10_000.0
_LEAST_ROWS = 25  # in a cell; fewer tell nothing that all rows together do not tell better
_ROWS = 32


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class PriorAim:
    """What is mostly asked of the votes: the `radius`, in steps of the grid, at `alpha`, shared as the bundle will, and
    whether its bounds are `two_sided`.
    """

    radius: float
    alpha: float
    split: AlphaSplit
    labels: int
    two_sided: bool = False


def from_held_out(
    held_out: Dataset,
    spec: InputSpec,
    calibration: Calibration,
    law: Law,
    noisy: NoisyRun,
    base: BaseRun,
    asked: PriorAim,
) -> tuple[PriorSpec, Worth]:
    """The prior as a bundle declares it, from the votes of calibration, and its worth on rows that it was not fitted on.

    Those go on with the streams of calibration, so that few draws are new.
    """
    order = np.arange(len(held_out))
    fit, rest = _some(order[::2], FITTED), _some(order[1::2], MEASURED)
    rows = np.concatenate([part for part, _ in lattices(held_out.only(rest), spec, _ROWS)])
    guarantee = law.at(rows[0]).guarantee
    ball = parse(guarantee.parts, asked.radius)
    terms = Terms(law=guarantee, alpha=asked.alpha, split=asked.split, classes=asked.labels, two_sided=asked.two_sided)
    margins = np.array([margin(row) for part, _ in lattices(held_out.only(fit), spec, _ROWS) for row in base(part)])
    table = foreseen(margins, calibration.misses[fit], SCORE_DRAWS, 1 - terms.needed(ball))
    priors = [table.of(margin(row), 0.0) for row in base(rows)]
    keys = [key_of_row(int(row)) for row in rest]
    found = worth(rows, keys, priors, law=law, noisy=noisy, terms=terms, ball=ball)
    cells = tuple(cell for (cell,) in table.weights)
    return PriorSpec(atoms=table.atoms, margin_edges=table.margin_edges, weights=cells), found


def _some(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """So many of these, evenly spaced, or all."""
    chosen: NDArray[np.int64] = places[
        np.unique(np.linspace(0, len(places) - 1, min(len(places), count)).round().astype(int))
    ]
    return chosen


def foreseen(margins: NDArray[np.floating], misses: NDArray[np.integer], draws: int, allowed: float) -> PriorTable:
    """The table for rows of which `misses` of `draws` votes were not for the row's most voted label.

    `allowed` is the share of misses at which the radius that is mostly asked for is lost. It aims the fit, and is fixed in
    the bundle with it: a request has no say.
    """
    cells = min(_CELLS, max(1, len(margins) // _LEAST_ROWS))
    edges = np.unique(np.quantile(margins, np.arange(1, cells) / cells)) if cells > 1 else np.empty(0)
    edges = edges[edges > margins.min()] if cells > 1 else edges  # or there would be a cell without a row
    places = np.searchsorted(edges, margins, side="right")
    weights = [_weights(misses[places == place], draws, allowed) for place in range(len(edges) + 1)]
    return PriorTable(
        atoms=ATOMS, margin_edges=tuple(edges.tolist()), score_edges=(), weights=tuple((each,) for each in weights)
    )


def _weights(misses: NDArray[np.integer], draws: int, allowed: float) -> tuple[float, ...]:
    """Of the atoms below 1, among rows that are there. One row more at every atom keeps any from having no weight."""
    rates = np.minimum(np.array(ATOMS + _BEYOND) * allowed, 0.99)
    log_chance = xlogy(misses[:, None], rates) + xlog1py(draws - misses[:, None], -rates)
    chance = np.exp(log_chance - log_chance.max(axis=1, keepdims=True, initial=-np.inf))
    share = np.full(len(rates), 1 / len(rates))
    for _ in range(_STEPS):
        parts = chance * share
        found = (parts / parts.sum(axis=1, keepdims=True)).sum(axis=0) + 1 / len(rates)
        share = found / found.sum()
    needed = share[: len(ATOMS)] * _draws(np.array(ATOMS), allowed)
    return tuple((needed / needed.sum() * (1 - 1e-12)).tolist())


def _draws(atoms: NDArray[np.floating], allowed: float) -> NDArray[np.floating]:
    """About how many draws rows of each atom take, by Wald's floor: where most are spent, most can be saved."""
    rates = atoms * allowed
    divergence = xlogy(rates, atoms) + xlog1py(1 - rates, -rates) - (1 - rates) * np.log1p(-allowed)
    needed: NDArray[np.floating] = np.clip(_EVIDENCE / divergence, 1, _MOST_DRAWS)
    return needed
