from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.ood.mahalanobis import KINDS, Moments, fit, unit
from certify.ood.scores import NEIGHBOURS, NearestNeighbours, OfLogits, VirtualLogit, energy, fitted_scorers

CLASSES, SIZE = 4, 10
RNG = np.random.default_rng(41)
WEIGHT, BIAS = RNG.standard_normal((CLASSES, SIZE)), RNG.standard_normal(CLASSES)
CENTRES = 2.0 * unit(WEIGHT)


def sample(seed: int, count: int = 400):
    """Features about a centre for each class, and labels."""
    generator, labels = np.random.default_rng(seed), np.arange(count) % CLASSES
    return CENTRES[labels] + 0.3 * generator.standard_normal((count, SIZE)), labels


def logits(features):
    return features @ WEIGHT.T + BIAS


LOGIT_SCORES = ("energy", "max softmax", "max logit", "gen")
NAMES = [*LOGIT_SCORES, "knn", "vim", *(kind + mark for kind in KINDS for mark in ("", "++"))]


def scorers():
    return fitted_scorers(*sample(0), WEIGHT, BIAS)


def scored(name, features):
    return scorers()[name].scores(features, logits(features))


def test_the_table_names_every_score():
    """MD, MD++, KNN, ViM; Energy and GEN beside them."""
    assert set(scorers()) == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_one_interface(name):
    """Float64 [n], a row for a row, pure, and ordinary inputs lie mostly below inputs far off (but d_0's opposite)."""
    inside, outside = sample(1)[0], 0.3 * RNG.standard_normal((50, SIZE))
    before = inside.copy()
    scores = scored(name, inside)
    assert (scores.dtype, scores.shape) == (np.float64, (len(inside),))
    np.testing.assert_array_equal(scored(name, inside), scores)  # scoring leaves the state as it is
    np.testing.assert_array_equal(inside, before)
    np.testing.assert_allclose(scored(name, inside[5:6]), scores[5:6], rtol=1e-9)
    assert scored(name, inside[:0]).shape == (0,)
    if "marginal" not in name:
        assert np.mean(np.median(scores) < scored(name, outside)) > 0.9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_farthest_out(name, bad):
    """A NaN score is plus infinity, never an ordinary one."""
    features = sample(2)[0][:3]
    features[1, 2] = bad
    scorer = scorers()[name]
    with np.errstate(invalid="ignore"):
        rows = logits(features)
    with np.errstate(invalid="raise", over="raise"):  # what it expects is nothing to warn of
        scores = scorer.scores(features, rows)
    assert scores[1] == math.inf
    assert np.isfinite(scores[[0, 2]]).all()


def test_logits_without_order_are_farthest_out_and_a_masked_class_is_not():
    features = np.zeros((4, SIZE))
    rows = np.array([[1.0, 2, 3, 4], [math.inf, 2, 3, 4], [-math.inf] * 4, [-math.inf, 2, 3, 4]])
    for name in LOGIT_SCORES:
        assert np.isposinf(scorers()[name].scores(features, rows)).tolist() == [False, True, True, False]


@given(st.lists(st.floats(-30, 30), min_size=CLASSES, max_size=CLASSES), st.floats(-5, 5))
def test_logit_scores_by_their_formulas(row, shift):
    l = np.array(row)  # noqa: E741
    p = np.exp(l - l.max()) / np.exp(l - l.max()).sum()
    table = scorers()
    found = {name: table[name].scores(np.zeros((1, SIZE)), l[None])[0] for name in LOGIT_SCORES}
    assert found["energy"] == pytest.approx(-math.log(np.exp(l).sum()), abs=1e-12)
    assert found["max softmax"] == pytest.approx(-p.max())
    assert found["max logit"] == -l.max()
    assert found["gen"] == pytest.approx(np.sum(p**0.1 * (1 - p) ** 0.1), abs=1e-6)
    moved = table["energy"].scores(np.zeros((1, SIZE)), l[None] + shift)[0]
    assert moved == pytest.approx(found["energy"] - shift, abs=1e-12)


def test_a_float32_logit_is_scored_in_float64():
    assert OfLogits(energy).scores(np.zeros((1, 2)), np.zeros((1, 2), np.float32))[0] == pytest.approx(-math.log(2))


def test_neighbours_by_sorting():
    features, queries = sample(0)[0], RNG.standard_normal((1_100, SIZE))  # more than are scored at once
    lengths = np.linalg.norm(unit(queries)[:, None] - unit(features), axis=2)
    np.testing.assert_allclose(scored("knn", queries), np.sort(lengths, axis=1)[:, NEIGHBOURS - 1], rtol=1e-9)
    np.testing.assert_allclose(scored("knn", 7 * queries), scored("knn", queries), rtol=1e-9)


def test_banks_concatenate_and_small_ones_are_refused():
    features = sample(0)[0]
    halves = [NearestNeighbours.of(part).bank for part in np.array_split(features, 2)]
    np.testing.assert_array_equal(np.concatenate(halves), NearestNeighbours.of(features).bank)
    with pytest.raises(ValueError, match="a bank of 49 features has no 50-th nearest"):
        NearestNeighbours.of(features[:49])
    assert len(NearestNeighbours.of(features[:50]).bank) == 50


def test_the_virtual_logit_by_its_definition():
    """Residual of the eigenvectors after the top D, scale of means, from merged moments."""
    features, labels = sample(0)
    origin = -np.linalg.pinv(WEIGHT) @ BIAS
    values, vectors = np.linalg.eigh((features - origin).T @ (features - origin) / len(features))
    residual = vectors[:, np.argsort(values)[: SIZE - SIZE // 2]]

    def lengths(rows):
        return np.linalg.norm((rows - origin) @ residual, axis=1)

    scale = logits(features).max(axis=1).mean() / lengths(features).mean()
    queries = RNG.standard_normal((50, SIZE))
    expected = scale * lengths(queries) - np.log(np.exp(logits(queries)).sum(axis=1))
    np.testing.assert_allclose(scored("vim", queries), expected, rtol=1e-9)
    empty = Moments.empty(features[0], CLASSES)
    merged = empty.add(features[:150], labels[:150]) + empty.add(features[150:], labels[150:])
    again = VirtualLogit.of(merged, WEIGHT, BIAS, features)
    np.testing.assert_allclose(again.scores(queries, logits(queries)), expected, rtol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_distances_are_those_of_the_fit(kind):
    features, labels = sample(0)
    queries = RNG.standard_normal((50, SIZE))
    for rows, mark in ((features, ""), (unit(features), "++")):
        fitted = fit(Moments.empty(rows.mean(axis=0), CLASSES).add(rows, labels), normalised=bool(mark))
        np.testing.assert_array_equal(scored(kind + mark, queries), fitted.scores(queries, kind))


def test_features_too_large_to_square_are_farthest_out_without_a_warning():
    features = np.array([[1e200] * SIZE, [1.0] * SIZE])
    table = scorers()
    for name in ("knn", "vim"):
        with np.errstate(over="raise", invalid="raise"):
            scores = table[name].scores(features, np.zeros((2, CLASSES)))
        assert np.isfinite(scores[1])
        assert name == "knn" or scores[0] == math.inf
