"""What two-sided bounds are worth: by the server's own certificates of the same counts, and by a rule against chance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import Best
from certify.mixture import mix
from certify.smoothing.laws import gaussian_on_grid
from export import data
from export.build.learn import noisy_run
from export.build.noise_table import rounded_gaussian_tails
from export.build.two_sides import DRAWS, PAYS, ROWS, Radii, Reach, from_held_out, reach
from export.bundle import load
from export.bundle.batches import in_batches
from export.data.in_memory import of_arrays
from export.sources.running import open_graph
from tests.declared import spec
from tests.export.data.test_idx import DATA

SPLIT = AlphaSplit(of_class=0.8, of_upper=0.2)
LAW = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))
LABELS = 100
DEMO = Path(__file__).resolve().parents[3] / "models/fashion-mnist/1"


def terms(**changes):
    guarantee = LAW.at(np.zeros(1, np.int32)).guarantee
    return Terms(law=guarantee, alpha=0.001, split=SPLIT, classes=LABELS, **changes)


def votes(hits, misses):
    """A row with these hits, and as many misses for each label as there are, in turn."""
    row = np.zeros(LABELS, np.int64)
    row[0], row[1 : 1 + len(misses)] = hits, misses
    assert row.sum() == DRAWS
    return row


SPREAD = votes(160, [1] * 96)
TOGETHER = votes(160, [96])


def test_radii_are_those_that_a_server_proves_of_the_same_counts():
    found = reach(np.stack([SPREAD, TOGETHER]), DRAWS, terms(), 0.9)
    for row, each in enumerate((SPREAD, TOGETHER)):
        counts = Counts(draws=DRAWS, votes=tuple(each.tolist()))
        one, two = (Best().conclude(terms(two_sided=sides), counts) for sides in (False, True))
        assert (found.of_class.one_sided[row], found.of_class.two_sided[row]) == (one.radius, two.radius)
        mixed = mix.radius(one, 0.9), mix.radius(two, 0.9)
        assert (found.of_mixture.one_sided[row], found.of_mixture.two_sided[row]) == mixed
    assert (found.of_class.two_sided >= found.of_class.one_sided).all()
    assert found.of_class.two_sided[0] > 10 > found.of_class.two_sided[1]


@pytest.mark.parametrize(
    ("row", "pays"),
    [
        (SPREAD, True),
        (TOGETHER, False),  # one rival has all misses
        (votes(256, []), False),  # nothing to gain without a miss
        (votes(100, [156]), False),  # nothing is proven either way
        (votes(90, [2] * 83), True),  # nothing is proven one-sided
    ],
)
def test_they_pay_where_misses_spread(row, pays):
    found = reach(np.stack([row] * 20), DRAWS, terms(), 0.9)
    assert (found.pays, found.of_class.pays) == (pays, pays)


def test_the_mixture_alone_may_make_them_pay():
    """Of the class the radius is what it is without a miss; of the mixture that leans on its margin it becomes larger."""
    class_alone = Radii(one_sided=np.ones(9), two_sided=np.ones(9))
    more = Radii(one_sided=np.ones(9), two_sided=np.full(9, 1.2))
    assert Reach(of_class=class_alone, of_mixture=more).pays
    assert not Reach(of_class=class_alone, of_mixture=None).pays


@pytest.mark.parametrize(
    ("one_sided", "two_sided", "pays"),
    [
        ([1.0] * 10, [1.0] * 10, False),
        ([0.0] * 10, [0.0] * 10, False),
        ([1.0] * 63 + [0.0], [1.0] * 63 + [6.0], False),  # one row alone
        ([1.0] * 64, [PAYS - 0.01] * 64, False),  # surely, and hardly
        ([1.0, 0.5] * 32, [1.5, 0.5] * 32, True),
        ([0.0] * 64, [1.0] * 64, True),
    ],
)
def test_a_gain_counts_where_it_is_large_and_sure(one_sided, two_sided, pays):
    assert Radii(one_sided=np.array(one_sided), two_sided=np.array(two_sided)).pays is pays


def test_rows_are_held_out_ones_evenly_spaced_each_with_draws_of_its_own():
    pixels = np.repeat(np.array([[100], [150]], np.int32), 100, axis=0)
    held_out = of_arrays(pixels, np.arange(200) % LABELS, "x", named=False)
    seen = []

    def noisy(lattice):
        seen.append(lattice)
        return np.where(lattice[:, 0] > 127, 0, 1 + lattice[:, 0] % 90).astype(np.int64), np.zeros(len(lattice))

    inputs = spec((1,), low=0.0, step=1.0, high=255.0)
    found = from_held_out(held_out, inputs, LAW, noisy, alpha=0.001, split=SPLIT, labels=LABELS, robust_weight=None)
    rows = np.concatenate(seen).reshape(-1, DRAWS)
    assert len(rows) == len(found.of_class.one_sided) == ROWS
    assert np.rint(rows.mean(axis=1) / 50).tolist() == [2] * 34 + [3] * 30
    assert len(np.unique(rows[:34], axis=0)) == 34
    assert found.of_mixture is None
    assert "64 held-out rows" in str(found)


def test_on_the_demo_they_reach_no_farther_to_speak_of():
    """Misses of a kind of clothes are of one or two others."""
    demo = load(DEMO)
    found = from_held_out(
        data.open(DATA / "fashion_mnist_test_1000"),
        demo.manifest.input,
        demo.law,
        in_batches(noisy_run(open_graph(demo.noisy, "the demo")), 128),
        alpha=0.001,
        split=demo.manifest.alpha_split,
        labels=len(demo.manifest.labels),
        robust_weight=demo.manifest.mixture.robust_weight,
    )
    assert found.of_class.one_sided.mean() > 0
    assert 1 <= found.of_class.ratio < PAYS
    assert 1 <= found.of_mixture.ratio < PAYS
    assert not found.pays
