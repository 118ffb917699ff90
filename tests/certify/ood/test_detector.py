from __future__ import annotations

import numpy as np
import pytest

from certify.ood.conformal import p_value
from certify.ood.detector import Calibrated, Fitted
from certify.ood.mahalanobis import KINDS, Moments, unit
from tests.certify.ood.test_mahalanobis import CLASSES, SIZE, sample

FEATURES, LABELS = sample()
NEW = np.random.default_rng(3).standard_normal((40, SIZE)) + 45
QUERIES = np.random.default_rng(4).standard_normal((200, SIZE)) * 20 + 50


def fitted(features=FEATURES, labels=LABELS, classes=CLASSES, kind="rmd", normalised=False):
    rows, shift = (unit(features), unit(FEATURES)[0]) if normalised else (features, FEATURES[0])
    return Fitted(moments=Moments.empty(shift, classes).add(rows, labels), normalised=normalised, kind=kind)


def scored(detector, features=QUERIES):
    return detector.scorer().scores(features, np.empty((len(features), 0)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("normalised", [False, True])
def test_a_class_added_is_the_fit_of_all_the_data(kind, normalised):
    """Exactly, and without a new fit."""
    grown = fitted(kind=kind, normalised=normalised).with_class(NEW)
    everything, labels = np.concatenate([FEATURES, NEW]), np.append(LABELS, np.full(len(NEW), CLASSES))
    whole = fitted(everything, labels, CLASSES + 1, kind, normalised)
    np.testing.assert_array_equal(grown.moments.counts, whole.moments.counts)
    np.testing.assert_allclose(grown.moments.sums, whole.moments.sums, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(grown.moments.scatter, whole.moments.scatter, rtol=1e-11, atol=1e-9)
    np.testing.assert_allclose(scored(grown), scored(whole), rtol=1e-8, atol=1e-8)


def test_the_mutant_that_weights_covariances_by_the_number_of_classes_fails():
    """C/(C+1) Sigma + 1/(C+1) Sigma_new (Lee et al. 2018, algorithm 2) is right for balanced classes."""
    means = np.stack([FEATURES[c == LABELS].mean(axis=0) for c in range(CLASSES)])
    old = np.cov((FEATURES - means[LABELS]).T, bias=True)
    new = np.cov(NEW.T, bias=True)
    share = len(NEW) / (len(NEW) + len(FEATURES))
    moments = fitted().with_class(NEW).moments
    centres = moments.sums / moments.counts[:, None]
    within = (moments.scatter - (centres * moments.counts[:, None]).T @ centres) / moments.counts.sum()
    np.testing.assert_allclose(within, (1 - share) * old + share * new, rtol=1e-8, atol=1e-8)
    mutant = CLASSES / (CLASSES + 1) * old + new / (CLASSES + 1)
    assert np.linalg.norm(mutant - within) > 0.03 * np.linalg.norm(within)


def test_a_new_class_voids_the_calibration():
    """Its p-values are void, and a detector without calibration cannot be asked for one."""
    old = fitted()
    calibrated = old.calibrated(scored(old, FEATURES[:100]), old.digest)
    assert calibrated.p_value(3.0) == p_value(np.sort(scored(old, FEATURES[:100])), 3.0)
    grown = calibrated.with_class(NEW)
    assert isinstance(grown, Fitted)
    assert not hasattr(grown, "p_value")
    with pytest.raises(ValueError, match=r"adding a class or data voids calibration"):
        grown.calibrated(calibrated.scores, old.digest)
    assert isinstance(grown.calibrated(scored(grown, NEW), grown.digest), Calibrated)


def test_the_digest_sees_every_change():
    base = fitted()
    changed = [fitted(kind="md"), fitted(normalised=True), fitted(FEATURES + 1e-9), base.with_class(NEW)]
    assert fitted().digest == base.digest
    halves = np.arange(len(LABELS)) % 2
    assert fitted(labels=halves, classes=2).digest != fitted(labels=1 - halves, classes=2).digest  # the sums alone
    assert len({each.digest for each in (base, *changed)}) == 5


@pytest.mark.parametrize("scores", [np.empty(0), np.array([[1.0]]), np.array([np.nan])])
def test_calibration_scores_that_are_none_are_refused(scores):
    with pytest.raises(
        ValueError, match="^expected one vector of calibration scores without NaN; score a NaN as .inf$"
    ):
        fitted().calibrated(scores, fitted().digest)


def test_an_unknown_score_is_refused():
    with pytest.raises(ValueError, match="one of md, rmd, marginal"):
        fitted(kind="energy")


def test_unit_features_do_not_see_length():
    scores = scored(fitted(normalised=True))
    np.testing.assert_allclose(scored(fitted(normalised=True), 7 * QUERIES), scores, rtol=1e-9)
    assert not np.allclose(scored(fitted(), 7 * QUERIES), scored(fitted()))
    assert fitted(normalised=True).scorer().fitted.normalised is True
