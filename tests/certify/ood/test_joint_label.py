"""The joint label beside certificate and verdict: what it says, and that claims which contradict each other all abstain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from certify.claims.certificate import AlphaSplit
from certify.claims.counts import Counts
from certify.ood.joint_label import in_agreement, joint_label
from certify.ood.verdict import CertifiedScore, Ood
from tests.certify.claims.test_procedures import terms
from tests.certify.gaussian import best_run

SPLIT = AlphaSplit(of_class=0.4, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_joint=0.1)
TERMS = terms(split=SPLIT)
LABELS = {"class 1": (5, 990, 0, 5), "out": (5, 5, 0, 990), "none": (500, 490, 0, 10)}


def joint(votes):
    return joint_label(Counts(draws=1_000, votes=votes), TERMS, 8.5)


def certificate(votes, t=TERMS):
    counts = Counts(draws=1_000, votes=votes)
    return counts, best_run(t, 10**6).conclude(counts)


def ood(verdict):
    certified = CertifiedScore(verdict=verdict, score_lower=None, score_upper=None, radius=0.1)
    return Ood(score=1.0, p_value=0.5, in_distribution=True, threshold=8.5, certified=certified)


@pytest.mark.parametrize(
    ("name", "verdict", "label"),
    [("class 1", "in_distribution", 1), ("out", "out_of_distribution", None), ("none", "undetermined", None)],
)
def test_a_joint_label_is_a_class_that_is_in_or_out_or_nothing(name, verdict, label):
    found = joint(LABELS[name])
    assert (found.verdict, found.class_index) == (verdict, label)
    assert (found.radius > 0) == (found.p_lower is not None) == (found.ball is not None) == (name != "none")


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("verdict", ["in_distribution", "out_of_distribution", "undetermined"])
def test_the_opposite_verdict_abstains_with_it_and_any_other_stays(name, verdict):
    counts, of_class = certificate((5, 995, 0))
    found = in_agreement(TERMS, counts, of_class, ood(verdict), joint(LABELS[name]))
    opposite = {joint(LABELS[name]).verdict, verdict} == {"in_distribution", "out_of_distribution"}
    assert found[0] == of_class
    assert found[1] == (ood("undetermined") if opposite else ood(verdict))
    assert (found[2].bound is None) == (opposite or name == "none")


@pytest.mark.parametrize(
    ("votes", "label", "agrees"),
    [
        ((5, 995, 0), "class 1", True),
        ((5, 995, 0), "out", True),
        ((995, 5, 0), "class 1", False),
        ((400, 300, 300), "class 1", False),  # no class has as much as the joint label's bound
        ((500, 500, 0), "none", True),
        ((995, 5, 0), "out", True),  # whatever the class
    ],
)
def test_another_class_abstains_with_it(votes, label, agrees):
    counts, of_class = certificate(votes)
    found = in_agreement(TERMS, counts, of_class, None, joint(LABELS[label]))
    if agrees:
        assert found == (of_class, None, joint(LABELS[label]))
    else:
        assert found[2].bound is None
        assert (found[0].class_index, found[0].radius, found[0].status) == (None, 0.0, "undecided")
        assert found[0].p_b_upper == 1.0


def test_without_a_share_of_the_upper_bound_two_classes_still_contradict_each_other():
    without = replace(TERMS, split=replace(SPLIT, of_upper=0.0))
    counts, of_class = certificate((995, 5, 0), without)
    assert in_agreement(without, counts, of_class, None, joint(LABELS["class 1"]))[0].class_index is None


def test_what_is_not_there_stays_absent():
    counts, of_class = certificate((5, 995, 0))
    assert in_agreement(TERMS, counts, of_class, ood("in_distribution"), None) == (
        of_class,
        ood("in_distribution"),
        None,
    )
    assert in_agreement(TERMS, counts, None, None, joint(LABELS["class 1"])) == (None, None, joint(LABELS["class 1"]))
    bare = replace(ood("in_distribution"), certified=None)
    assert in_agreement(TERMS, counts, of_class, bare, joint(LABELS["out"]))[1] == bare
