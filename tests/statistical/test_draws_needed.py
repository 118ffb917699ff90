"""The simulated table of draws: its peers are the published rules, and our figures are those worked out beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from benchmarks import draws_needed as table

REFERENCE = [
    # R/sigma, z, information, mean and 95 % quantile of our rule
    (0.25, 1, 34, 38, 68),
    (0.25, 0.5, 108, 128, 241),
    (0.25, 0.25, 401, 509, 950),
    (0.5, 1, 41, 45, 81),
    (0.5, 0.5, 122, 144, 267),
    (0.5, 0.25, 437, 549, 1_032),
    (1, 1, 69, 76, 121),
    (1, 0.5, 182, 207, 386),
    (1, 0.25, 606, 738, 1_368),
    (2, 1, 389, 428, 606),
    (2, 0.5, 804, 882, 1_620),
    (2, 0.25, 2_319, 2_701, 5_121),
]


@pytest.mark.parametrize(("ratio", "z", "information", "mean", "late"), REFERENCE)
def test_our_draws_are_those_worked_out_beforehand(ratio, z, information, mean, late):
    """Mean draws within 5 % of those worked out beforehand, at most 1.3 of Wald's floor; 1,500 seeded streams."""
    m0, p = float(ndtr(ratio)), float(ndtr(ratio + z))
    assert table.information(p, m0) == pytest.approx(information, abs=0.51)
    stopped = table.rules(ratio, z)["ours"](table.streams(p, m0, 1_500, seed=4))
    assert stopped.mean() == pytest.approx(mean, rel=0.05)
    assert np.quantile(stopped, 0.95) == pytest.approx(late, rel=0.2)
    assert stopped.mean() <= 1.3 * information


@pytest.mark.parametrize(
    ("draws", "share", "kt", "stitched"),
    [(100, 1.0, 0.9068, 0.8256), (10_000, 1.0, 0.99879, 0.99786), (10_000, 0.99, 0.98439, 0.98403)],
)
def test_the_peers_are_the_published_rules(draws, share, kt, stitched):
    """Their lower bounds at alpha = .001."""
    hits = round(draws * share)
    for rule, expected in ((table.krichevsky_trofimov, kt), (table.stitched, stitched)):
        assert rule(draws, hits, expected - 1e-4, 0.001)
        assert not rule(draws, hits, expected + 1e-4, 0.001)


@pytest.mark.parametrize(("draws", "bound", "off"), [(100, 0.8749, 2e-3), (10_000, 0.99862, 2e-4)])
def test_the_betting_peer_is_the_published_one(draws, bound, off):
    """The same table, where all draws agree, so that their order has no say; it starts its variance a little otherwise."""
    one_less = np.concatenate([np.ones(draws, dtype=bool), [False]])[None]
    assert table.betting(one_less, bound - off, 0.001)[0] <= draws
    assert table.betting(one_less, bound + off, 0.001)[0] > draws


def test_every_rule_stops_and_no_rule_beats_the_floor():
    cells = table.row(1.0, 1.0, runs=300)
    means = [float(cell.split(" / ")[0]) for cell in cells[3:-3]]
    assert len(means) == len(table.rules(1.0, 1.0))
    assert min(means) >= 0.97 * float(cells[2])
    assert [float(cell) for cell in cells[-3:]] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["ours", "prior, right", "prior, 2z", "KT", "stitched", "plug-in bets", "aGRAPA bets"])
def test_no_rule_proves_the_radius_at_its_boundary_more_often_than_its_level(name, monkeypatch):
    """At z = 0 a stop is a false certificate: the peers are compared at the level that is said."""
    monkeypatch.setattr(table, "ALPHA", 0.05)
    draws = np.random.default_rng(3).random((2_000, 300)) < ndtr(1.0)
    stopped = table.rules(1.0, 1.0)[name](np.hstack([draws, np.zeros((2_000, 1), dtype=bool)]))
    assert (stopped <= 300).mean() <= 0.05


@pytest.mark.parametrize("z", [0.5, 0.25])
def test_an_input_that_falls_short_by_little_is_refuted_with_fewer_draws_by_its_own_prior(z):
    """At R = sigma, on the same 1,000 streams: mean draws with looks after every draw, neither below Wald's floor."""
    cells = table.refuted_row(1.0, z, runs=1_000)
    floor, means = float(cells[2]), [float(cell.split(" ")[0].replace(",", "")) for cell in cells[3:]]
    assert 0.97 * floor < means[2] < 0.95 * means[0]
    assert means[3] < means[1]
