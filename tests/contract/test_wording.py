"""What the specification promises, word for word."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import certify.claims.certificate
import certify.claims.confidence
import certify.mixture.mix
import certify.ood.joint_label
import certify.ood.robust_alarm
import certify.ood.verdict

PROTO = Path(__file__).parents[2] / "protos/certserve/v1/certserve.proto"

SENTENCES = {
    "certificate": [
        "probability at least 1 - alpha over the server's noise key, the smoothed classifier of this bundle gives",
        "for every grid input within `radius` (norm, caller's units) of the decoded input",
        "This says nothing of correctness, of the base network's label, or of uncertified answers there",
    ],
    "refuted": [
        "The most probable smoothed class has probability below what the target needs.",
        "It does not mean that an attack exists.",
    ],
    "undecided": ["Neither was shown with these draws."],
    "bounds": ["of the smoothed probability of `label` at the input, at every number of draws"],
    "score interval": ["The median lies in [score_lower, score_upper] for every input within `radius`."],
    "verdict": ["It is not semantic novelty, and not a false-alarm rate."],
    "p_value": [
        "If this input is exchangeable with the calibration inputs, p_value <= a has probability at most a, over"
        " calibration and input together; not under attack, not given this calibration set."
    ],
    "robust alarm": [
        "a clean input perturbed by at most R, without knowledge of the coming noise, is flagged with probability at most"
        " a + a_1 + a_2."
    ],
    "mixture": ["`label` within `radius`, whatever the accurate network says"],
    "joint": [
        "With probability at least 1 - alpha over the server's noise key, most noisy copies of every grid input within"
        " `radius` (norm, caller's units) of the decoded input have one and the same such label. This says nothing of"
        " correctness, of the base network's label, of the printed score, or of semantic novelty."
    ],
    "confidence": [
        "with probability at least 1 - alpha over the server's noise key, the mean of the number that it gives `label` under"
        " noise is at least `lower` for every grid input within `radius` (norm, caller's units) of the decoded input, the"
        " certificate's. This is not the probability that the label is right, nor calibrated, and says nothing of the base"
        " network's probabilities."
    ],
    "alpha": [
        "for an input chosen before its key is known; alpha is not the share of false ones among issued certificates.",
        "An alpha chosen after seeing answers is not covered.",
        "Of N inputs, each chosen after the answers on the others, up to alpha * N are expected to have a false answer.",
    ],
    "a radius below a step": ["One below a grid step claims nothing but of the input itself."],
    "moved inputs": ["They are moved onto the grid, and the answer says by how much in every case."],
}


def words(text):
    return re.sub(r"\s+", " ", re.sub(r"\n\s*//", " ", text))


@pytest.mark.parametrize("claim", SENTENCES)
def test_every_claim_is_in_the_specification(claim):
    """In the comments of the .proto file, which are the specification of the wires.

    That a field is absent where its condition fails is for `test_wire_parity` and `test_instances_json` to see.
    """
    specification = words(PROTO.read_text())
    for sentence in SENTENCES[claim]:
        assert sentence in specification


@pytest.mark.parametrize(
    ("module", "claims"),
    [
        (certify.claims.certificate, ["certificate"]),
        (certify.ood.verdict, ["score interval", "verdict", "p_value"]),
        (certify.ood.joint_label, ["joint"]),
        (certify.claims.confidence, ["confidence"]),
        (certify.ood.robust_alarm, ["robust alarm"]),
        (certify.mixture.mix, ["mixture"]),
    ],
)
def test_every_claim_is_at_the_head_of_the_module_that_makes_it(module, claims):
    assert all(f"**{claim}**" in module.__doc__ for claim in claims)
