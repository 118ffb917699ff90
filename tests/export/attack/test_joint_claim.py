"""The falsifier and joint labels: what an answer claims of them, a true one stands, and one that says too much is found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from certify.smoothing.gaussian import Gaussian
from export.attack.claims import Aim, JointShare, issued
from export.attack.sample import Sample
from tests.export.attack.test_attack import CUT, LABELS, SIGMA, THRESHOLD, bundle, found_in, names  # noqa: F401

SAID = {"verdict": "in_distribution", "label": "above", "p_lower": 0.75, "radius": 10.0, "threshold": THRESHOLD}
OUT = SAID | {"verdict": "out_of_distribution", "label": None}
LAW = Gaussian(SIGMA)


def claims(joint):
    return issued({"certificate": None, "mixture": None, "ood": None, "joint": joint}, LABELS, LAW)


def test_a_joint_label_claims_its_share_at_every_distance():
    (inside,), (out,) = claims(SAID), claims(OUT)
    assert inside == JointShare(10.0, 1, THRESHOLD, 0.75, LAW)
    assert (inside.aim, out.aim) == (Aim("away", 1), Aim("down"))
    nothing = {"verdict": "undetermined", "label": None, "p_lower": None, "radius": 0.0}
    assert claims(SAID | nothing) == []
    sample = Sample(np.array([1, 1, 0, 1]), np.array([0.0, 170.0, 170.0, np.inf]))
    for claim, hits in ((inside, 3), (out, 1)):
        (event,) = claim.events(sample, 0.0)
        assert event.hits(sample) == hits
        assert event.most == pytest.approx(0.25)
        (farther,) = claim.events(sample, 10.0)
        assert event.most < farther.most < 0.5


def true_share(first):
    """Of "above" with a score up to the threshold, and of a score above it."""
    out = float(ndtr((first - THRESHOLD - 0.5) / SIGMA))
    return float(ndtr((first - CUT - 0.5) / SIGMA)) - out, out


@pytest.mark.parametrize(("more", "false"), [(-1e-6, set()), (0.15, {"joint"})], ids=["true", "too much"])
@pytest.mark.parametrize(("first", "verdict"), [(144, SAID), (170, OUT)], ids=["inside", "out"])
def test_what_is_true_stands_and_what_says_too_much_is_found(bundle, first, verdict, more, false):  # noqa: F811
    share = true_share(first)[verdict is OUT] + more
    said = verdict | {"p_lower": share, "radius": LAW.radius(1 - share).size}
    answer = {"certificate": None, "mixture": None, "ood": None, "joint": said}
    model = {"digest": bundle.digest, "runtime": "exact"}
    inputs = np.array([[first, 1, 2, 3]], dtype=np.int64)
    findings = found_in(bundle, inputs, lambda _: answer | {"alpha": 0.001, "model": model})
    assert names(findings) == false
    assert {each.claim for each in findings.attempts} == {"joint"}
