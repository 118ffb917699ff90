"""Receipts under a law whose balls have two parts: the form of version 5, and what contradicts it."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from certify.claims.certificate import Terms
from certify.claims.counts import Counts
from certify.claims.procedures import Target, run
from certify.receipts.receipt import ReceiptError, read, recorded
from certify.receipts.recheck import asked, claims, mixture_claim, recheck, stop_reason
from certify.receipts.versions import FIFTH, SCHEMA, schema_of
from certify.receipts.whole_ball import whole_ball
from certify.smoothing.ball import Ball
from certify.smoothing.laws import LAWS
from tests.certify.made_receipts import SPLIT, altered, made
from tests.contract.laws import Columns, ColumnsGuarantee

LAW = ColumnsGuarantee(sigmas=(8,), categories=4, kept=1, changed=1, charge=2.0**-40)
AIM = Ball(LAW.parts, (0.25, 1.0))


@pytest.fixture(autouse=True)
def known(monkeypatch):
    monkeypatch.setitem(LAWS, Columns.name, Columns.rebuild)


def of_two_parts(hits=318, aim=AIM):
    """The receipt of a target under the law of columns, made from one of the Gaussian law."""
    receipt, procedure = made(hits=hits), Target(aim)
    terms = Terms(law=LAW, alpha=receipt.alpha, split=SPLIT, classes=2)
    counts = Counts(draws=320, votes=receipt.votes)
    running = run(procedure, terms, 320)
    certificate = running.conclude(counts)
    sigma, norm, parameters = recorded(LAW.parameters)
    return replace(
        receipt,
        schema=schema_of(LAW, None, further=False),
        noise=replace(receipt.noise, law=LAW.name, sigma=sigma, norm=norm, parameters=parameters),
        procedure=replace(
            receipt.procedure,
            target_radius=aim.size,
            target=whole_ball(aim),
            stop_reason=stop_reason(running, counts, 320),
        ),
        scores=None,
        claims=claims(certificate, None, mixture_claim(certificate, 0.9)),
    )


def test_the_whole_ball_comes_back_from_the_bytes_and_its_claims_from_the_counts():
    receipt = of_two_parts()
    assert receipt.schema == FIFTH
    assert read(json.loads(receipt.to_bytes())) == receipt
    assert asked(receipt) == Target(AIM)
    assert [each.size for each in receipt.claims.certificate.ball] == [receipt.claims.certificate.radius, 1.0]
    assert receipt.claims.mixture.ball is not None
    assert [each for each in recheck(receipt) if not each.agrees] == []


def test_where_nothing_is_certified_no_ball_is_recorded_and_one_that_is_added_differs():
    receipt = of_two_parts(hits=200)
    assert (receipt.claims.certificate.ball, receipt.claims.mixture.ball) == (None, None)
    assert [each for each in recheck(receipt) if not each.agrees] == []
    added = altered(receipt, "claims.certificate.ball", whole_ball(Ball(LAW.parts, (0.0, 1.0))))
    assert [each.field for each in recheck(added) if not each.agrees] == ["claims.certificate.ball"]


def test_a_ball_that_is_left_out_differs():
    receipt = of_two_parts()
    for field in ("certificate", "mixture"):
        without = altered(receipt, f"claims.{field}.ball", None)
        assert [each.field for each in recheck(without) if not each.agrees] == [f"claims.{field}.ball"]


def test_another_platform_may_differ_in_the_last_places_of_a_size_alone():
    receipt = of_two_parts()
    first, second = receipt.claims.certificate.ball
    for factor, agrees in ((1 + 1e-12, True), (1 + 1e-6, False)):
        other = replace(receipt.claims.certificate, radius=first.size * factor)
        other = replace(other, ball=(replace(first, size=first.size * factor), second))
        moved = altered(receipt, "claims.certificate", other)
        assert all(each.agrees for each in recheck(moved)) == agrees


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            "schema",
            SCHEMA,
            f"schema: expected '{FIFTH}', the version of what it has",
        ),
        ("procedure.target", None, "procedure.target: expected a ball if target"),
        ("procedure.target", lambda ball: ball[:1], "procedure.target: expected the parts of the law's balls"),
        ("procedure.target", lambda ball: ball[::-1], "procedure.target: expected the parts of the law's balls"),
        ("procedure.target", lambda ball: (), "procedure.target: expected the parts of the law's balls"),
        ("procedure.target_radius", 0.5, "procedure.target: expected the radius as the size of its first part"),
        (
            "procedure.target",
            lambda ball: (ball[0], replace(ball[1], size=0.5)),
            "procedure.target: expected finite sizes from 0, whole where they count",
        ),
        (
            "procedure.target",
            lambda ball: (ball[0], replace(ball[1], size=math.inf)),
            "procedure.target: expected finite sizes from 0, whole where they count",
        ),
        (
            "procedure.target",
            lambda ball: (ball[0], replace(ball[1], units="words")),
            "procedure.target: expected the parts of the law's balls",
        ),
        (
            "claims.certificate.ball",
            lambda ball: (replace(ball[0], norm="l1"), ball[1]),
            "claims.certificate.ball: expected the parts of the law's balls",
        ),
        (
            "claims.certificate.radius",
            0.125,
            "claims.certificate.ball: expected the radius as the size of its first part",
        ),
        ("claims.mixture.ball", lambda ball: ball[1:], "claims.mixture.ball: expected the parts of the law's balls"),
        ("claims.mixture.radius", 0.0, "claims.mixture.ball: expected the radius as the size of its first part"),
    ],
)
def test_what_contradicts_itself_is_no_receipt(path, value, message):
    receipt = of_two_parts()
    found = receipt
    for name in path.split("."):
        found = getattr(found, name)
    with pytest.raises(ReceiptError, match="^" + message.replace("(", "\\(")):
        altered(receipt, path, value(found) if callable(value) else value)


@pytest.mark.parametrize("path", ["procedure.target", "claims.certificate.ball", "claims.mixture.ball"])
def test_no_ball_stands_beside_a_radius_that_says_all(path):
    with pytest.raises(ReceiptError, match=f"^{path}: expected none, where balls have one part"):
        altered(made(), path, of_two_parts().procedure.target)
    with pytest.raises(ReceiptError, match="^schema: expected"):
        altered(made(), "schema", FIFTH)
