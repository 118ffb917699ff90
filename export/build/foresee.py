"""What the base pass tells of the votes: the prior of `certify.bounds.prior`, fitted on held-out rows.

Rows are put into cells by the margin of their base pass. In each, how rare misses are among rows that a radius could be
proven of is estimated from counts, by expectation and maximisation over fixed atoms. A bad fit costs draws, never validity.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import xlog1py, xlogy

from certify.bounds.prior import PriorTable, margin
from certify.smoothing.ball import parse
from certify.smoothing.law import Law
from export.build.passes import BaseRun, draw_rows
from export.bundle import PriorSpec
from export.bundle.batches import NoisyRun

ATOMS = (0.0, 0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9)
"""Misses as parts of what the radius allows: at 1 nothing is proven."""
_BEYOND = (1.0, 1.5, 2.0, 3.0)
DRAWS, ROWS = 256, 500
_CELLS, _STEPS = 4, 200
_EVIDENCE, _MOST_DRAWS = 8.0, 10_000.0
_LEAST_ROWS = 25  # in a cell; fewer tell nothing that all rows together do not tell better


def from_rows(
    rows: NDArray[np.int32], law: Law, noisy: NoisyRun, base: BaseRun, labels: int, radius: float, quiet: bool = True
) -> PriorSpec:
    """The prior as a bundle declares it, from held-out rows [rows, *shape] on streams of their own; `radius` aims it."""
    drawn = draw_rows(rows, law, noisy, "foresee", DRAWS, quiet=quiet)
    guarantee = law.at(rows[0]).guarantee
    allowed = 1 - guarantee.needed(parse(guarantee.parts, radius))
    margins = np.array([margin(row) for row in base(rows)])
    table = foreseen(margins, DRAWS - drawn.counts(labels).max(axis=1), DRAWS, allowed)
    return PriorSpec(
        atoms=table.atoms, margin_edges=table.margin_edges, weights=tuple(cell for (cell,) in table.weights)
    )


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
