"""The lattice theorem by exact enumeration, and the half-space end to end on the grid."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom

from certify.claims.certificate import WHOLE_ON_CLASS, LowerBound, Terms
from certify.claims.counts import Counts
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.keys import derive_key
from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from tests.certify.gaussian import fixed_run
from tests.certify.gaussian import radius as radius_of
from tests.half_space import CUT, probability_above, true_radius

SIGMA, REACH = 0.3, 4


def rounded(sigma, k):
    """`P(round(sigma g) = k)`, with the small tail on the side of k that keeps its digits."""
    k = np.abs(np.asarray(k))
    return np.where(k == 0, 1 - 2 * ndtr(-0.5 / sigma), ndtr(-(k - 0.5) / sigma) - ndtr(-(k + 0.5) / sigma))


LINE = np.arange(-REACH, 2 * REACH + 1)
SETS = np.array(list(itertools.product([False, True], repeat=LINE.size)))
"""Every classifier of the line: the sets of T on which it says A. What lies beyond an end is of one kind with it."""


def laws(transform):
    """The law of the transformed X + Z on the line, for X = 0 ... REACH."""
    found = np.zeros((REACH + 1, LINE.size))
    for x in range(REACH + 1):
        for z in range(-12, 13):
            place = min(max(int(transform(x, z)), LINE[0]), LINE[-1]) + REACH
            found[x, place] += rounded(SIGMA, z)
    return found


def quantile(share, rest):
    """The normal quantile of a share whose complement is known as precisely."""
    return np.where(share < 0.5, ndtri(np.minimum(share, 0.5)), -ndtri(np.minimum(rest, 0.5)))


def worst(transform):
    """The largest excess of the certified over the true probability, over all classifiers and all pairs of inputs."""
    law = laws(transform).T
    shares, quantiles = SETS @ law, quantile(SETS @ law, ~SETS @ law)
    pairs = [(x, y) for x in range(REACH + 1) for y in range(REACH + 1)]
    return max(float(np.max(ndtr(quantiles[:, x] - abs(x - y) / SIGMA) - shares[:, y])) for x, y in pairs)


@pytest.mark.parametrize(
    "transform",
    [
        lambda x, z: x + z,
        lambda x, z: np.clip(x + z, 0, REACH),
        lambda x, z: np.clip(x + z, 1, 2),
        lambda x, z: (x + z) % 3,
    ],
    ids=["exact", "saturated", "saturated twice", "wrapped"],
)
def test_the_worst_of_all_classifiers_meets_the_bound(transform):
    """Sigma = .3 of a step, T saturated or wrapped."""
    assert worst(transform) <= 1e-9


def test_the_bound_is_attained():
    assert worst(lambda x, z: x + z) > -1e-9


def test_the_mutant_that_clips_the_noise_fails():
    """A clipped Z lets the classifier recognise its input."""
    assert worst(lambda x, z: x + np.clip(z, -1, 1)) > 0.8


@pytest.mark.parametrize("steps", [(1.0, 0.25), (0.5, 1.0), (2.0, 1.0)])
def test_unequal_steps(steps):
    """Noise s_i round(sigma g / s_i) a coordinate, distances in the caller's units; 6,000 sets."""
    reach = [int(12 * SIGMA / s) + 3 for s in steps]
    axes = [np.arange(-r, 2 * r + 1) for r in reach]
    rng = np.random.default_rng(1)
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2) * np.array(steps)
    directions, cuts = rng.normal(size=(2, 6_000)), rng.normal(scale=0.7, size=6_000)
    sets = places @ directions <= cuts  # half-spaces, the worst of all for real noise
    sets[:, ::2] ^= rng.random((len(places), 3_000)) < 0.02  # and some that are none

    def shares(x):
        law = [rounded(SIGMA / s, axis - at) for s, axis, at in zip(steps, axes, x, strict=True)]
        weights = np.outer(*law).ravel()
        return weights @ sets, weights @ ~sets

    centre = quantile(*shares((0, 0)))
    for shift in itertools.product(range(3), range(3)):
        distance = float(np.hypot(*(np.array(shift) * steps)))
        assert np.max(ndtr(centre - distance / SIGMA) - shares(shift)[0]) <= 1e-9


def test_units():
    """Sigma = .25 in [0, 1] at steps of 1/255 is 63.75 steps, and radii scale alike."""
    bound = LowerBound(class_index=0, complement=0.01, draws=1_000, alpha=0.001)
    assert radius_of(bound, 0.25) * 255 == pytest.approx(radius_of(bound, 63.75), rel=1e-14)


def test_a_half_space_end_to_end():
    """noise-v1, n = 10^5 draws, alpha .05: R within 1 % of the truth and not above it.

    40 inputs under keys of their own: typically within 1 %, above in no more than alpha (false-alarm rate 1e-6). And no
    flip by the grid's shifts inside R.
    """
    law, found = RoundedGaussian(16.0, rounded_gaussian_tails(16.0)), []
    terms = Terms(law=Gaussian(16.0, law.charge(4)), alpha=0.05, split=WHOLE_ON_CLASS, classes=2)
    for other in range(40):
        row = np.array([CUT + 24, other, 200, 0], dtype=np.int32)
        key = derive_key(b"k" * 32, b"digest", row, 100_000)
        above = int(np.sum(row[0] + law.sample(key, 0, 100_000, 4)[:, 0] > CUT))
        certificate = fixed_run(terms, 100_000).conclude(Counts(draws=100_000, votes=(100_000 - above, above)))
        assert certificate.class_index == true_radius(row)[0]
        found.append(certificate.radius)
    truth = true_radius(row)[1]
    assert 0.99 * truth < np.median(found) < truth
    assert np.sum(np.array(found) > truth) <= binom.isf(1e-6, 40, 0.05)
    shift = np.array([1, 0, 0, 0])
    assert all(probability_above(row - s * shift) > 0.5 for s in range(int(np.median(found)) + 1))
    assert probability_above(row - (int(truth) + 1) * shift) < 0.5
