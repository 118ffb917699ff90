"""What a recheck and a replay report: every field by its name, with what was said and what was found."""

from __future__ import annotations

import numpy as np
import pytest

from certify.receipts.recheck import recheck
from tests.certify.made_receipts import altered, made

CERTIFICATE = [f"claims.certificate.{name}" for name in ("status", "class_index", "radius", "p_a_lower", "p_b_upper")]
MIXTURE = ["claims.mixture.class_index", "claims.mixture.radius"]
SCORE = ["score", "p_value", "in_distribution", "verdict", "score_lower", "score_upper"]
ALL = ["procedure.stop_reason", *CERTIFICATE, *MIXTURE, "scores.rank", *(f"claims.ood.{name}" for name in SCORE)]


def test_every_claim_is_found_by_its_name_with_both_values():
    receipt = made()
    findings = recheck(receipt)
    assert [each.field for each in findings] == ALL
    for each in findings:
        value = receipt
        for name in each.field.split("."):
            value = getattr(value, name)
        assert (each.said, each.found, each.agrees) == (value, value, True)


def test_what_was_claimed_is_there():
    claims = made().claims
    assert (claims.certificate.status, claims.certificate.class_index) == ("certified", 1)
    assert (claims.mixture.class_index, claims.ood.verdict) == (1, "in_distribution")
    assert 8.0 <= claims.certificate.radius > claims.mixture.radius > 0
    thin = made("best", hits=212).claims
    assert (thin.certificate.class_index, thin.mixture.radius, thin.mixture.class_index) == (1, 0.0, None)


@pytest.mark.parametrize(
    ("options", "reason"),
    [({"hits": 310}, "max_draws"), ({"draws": 224, "hits": 222}, "decided"), ({"draws": 224, "hits": 160}, "cut")],
)
def test_the_reason_of_the_stop(options, reason):
    assert made(**options).procedure.stop_reason == reason


@pytest.mark.parametrize(
    ("path", "by", "agrees"),
    [
        ("claims.certificate.radius", 1e-8, True),  # sigma is 16: 16 times the tolerance
        ("claims.certificate.radius", 1e-6, False),
        ("claims.certificate.p_a_lower", 1e-10, True),
        ("claims.certificate.p_a_lower", 1e-8, False),
        ("claims.certificate.p_b_upper", 1e-12, True),
        ("claims.certificate.p_b_upper", 1e-9, False),
        ("claims.mixture.radius", 1e-8, True),
        ("claims.mixture.radius", 1e-6, False),
        ("claims.ood.score_lower", 1e-12, False),  # no special function has made it
        ("claims.ood.p_value", 1e-15, False),
    ],
)
def test_bounds_may_differ_by_the_last_places_of_a_platform_and_records_may_not(path, by, agrees):
    receipt = made()
    value = receipt
    for name in path.split("."):
        value = getattr(value, name)
    (found,) = [each for each in recheck(altered(receipt, path, value + by)) if each.field == path]
    assert (found.said, found.found, found.agrees) == (value + by, value, agrees)


@pytest.mark.parametrize(("by", "agrees"), [(1e-8, True), (1e-7, False)])
def test_a_small_radius_is_compared_in_units_of_sigma(by, agrees):
    receipt = made("best", hits=221)
    radius = receipt.claims.mixture.radius
    assert 0 < radius < 1  # a difference of 1e-8 is more than TOLERANCE of it, and less than TOLERANCE of sigma 16
    findings = recheck(altered(receipt, "claims.mixture.radius", radius + by))
    assert all(each.agrees for each in findings) is agrees
    assert receipt.claims.mixture.class_index == 1


@pytest.mark.parametrize("name", ["certificate", "mixture", "ood"])
def test_a_claim_that_was_left_out_is_compared_as_a_whole(name):
    receipt = made()
    (found,) = [each for each in recheck(altered(receipt, f"claims.{name}", None)) if each.field == f"claims.{name}"]
    assert found.said is None
    assert found.agrees is (name == "certificate")  # a certificate may serve the mixture alone
    assert (found.found is None) is (name == "certificate")


def test_lost_draws_take_their_part():
    """They widen the upper bound, too: 150 votes and 40 lost draws of 320 may be 190."""
    scores = np.where(np.arange(320) < 40, np.nan, 100.0)
    receipt = made("best", hits=150, lost=40, scores=scores)
    assert receipt.claims.certificate.p_b_upper > 190 / 320
    assert all(each.agrees for each in recheck(receipt))


def test_a_certificate_without_a_mixture_proves_none():
    receipt = altered(altered(made(), "claims.mixture", None), "robust_weight", None)
    assert all(each.agrees for each in recheck(receipt))


def test_votes_that_no_procedure_has_judged_prove_no_mixture():
    """The very claim that the counts would prove with a procedure: with "off" no share of alpha was declared for it."""
    receipt = altered(made("off"), "robust_weight", 0.9)
    (found,) = [
        each
        for each in recheck(altered(receipt, "claims.mixture", made("best").claims.mixture))
        if each.field.startswith("claims.mixture")
    ]
    assert (found.found, found.agrees) == (None, False)
