from __future__ import annotations

from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import solve_triangular

from certify.ood.mahalanobis import KINDS, Moments, fit, unit

CLASSES, SIZE = 4, 12


def sample(seed: int = 0, count: int = 600):
    """Unbalanced classes about different means, correlated channels, far from the origin."""
    generator = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(CLASSES), generator.choice(CLASSES, count - CLASSES, p=[0.5, 0.3, 0.15, 0.05])])
    mixing = np.random.default_rng(99).standard_normal((SIZE, SIZE))
    means = 3 * np.random.default_rng(98).standard_normal((CLASSES, SIZE))
    return generator.standard_normal((count, SIZE)) @ mixing + means[labels] + 50, labels


def moments(features, labels, shift=None):
    return Moments.empty(features[:10].mean(axis=0) if shift is None else shift, CLASSES).add(features, labels)


def direct(features, labels, queries, kind, shrinkage):
    """Two passes, explicit inverses, every difference formed: what the fit and both scores have to equal."""
    means = np.stack([features[labels == c].mean(axis=0) for c in range(CLASSES)])
    residuals = features - means[labels]
    within = residuals.T @ residuals / len(features)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / SIZE * np.eye(SIZE)
    gaps = queries[:, None] - means
    nearest = np.einsum("ncd,de,nce->nc", gaps, np.linalg.inv(shrunk), gaps).min(axis=1)
    if kind == "md":
        return nearest
    centre = features.mean(axis=0)
    share = np.bincount(labels) / len(labels)
    total = shrunk + np.einsum("c,cd,ce->de", share, means - centre, means - centre)
    background = np.einsum("nd,de,ne->n", queries - centre, np.linalg.inv(total), queries - centre)
    return background if kind == "marginal" else nearest - background


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalised", [False, True])
def test_scores_equal_the_direct_formula(kind, normalised):
    features, labels = sample()
    queries = np.random.default_rng(5).standard_normal((200, SIZE)) * 20 + 50
    rows, asked = (unit(features), unit(queries)) if normalised else (features, queries)
    fitted = fit(moments(rows, labels), normalised=normalised)
    expected = direct(rows, labels, asked, kind, fitted.shrinkage)
    np.testing.assert_allclose(fitted.scores(queries, kind), expected, rtol=1e-7, atol=1e-7)


def test_the_low_rank_relative_score_is_the_direct_one():
    """Min d_c - d_0 at cost dC + C^2 against two whitenings, to 3e-13 of d_0."""
    generator, labels = np.random.default_rng(6), np.arange(5_000) % CLASSES
    features = generator.standard_normal((5_000, SIZE)) * np.linspace(0.5, 2, SIZE)
    features += 3 * generator.standard_normal((CLASSES, SIZE))[labels]
    fitted = fit(moments(features, labels), normalised=False)
    means = np.stack([features[labels == c].mean(axis=0) for c in range(CLASSES)])
    centre, residuals = features.mean(axis=0), features - means[labels]
    within = residuals.T @ residuals / len(features)
    shrunk = (1 - fitted.shrinkage) * within + fitted.shrinkage * np.trace(within) / SIZE * np.eye(SIZE)
    total = shrunk + (means - centre).T @ np.diag(np.bincount(labels) / len(labels)) @ (means - centre)

    def distance(covariance, gaps):
        return np.sum(solve_triangular(np.linalg.cholesky(covariance), gaps.T, lower=True) ** 2, axis=0)

    queries = 5 * generator.standard_normal((1_000, SIZE))
    background = distance(total, queries - centre)
    nearest = np.min([distance(shrunk, queries - mean) for mean in means], axis=0)
    error = np.abs(fitted.scores(queries, "rmd") - (nearest - background))
    assert np.max(error / background) < 3e-13
    differences = fitted.scores(queries, "md") - fitted.scores(queries, "marginal")
    assert np.max(np.abs(fitted.scores(queries, "rmd") - differences) / background) < 3e-13


def test_relative_score_uses_the_scatter_of_all_data():
    """A background covariance that lacks its 1/N turns RMD into MD, as in released code; here the two differ."""
    features, labels = sample()
    fitted = fit(moments(features, labels), normalised=False)
    assert np.median(fitted.scores(features, "md") - fitted.scores(features, "rmd")) > SIZE / 2


@settings(max_examples=25)
@given(st.lists(st.integers(1, 599), max_size=5, unique=True), st.randoms(use_true_random=False))
def test_shards_in_any_order_give_the_single_pass(cuts, random):
    features, labels = sample()
    shift = features[:10].mean(axis=0)
    edges = [0, *sorted(cuts), len(features)]
    shards = [moments(features[a:b], labels[a:b], shift) for a, b in pairwise(edges)]
    random.shuffle(shards)
    merged, whole = reduce(add, shards), moments(features, labels, shift)
    np.testing.assert_allclose(merged.scatter, whole.scatter, rtol=1e-9)
    np.testing.assert_array_equal(merged.counts, whole.counts)
    ours, theirs = (fit(each, normalised=False).scores(features, "rmd") for each in (merged, whole))
    np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8)


def test_batches_add_up():
    features, labels = sample()
    whole = moments(features, labels)
    parts = Moments.empty(whole.shift, CLASSES)
    for start in range(0, len(features), 64):
        parts = parts.add(features[start : start + 64], labels[start : start + 64])
    np.testing.assert_allclose(parts.sums, whole.sums, rtol=1e-9)


def test_moments_about_different_shifts_do_not_merge():
    features, labels = sample()
    with pytest.raises(
        ValueError, match="^only moments about the same shift can be merged; give one shift to every worker$"
    ):
        moments(features, labels) + moments(features, labels, np.zeros(SIZE))


def test_the_shift_saves_the_scatter_far_from_the_origin():
    features, labels = sample()
    far = fit(moments(features + 1e6, labels), normalised=False)
    near = fit(moments(features, labels), normalised=False)
    np.testing.assert_allclose(far.scores(features + 1e6, "md"), near.scores(features, "md"), rtol=1e-4)


@pytest.mark.parametrize("kind", ["md", "rmd"])
def test_scores_do_not_depend_on_invertible_linear_maps(kind):
    features, labels = sample(count=6000)
    mapping = np.random.default_rng(7).standard_normal((SIZE, SIZE)) + 3 * np.eye(SIZE)
    plain, mapped = (
        fit(moments(rows, labels), normalised=False, least_shrinkage=0.0) for rows in (features, features @ mapping)
    )
    queries = features[:100] * 1.3
    ours, theirs = plain.scores(queries, kind), mapped.scores(queries @ mapping, kind)
    assert np.corrcoef(ours, theirs)[0, 1] > 0.99  # the estimated shrinkage is small but not zero


def test_unit_features_do_not_see_length():
    features, labels = sample()
    fitted = fit(moments(unit(features), labels), normalised=True)
    np.testing.assert_allclose(fitted.scores(features * 17.0, "md"), fitted.scores(features, "md"), rtol=1e-9)


def test_one_class_has_no_relative_score():
    features, _ = sample()
    everything = Moments.empty(features[0], 1).add(features, np.zeros(len(features), dtype=int))
    assert np.abs(fit(everything, normalised=False).scores(features, "rmd")).max() < 1e-9


def test_dead_channels_and_few_rows_are_fitted_finitely():
    features, labels = sample(count=8)
    features[:, 3] = 0.0
    scores = fit(moments(features, labels), normalised=False).scores(features, "md")
    assert np.isfinite(scores).all()
    assert scores.min() >= 0


@pytest.mark.parametrize("kind", ["md", "marginal"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_squared_distance_is_never_negative(kind, scale):
    """At the means themselves it is 0, and rounding would take about half of such queries below it."""
    for seed in range(20):
        features, labels = sample(seed, count=40)
        fitted = fit(moments(scale * features, labels), normalised=False)
        means = np.stack([scale * features[labels == c].mean(axis=0) for c in range(CLASSES)])
        centre = scale * features.mean(axis=0, keepdims=True)
        nearest = fitted.scores(means if kind == "md" else centre, kind)
        assert np.all((nearest >= 0) & (nearest < 1e-9))


def test_a_difference_of_distances_may_be_negative():
    features, labels = sample()
    assert fit(moments(features, labels), normalised=False).scores(features, "rmd").min() < -1


def test_outside_scores_higher_and_scoring_changes_nothing():
    features, labels = sample()
    fitted = fit(moments(features, labels), normalised=False)
    before = [np.array(each) for each in (fitted.centre, fitted.whitening, fitted.class_means, fitted.pull)]
    inside, outside = sample(seed=1)[0], sample(seed=2)[0] + 30
    for kind in ("md", "rmd"):
        assert np.median(fitted.scores(outside, kind)) > np.quantile(fitted.scores(inside, kind), 0.99)
    for was, now in zip(before, (fitted.centre, fitted.whitening, fitted.class_means, fitted.pull), strict=True):
        np.testing.assert_array_equal(was, now)


def test_the_mean_inside_score_is_the_number_of_channels():
    features, labels = sample(count=20_000)
    own = fit(moments(features, labels), normalised=False, least_shrinkage=0.0).scores(features, "md")
    assert own.mean() <= SIZE  # the nearest class is at most as far as the true one, whose mean is SIZE
    assert own.mean() > 0.5 * SIZE


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e200])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_not_finite_scores_infinity(bad, kind):
    features, labels = sample()
    queries = features[:2].copy()
    queries[1, 4] = bad
    scores = fit(moments(features, labels), normalised=False).scores(queries, kind)
    assert np.isfinite(scores[0])
    assert scores[1] == np.inf


def test_refusals():
    features, labels = sample()
    with pytest.raises(ValueError, match=r"classes \[2\]"):
        fit(moments(features[labels != 2], labels[labels != 2]), normalised=False)
    few = np.append(np.flatnonzero(labels > 2), np.flatnonzero(labels == 1)[0])  # a single one will do
    with pytest.raises(ValueError, match=r"classes \[0, 2\]"):
        fit(moments(features[few], labels[few]), normalised=False)
    with pytest.raises(ValueError, match="one of md, rmd, marginal, got 'mahalanobis'"):
        fit(moments(features, labels), normalised=False).scores(features, "mahalanobis")
    features[3, 3] = np.nan
    with pytest.raises(ValueError, match="^the features to fit are not all finite; check the network and its inputs$"):
        moments(features, labels, np.zeros(SIZE))


def test_features_of_one_channel_are_shrunk_to_their_variance_without_a_warning():
    with np.errstate(divide="raise", invalid="raise"):
        fitted = fit(
            Moments.empty(np.zeros(1), 1).add(np.array([[1.0], [2.0], [6.0]]), np.zeros(3, int)), normalised=False
        )
    assert fitted.shrinkage == 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bad", [np.inf, 1e200])
def test_what_is_not_finite_is_nothing_to_warn_of(bad, kind):
    features, labels = sample()
    fitted = fit(moments(features, labels), normalised=False)
    with np.errstate(invalid="raise", over="raise"):
        assert fitted.scores(np.full((1, SIZE), bad), kind)[0] == np.inf


def test_a_nearly_round_covariance_is_shrunk_to_a_round_one_and_no_further():
    features = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.01], [0.0, -1.01]])
    assert fit(Moments.empty(np.zeros(2), 1).add(features, np.zeros(4, int)), normalised=False).shrinkage == 1.0


def test_the_shrinkage_is_that_of_the_oracle_approximation():
    """Chen, Wiesel, Eldar and Hero (2010), equation 23, with the degrees of freedom that are left beside the class means."""
    features = np.concatenate([np.diag([30.0, 2.0, 1.0]), -np.diag([30.0, 2.0, 1.0])])
    fitted = fit(Moments.empty(np.zeros(3), 1).add(features, np.zeros(6, int)), normalised=False)
    variances = np.array([900.0, 4.0, 1.0]) / 3
    squared, trace = np.sum(variances**2), np.sum(variances)
    expected = ((1 - 2 / 3) * squared + trace**2) / ((5 + 1 - 2 / 3) * (squared - trace**2 / 3))
    assert expected < 1
    assert fitted.shrinkage == pytest.approx(expected, rel=1e-12)


ADDED = {
    "a label of -1": (lambda x, y: (x, np.where(y == 2, -1, y)), r"labels from 0 to 3, got -1 at row \d+"),
    "a label too large": (lambda x, y: (x, np.where(y == 2, 4, y)), r"labels from 0 to 3, got 4 at row \d+"),
    "one-hot labels": (lambda x, y: (x, np.eye(4, dtype=int)[y]), r"integer labels of shape \(60,\).*by argmax"),
    "a column of labels": (lambda x, y: (x, y[:, None]), r"integer labels of shape \(60,\)"),
    "labels of floats": (lambda x, y: (x, y.astype(float)), r"integer labels .* got float64"),
    "labels of truth": (lambda x, y: (x, y == 1), r"integer labels .* got bool"),
    "labels of text": (lambda x, y: (x, y.astype(str)), r"integer labels"),
    "too few labels": (lambda x, y: (x, y[:-1]), r"integer labels of shape \(60,\)"),
    "one label": (lambda x, y: (x, y[:1]), r"integer labels of shape \(60,\)"),
    "no labels": (lambda x, y: (x, y[:0]), r"integer labels of shape \(60,\)"),
    "nothing at all": (lambda x, y: (x[:0], y[:0]), r"no features to add; expected one row or more"),
    "a single feature": (lambda x, y: (x[0], y[:1]), r"expected features \[n, 12\]"),
    "pictures": (lambda x, y: (x[:, None], y), r"expected features \[n, 12\]"),
    "other features": (lambda x, y: (x[:, 1:], y), r"expected features \[n, 12\].*shape \(60, 11\)"),
    "one channel": (lambda x, y: (x[:, :1], y), r"expected features \[n, 12\]"),
    "complex features": (lambda x, y: (x + 1j, y), r"expected features \[n, 12\] of numbers, got complex"),
    "an infinite feature": (lambda x, y: (np.where(x == x[3, 3], -np.inf, x), y), r"not all finite"),
}


@pytest.mark.parametrize("case", ADDED)
def test_what_cannot_be_added_is_refused_and_says_what_was_expected(case):
    change, message = ADDED[case]
    features, labels = sample(count=60)
    with pytest.raises(ValueError, match=message):
        Moments.empty(features[0], CLASSES).add(*change(features, labels))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.uint64, np.int32])
def test_labels_of_any_integer_type_are_labels(kind):
    features, labels = sample(count=60)
    np.testing.assert_array_equal(moments(features, labels.astype(kind)).sums, moments(features, labels).sums)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: m + Moments.empty(m.shift, CLASSES + 1), "same classes .* got 4 and 5 classes"),
        (lambda m: m + Moments.empty(m.shift, 1), "same classes .* got 4 and 1 classes"),
        (lambda m: m + Moments.empty(m.shift[1:], CLASSES), "the same shift"),
        (lambda m: m.with_class(np.empty((0, SIZE))), "expected one row or more"),
        (lambda m: m.with_class(np.ones(SIZE)), r"expected features \[n, 12\]"),
        (lambda m: m.with_class(np.full((2, SIZE), np.nan)), "not all finite"),
        (lambda m: Moments.empty(m.shift, 0), "one class or more"),
        (lambda m: Moments.empty(m.shift * np.nan, CLASSES), "one finite vector"),
        (lambda m: Moments.empty(np.empty((0, SIZE)), CLASSES), "one finite vector"),
        (lambda m: Moments.empty(np.empty(0), CLASSES), "one finite vector"),
        (lambda m: Moments.empty(m.shift, CLASSES).second_moment(m.shift), "expected one row or more"),
        (lambda m: fit(Moments.empty(m.shift, CLASSES), normalised=False), r"for the classes \[0, 1, 2, 3\]"),
        (lambda m: fit(m, normalised=False, least_shrinkage=-0.1), "between 0 and 1"),
        (lambda m: fit(m, normalised=False, least_shrinkage=np.nan), "between 0 and 1"),
        (lambda m: unit(m.shift), r"expected features \[n, d\]"),
    ],
)
def test_moments_that_make_no_fit_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(moments(*sample(count=60)))


@pytest.mark.parametrize(
    "where", ["at the shift", "at the mean of each class", "one row a class", "far from the shift"]
)
def test_classes_without_spread_have_no_distance(where):
    means = np.random.default_rng(3).standard_normal((CLASSES, SIZE))
    labels = np.arange(CLASSES).repeat(1 if where == "one row a class" else 25)
    features = {"at the shift": 0 * means, "far from the shift": means + 1e6}.get(where, means)[labels]
    shift = features[0] if where == "at the shift" else np.zeros(SIZE)
    with pytest.raises(ValueError, match="do not differ within any class.*expected some spread"):
        fit(moments(features, labels, shift), normalised=False)


def test_features_whose_squares_overflow_are_refused():
    features, labels = sample(count=60)
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(ValueError, match="expected features below"):
        fit(moments(1e200 * features, labels, np.zeros(SIZE)), normalised=False)
