"""A prior fitted on held-out rows: where misses are, in each cell of the margin, and what few or odd rows give."""

from __future__ import annotations

import numpy as np
import pytest

from certify.smoothing.laws import gaussian_on_grid
from export.build.foresee import ATOMS, DRAWS, foreseen, from_rows
from export.build.noise_table import rounded_gaussian_tails

ALLOWED = 0.16


def rows(u, count=200, seed=0, draws=2_000):
    return np.random.default_rng(seed).binomial(draws, u * ALLOWED, count)


@pytest.mark.parametrize("u", [0.1, 0.35, 0.7])
def test_rows_that_miss_alike_put_most_weight_beside_their_rate(u):
    (cell,) = foreseen(np.zeros(200), rows(u), 2_000, ALLOWED).weights[0]
    near = [abs(atom - u) <= 0.11 for atom in ATOMS]
    assert sum(np.array(cell)[near]) > 0.6


def test_each_cell_of_the_margin_has_its_own():
    margins = np.concatenate([np.linspace(0, 0.4, 200), np.linspace(0.6, 1, 200)])
    table = foreseen(margins, np.concatenate([rows(0.8), rows(0.1)]), 2_000, ALLOWED)
    low, high = (np.array(table.of(margin, 0.0).weights) @ ATOMS for margin in (0.1, 0.9))
    assert low > high + 0.3


@pytest.mark.parametrize("misses", [np.zeros(40, int), np.full(40, 256), np.array([3]), np.zeros(0, int)])
def test_any_rows_give_a_measure_with_weight_everywhere(misses):
    """Rows that never miss, rows of which nothing can be proven, one row, and none."""
    table = foreseen(np.linspace(0, 1, len(misses)), misses, 256, ALLOWED)
    for prior in table.cells:
        assert min(prior.weights) > 0
        assert sum(prior.weights) == pytest.approx(1.0, abs=1e-9)


def test_equal_margins_are_one_cell():
    assert foreseen(np.full(400, 0.5), rows(0.2, 400), 2_000, ALLOWED).margin_edges == ()


def test_a_bundles_prior_comes_from_draws_of_its_own_law():
    law = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))
    pixels = np.repeat(np.array([[135], [150], [220]], dtype=np.int32), 40, axis=0)

    def noisy(lattice):
        return (lattice[:, 0] > 127).astype(np.int64), np.zeros(len(lattice), np.float32)

    def base(lattice):
        share = np.clip(lattice[:, 0] / 255, 0, 1)
        return np.stack([1 - share, share], axis=1).astype(np.float32)

    spec = from_rows(pixels, law, noisy, base, 2, radius=8.0)
    assert (DRAWS, len(spec.atoms)) == (256, len(ATOMS))
    least, most = (np.array(spec.table().of(margin, 0.0).weights) @ ATOMS for margin in (0.0, 0.9))
    assert least > most
