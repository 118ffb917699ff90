"""A prior fitted on held-out rows: where misses are, in each cell of the margin, and what few or odd rows give."""

from __future__ import annotations

import numpy as np
import pytest

from certify.bounds.prior import Prior
from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import RunningProcedure, Target
from certify.smoothing.ball import parse
from certify.smoothing.laws import gaussian_on_grid
from export.build.calibrate import SCORE_DRAWS, calibrate_on
from export.build.foresee import ATOMS, MEASURED, PriorAim, foreseen, from_held_out
from export.build.noise_table import rounded_gaussian_tails
from export.build.passes import draw_rows, row_key
from export.build.prior_worth import Worth, worth
from export.data.in_memory import of_arrays
from tests.declared import spec

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


def test_a_bundles_prior_comes_from_the_votes_of_calibration_and_is_measured_on_other_rows():
    """Rows that never miss and rows that often do: the base pass tells them apart."""
    law = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))
    pixels = np.repeat(np.array([[135], [150], [220]], dtype=np.int32), 80, axis=0)
    held_out = of_arrays(pixels, (pixels[:, 0] > 127).astype(int), "x", named=False)
    inputs = spec((1,), low=0.0, step=1.0, high=255.0)
    seen = []

    def noisy(lattice):
        seen.append(len(lattice))
        return (lattice[:, 0] > 127).astype(np.int64), np.zeros(len(lattice), np.float32)

    def base(lattice):
        share = np.clip(lattice[:, 0] / 255, 0, 1)
        return np.stack([1 - share, share], axis=1).astype(np.float32)

    calibration = calibrate_on(
        held_out, inputs, ("0", "1"), law, noisy, target_tpr=0.95, eta=0.01, least_accuracy=0.5, quiet=True
    )
    drawn = draw_rows(pixels, law, noisy, "calibration", SCORE_DRAWS, quiet=True)
    assert calibration.misses.tolist() == (SCORE_DRAWS - drawn.counts(2).max(axis=1)).tolist()
    seen.clear()
    asked = PriorAim(radius=8.0, alpha=0.001, split=AlphaSplit(of_class=0.8, of_upper=0.2), labels=2)
    prior, found = from_held_out(held_out, inputs, calibration, law, noisy, base, asked)
    assert len(prior.atoms) == len(ATOMS)
    least, most = (np.array(prior.table().of(margin, 0.0).weights) @ ATOMS for margin in (0.0, 0.9))
    assert least > most
    assert (len(found.without), len(found.with_prior)) == (MEASURED, MEASURED)
    # Every draw once, for both: a row takes as many as the later of its two decisions needs.
    assert sum(seen) == np.maximum(found.without, found.with_prior).sum()


def test_a_decision_takes_the_draws_that_the_server_takes():
    """The same looks at the same votes: with a prior that guesses right sooner, with one that guesses wrong later."""
    law = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))
    rows = np.full((24, 1), 143, np.int32)  # a radius of 15.5: nearly the sixth part of the draws misses
    guarantee = law.at(rows[0]).guarantee
    ball = parse(guarantee.parts, 8.0)
    terms = Terms(law=guarantee, alpha=0.001, split=AlphaSplit(of_class=0.8, of_upper=0.2), classes=2)
    keys = [row_key("test", row) for row in range(24)]

    def noisy(lattice):
        return (lattice[:, 0] > 127).astype(np.int64), np.zeros(len(lattice), np.float32)

    right, wrong = (Prior(atoms=(atom,), weights=(1.0,)) for atom in (0.5, 0.0))
    found = [worth(rows, keys, [each] * 24, law=law, noisy=noisy, terms=terms, ball=ball) for each in (right, wrong)]
    assert found[0].without.tolist() == found[1].without.tolist()
    assert found[0].ratio < 1 < found[1].ratio
    running = RunningProcedure(Target(ball), terms, 10_000)
    for row, key in enumerate(keys):
        votes = noisy(law.at(rows[row]).sample(key, 0, 640))[0]
        looks = range(32, 641, 32)
        counts = (Counts(draws=n, votes=(int(n - votes[:n].sum()), int(votes[:n].sum()))) for n in looks)
        assert found[0].without[row] == next(each.draws for each in counts if running.receive(each))


@pytest.mark.parametrize(
    ("without", "with_prior", "pays"),
    [
        ([64] * 10, [64] * 10, False),
        ([64] * 99 + [512], [64] * 99 + [32], False),  # one row alone
        ([100] * 100, [99] * 100, False),  # surely, and hardly any
        ([64, 96] * 50, [32, 96] * 50, True),
        ([32] * 100, [64] * 100, False),
    ],
)
def test_a_prior_pays_where_it_saves_enough_and_surely(without, with_prior, pays):
    assert Worth(without=np.array(without), with_prior=np.array(with_prior)).pays is pays
