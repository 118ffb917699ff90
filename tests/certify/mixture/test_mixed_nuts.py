from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.mixture.mixed_nuts import Fit, MixedNuts, fit, normalised

PUBLISHED = {  # s, c, p of the paper
    "CIFAR-10": MixedNuts(scale=5.0, shift=-1.1, power=4.0),
    "CIFAR-100": MixedNuts(scale=0.612, shift=-2.143, power=3.571),
    "ImageNet": MixedNuts(scale=0.02354, shift=-0.2857, power=2.714),
}


def by_hand(transform, logits):
    """One row, in Python's floats."""
    top = sorted(min(max(float(each), -1e15), 1e15) for each in logits)[-250:]
    mean = math.fsum(top) / len(top)
    deviation = math.sqrt(math.fsum((each - mean) ** 2 for each in top) / (len(top) - 1) + 1e-8)
    mapped = []
    for each in logits:
        v = (min(max(float(each), -1e15), 1e15) - mean) / deviation + transform.shift
        u = v * 0.5 * math.erfc(-v / math.sqrt(2))
        mapped.append(transform.scale * abs(u) ** transform.power * (1 if u > 0 else -1 if u < 0 else 0))
    return mapped


@pytest.mark.parametrize("classes", [2, 10, 100, 400])
@pytest.mark.parametrize("transform", PUBLISHED.values(), ids=PUBLISHED)
def test_the_map_by_hand(transform, classes):
    rows = np.random.default_rng(classes).normal(scale=4, size=(5, classes)).astype(np.float32)
    found = transform.logits(rows)
    assert found.dtype == np.float64
    for row, mapped in zip(rows, found, strict=True):
        assert mapped == pytest.approx(by_hand(transform, row), rel=1e-12, abs=1e-14)


def test_any_number_of_leading_axes():
    rows, transform = np.random.default_rng(6).normal(size=(2, 3, 7)), PUBLISHED["ImageNet"]
    mapped = transform.logits(rows)
    assert mapped[1, 2] == pytest.approx(transform.logits(rows[1, 2]), rel=1e-12)
    assert mapped[1] == pytest.approx(transform.logits(rows[1]), rel=1e-12)


def test_infinite_logits_stay_numbers_and_scale_and_shift_of_logits_do_not_matter():
    rows = np.array([[np.inf, 0.0, -np.inf, 1.0]])
    assert np.isfinite(PUBLISHED["CIFAR-10"].logits(rows)).all()
    finite = np.random.default_rng(1).normal(size=(3, 10))
    assert normalised(7 * finite + 3) == pytest.approx(normalised(finite), abs=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_a_top_logit_above_the_shift_keeps_the_argmax(seed):
    """Random logits of 100 classes, c = -2.143: always kept above -c."""
    rows = np.random.default_rng(seed).normal(size=(200, 100))
    transform = PUBLISHED["CIFAR-100"]
    above = normalised(rows).max(axis=1) > -transform.shift
    kept = transform.logits(rows).argmax(axis=1) == rows.argmax(axis=1)
    assert kept[above].all()


def test_a_top_logit_below_the_shift_does_not():
    """99.9 % are changed: ranks invert where GELU falls."""
    transform, rng = PUBLISHED["CIFAR-100"], np.random.default_rng(2)
    rows = rng.normal(size=(20_000, 100))
    below = normalised(rows).max(axis=1) < -transform.shift
    kept = transform.logits(rows).argmax(axis=1) == rows.argmax(axis=1)
    assert below.sum() > 1_000
    assert kept[below].mean() < 0.01


@pytest.mark.parametrize(
    "wrong", [{"scale": 0.0}, {"power": 0.0}, {"shift": math.nan}, {"scale": math.inf}, {"power": math.inf}]
)
def test_a_map_out_of_its_domain_is_refused(wrong):
    with pytest.raises(ValueError, match="must be positive"):
        MixedNuts(**{"scale": 1.0, "power": 1.0, "shift": 0.0} | wrong)


@pytest.mark.parametrize("bad", [np.ones((3, 1)), np.array([[0.0, math.nan]])])
def test_logits_that_cannot_be_normalised_are_refused(bad):
    with pytest.raises(ValueError, match="two classes or more without NaN"):
        normalised(bad)


GRID = {"scales": (0.1, 1.0, 5.0), "powers": (1.0, 2.0, 4.0), "shifts": (-2.0, -1.0, 0.0)}


def held_out(size=600, classes=10, seed=3):
    """Logits of a network that is surer where it is right, less so under attack."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, size)
    lift = np.eye(classes)[labels]
    clean = rng.normal(size=(size, classes)) + lift * rng.gamma(4, 1, size=(size, 1))
    attacked = rng.normal(size=(size, classes)) + lift * rng.gamma(3, 0.8, size=(size, 1))
    return clean, attacked, labels


def measured(transform, weight, logits, chosen):
    """By the definition: which inputs keep h's argmax in the mixture with any accurate network."""
    kept = []
    for row in logits[chosen]:
        mapped = np.array(by_hand(transform, row))
        shares = np.exp(mapped - mapped.max()) / np.exp(mapped - mapped.max()).sum()
        own = shares[row.argmax()]
        others = np.delete(shares, row.argmax()).max()
        kept.append(own - others >= (1 - weight) / weight - 1e-12)
    return np.mean(kept)


def test_the_fit_keeps_the_share_and_is_the_best_of_its_grid():
    """The objective and the condition by their definitions, for every map of the grid."""
    clean, attacked, labels = held_out()
    found = fit(clean, attacked, labels, **GRID, share=0.9)
    right, wrong = attacked.argmax(axis=1) == labels, clean.argmax(axis=1) != labels
    assert measured(found.transform, found.robust_weight, attacked, right) >= 0.9
    assert measured(found.transform, found.robust_weight - 1e-3, attacked, right) < 0.9
    assert measured(found.transform, found.robust_weight, clean, wrong) == pytest.approx(found.confidently_wrong)
    alone = [
        fit(clean, attacked, labels, scales=(s,), powers=(p,), shifts=(c,), share=0.9)
        for s in GRID["scales"]
        for p in GRID["powers"]
        for c in GRID["shifts"]
        if (s, p, c) not in hopeless(clean, attacked, labels)
    ]
    assert found.confidently_wrong == min(each.confidently_wrong for each in alone)
    assert found.robust_weight == min(
        each.robust_weight for each in alone if each.confidently_wrong == found.confidently_wrong
    )
    assert 0.5 < found.robust_weight < 1


def hopeless(clean, attacked, labels):
    """Maps that invert more than the share allows."""
    refused = set()
    for s in GRID["scales"]:
        for p in GRID["powers"]:
            for c in GRID["shifts"]:
                try:
                    fit(clean, attacked, labels, scales=(s,), powers=(p,), shifts=(c,), share=0.9)
                except ValueError:
                    refused.add((s, p, c))
    return refused


def test_inputs_whose_argmax_moves_are_counted():
    """At the time of the fit."""
    clean, attacked, labels = held_out(seed=4)
    found = fit(clean, attacked, labels, scales=(1.0,), powers=(1.0,), shifts=(-1.6,), share=0.5)
    mapped = [found.transform.logits(rows).argmax(axis=1) for rows in (clean, attacked)]
    moved = sum(np.sum(m != rows.argmax(axis=1)) for m, rows in zip(mapped, (clean, attacked), strict=True))
    assert found.argmax_changed == moved > 0


def test_the_margin_can_reach_one_and_the_weight_stays_above_one_half():
    clean = attacked = 50 * np.eye(3)[np.array([0, 1, 2, 0])]
    found = fit(clean, attacked, np.array([0, 1, 2, 0]), scales=(100.0,), powers=(4.0,), shifts=(0.0,), share=0.5)
    assert isinstance(found, Fit)
    assert 0.5 < found.robust_weight < 0.5 + 1e-8
    assert (found.confidently_wrong, found.argmax_changed) == (0.0, 0)


def test_what_cannot_be_fitted_says_why():
    clean, attacked, labels = held_out(size=50)
    for share in (0.0, 1.0):
        with pytest.raises(ValueError, match="^the share of attacked inputs"):
            fit(clean, attacked, labels, **GRID, share=share)
    with pytest.raises(ValueError, match="^the robust network gets no attacked input right"):
        fit(clean, attacked, (attacked.argmax(axis=1) + 1) % 10, **GRID, share=0.9)
    with pytest.raises(ValueError, match="^no map of the grid keeps"):
        fit(clean, attacked, labels, scales=(1.0,), powers=(1.0,), shifts=(-9.0,), share=0.9)


def test_a_logit_that_the_shift_makes_nothing_stays_nothing():
    assert MixedNuts(scale=1.0, shift=0.0, power=2.0).logits(np.array([[-1.0, 0.0, 1.0]]))[0, 1] == 0.0
