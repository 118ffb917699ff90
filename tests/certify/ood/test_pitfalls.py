"""Defects of released detectors, each as a test that the tempting wrong form fails, and the last properties of the list."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr
from scipy.stats import binom, ortho_group

from certify.bounds import binomial
from certify.claims.certificate import AlphaSplit
from certify.ood.conformal import p_value
from certify.ood.mahalanobis import KINDS, Moments, fit, unit
from certify.ood.verdict import fixed_rank
from tests.certify.claims.test_procedures import terms
from tests.certify.ood.test_mahalanobis import CLASSES, SIZE, moments, sample

SEED = 61


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [1e-8, 1.0, 1e8])
def test_the_ridge_is_relative(kind, scale):
    """An absolute ridge of 1e-6 is a known fault (pytorch-ood#8, alibi-detect). Rotations and scales change nothing."""
    features, labels = sample()
    turned = (features - 50) @ ortho_group.rvs(SIZE, random_state=SEED) * scale
    plain, moved = fit(moments(features - 50, labels), normalised=False), fit(moments(turned, labels), normalised=False)
    assert moved.shrinkage == pytest.approx(plain.shrinkage)
    np.testing.assert_allclose(moved.scores(turned, kind), plain.scores(features - 50, kind), rtol=1e-7, atol=1e-7)


def covariances():
    """Within each class, with counts, of unbalanced classes that differ in shape."""
    features, labels = sample()
    features = features * (1 + labels[:, None])
    parts = [features[labels == c] for c in range(CLASSES)]
    return features, labels, [np.cov(part.T, bias=True) for part in parts], [len(part) for part in parts]


def test_the_covariance_is_pooled_and_divided_by_the_number_of_rows():
    """Known faults: averaged class covariances (oodeel#85), a missing 1/N (pytorch-ood#76, #77), a wrong N (oodeel#93)."""
    features, labels, each, counts = covariances()
    fitted = fit(moments(features, labels), normalised=False)
    pooled = sum(n * c for n, c in zip(counts, each, strict=True)) / sum(counts)

    def error(candidate):
        shrunk = (1 - fitted.shrinkage) * candidate + fitted.shrinkage * np.trace(candidate) / SIZE * np.eye(SIZE)
        return np.abs(fitted.whitening.T @ shrunk @ fitted.whitening - np.eye(SIZE)).max()

    assert error(pooled) < 1e-8
    assert error(sum(each) / CLASSES) > 0.3
    assert error(pooled * sum(counts)) > 100


def test_the_background_has_its_one_over_n_and_distances_are_not_rooted():
    """With d_0 / N the relative score is MD (pytorch-ood, 2024-10-16); equine#210 takes roots first.

    The class is told by the features of the first six channels; the others are noise, common to all, that grows.
    """
    rng, count = np.random.default_rng(SEED), 3_000
    labels = np.arange(count) % CLASSES
    features = rng.normal(size=(count, SIZE)) + 4 * np.eye(CLASSES, SIZE)[labels]
    fitted = fit(moments(features, labels), normalised=False)
    outside = rng.normal(size=(count, SIZE))
    louder = (rng.normal(size=(count, SIZE)) * np.r_[np.ones(6), np.full(6, 1.7)]) + 4 * np.eye(CLASSES, SIZE)[labels]
    right, nearest = (lambda rows: fitted.scores(rows, "rmd")), (lambda rows: fitted.scores(rows, "md"))
    defect = lambda rows: nearest(rows) - fitted.scores(rows, "marginal") / count  # noqa: E731

    def confusion(score):
        return np.mean(score(louder) > np.median(score(outside)))

    assert confusion(right) < 0.05  # louder pictures of known classes are no outsiders
    assert confusion(defect) == pytest.approx(confusion(nearest), abs=0.01)
    assert confusion(nearest) > 3 * confusion(right) + 0.1
    rooted = np.sqrt(nearest(features)) - np.sqrt(fitted.scores(features, "marginal"))
    assert np.corrcoef(rooted, right(features))[0, 1] < 0.999
    np.testing.assert_allclose(right(features), nearest(features) - fitted.scores(features, "marginal"), atol=1e-9)


def test_scoring_many_rows_never_holds_a_square_of_them():
    """diag(A P A^T) materialises N x N (Lee, OpenOOD, pytorch-ood): 800 MB here."""
    features, labels = sample()
    fitted = fit(moments(features, labels), normalised=False)
    rows = np.zeros((10_000, SIZE))
    tracemalloc.start()
    for kind in KINDS:
        fitted.scores(rows, kind)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * rows.nbytes


def test_the_fit_is_float64_whatever_the_features_are():
    """A precision cast to float32 (OpenOOD). Float32 features far from the origin are fitted in float64."""
    features, labels = sample()
    single = (features + 1_000).astype(np.float32)
    ours = fit(moments(single, labels), normalised=False)
    exact = fit(moments(single.astype(np.float64), labels), normalised=False)
    assert ours.whitening.dtype == np.float64
    np.testing.assert_allclose(ours.scores(single, "md"), exact.scores(single, "md"), rtol=1e-9)


@given(st.integers(1, 40))
def test_p_values_of_fresh_ordinary_inputs_are_uniform(size):
    """Over m + 1 ranks, and never above 1: without ties each rank of the new score is equally likely."""
    calibration = np.arange(size, dtype=float)
    found = sorted(p_value(calibration, place - 0.5) for place in range(size + 1))
    assert found == [rank / (size + 1) for rank in range(1, size + 2)]


def far_of_repeated_rows(distinct: int, keyed_by: str, runs: int) -> float:
    """The rate of p <= .05 with 200 calibration rows drawn from few distinct inputs: score = input + noise."""
    rng, size = np.random.default_rng(SEED), 200
    inputs = 0.1 * rng.normal(size=(runs, distinct))
    rows = rng.integers(0, distinct, (runs, size))
    at = np.arange(runs)[:, None]
    noise = rng.normal(size=(runs, distinct))[at, rows] if keyed_by == "input" else rng.normal(size=(runs, size))
    calibration = inputs[at, rows] + noise
    new = inputs[np.arange(runs), rng.integers(0, distinct, runs)] + rng.normal(size=runs)
    return float(np.mean((1 + np.sum(calibration >= new[:, None], axis=1)) / (size + 1) <= 0.05))


@pytest.mark.parametrize("distinct", [5, 20])
def test_calibration_noise_is_keyed_by_the_row(distinct):
    """20 distinct rows in 200: false alarms .07 keyed by the input, with 5 distinct rows .16; keyed by the row .05."""
    runs = 20_000
    limit = binom.isf(1e-6, runs, 0.05) / runs
    assert far_of_repeated_rows(distinct, "row", runs) <= limit
    assert far_of_repeated_rows(distinct, "input", runs) > limit


def test_calibrated_on_many_draws_and_served_with_few_there_is_no_level():
    """On 1,000, served with 25: .12 false alarms at a = .05. So without all of its draws there is no p-value."""
    rng, runs, size = np.random.default_rng(SEED), 20_000, 1_000
    threshold = np.quantile(0.3 * rng.normal(size=size) + rng.normal(size=size) * np.sqrt(np.pi / 2 / 1_000), 0.95)
    served = 0.3 * rng.normal(size=runs) + np.median(rng.normal(size=(runs, 25)), axis=1)
    assert np.mean(served > threshold) > 0.1


def any_radius_false(runs: int, level: float) -> float:
    """How often the fixed-n interval of some of 31 radii is false: linear score, the worst attack of each radius."""
    rng, draws, radii = np.random.default_rng(SEED), 500, np.linspace(0, 1.5, 31)
    t = terms(alpha=level, sigma=1.0, split=AlphaSplit(of_class=1e-9, of_upper=0.0, of_interval=1 - 1e-9))
    ranks = np.array([fixed_rank(draws, t, float(radius)) for radius in radii])
    false = 0
    for part in np.array_split(np.arange(runs), max(1, runs // 2_000)):
        scores = np.sort(rng.normal(size=(len(part), draws)), axis=1)
        wrong = (scores[:, draws - ranks] > -radii) | (scores[:, ranks - 1] < radii)
        false += int(np.any(wrong, axis=1).sum())
    return false / runs


def any_threshold_false(runs: int, level: float) -> float:
    """How often a side of some of 41 thresholds is claimed with a share above the true one; n fixed at 500."""
    rng, draws = np.random.default_rng(SEED), 500
    edges = np.linspace(-2, 2, 41)
    shares = ndtr(-edges)
    above = np.array([binomial.least_hits(draws, float(1 - p), level * p) for p in shares])
    below = np.array([binomial.least_hits(draws, float(p), level * (1 - p)) for p in shares])
    cells = rng.multinomial(draws, np.diff(np.r_[0, ndtr(edges), 1]), runs)
    counted = draws - np.cumsum(cells, axis=1)[:, :-1]  # scores above each edge
    return float(np.mean(np.any((counted >= above) | (draws - counted >= below), axis=1)))


def check_choices(runs: int) -> None:
    limit = binom.isf(1e-6, runs, 0.05) / runs
    radius, threshold = any_radius_false(runs, 0.05), any_threshold_false(runs, 0.05)
    divided = any_radius_false(runs, 0.05 / 31)
    print(
        f"\n{runs} runs at .05: any of 31 radii {radius:.3f}, of 41 thresholds {threshold:.3f}; divided {divided:.4f}"
    )
    assert radius > limit + 0.05
    assert threshold > limit + 0.05
    assert divided <= limit


def test_a_radius_or_threshold_chosen_by_a_request_is_not_covered():
    """Any of 31 radii, any of 41 thresholds; a grid at alpha / #grid is covered."""
    check_choices(4_000)


@pytest.mark.slow
def test_a_radius_or_threshold_chosen_by_a_request_is_not_covered_long():
    """As above, in 1e5 runs."""
    check_choices(100_000)


def test_unit_features_do_not_see_scale_bit_for_bit():
    """MD++ does not change with feature scaling; by a power of two not in a single bit."""
    features, labels = sample()
    fitted = fit(Moments.empty(unit(features)[0], CLASSES).add(unit(features), labels), normalised=True)
    for kind in KINDS:
        np.testing.assert_array_equal(fitted.scores(8 * features, kind), fitted.scores(features, kind))
