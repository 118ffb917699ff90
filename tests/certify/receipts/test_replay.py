from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from certify.ood.verdict import tally
from certify.receipts.receipt import Receipt
from certify.receipts.recheck import recheck, terms_of
from certify.receipts.replay import replay
from certify.smoothing.keys import lattice_digest
from tests.certify.gaussian import law_of_steps
from tests.certify.made_receipts import DETECTOR, altered, made

LAW = law_of_steps(16.0)
ROW = np.array([150, 1, 2, 3], dtype=np.int32)
CUT = 127


def run(noisy):
    """The half-space: above the cut is class 1; the score is the first coordinate."""
    return (noisy[:, 0] > CUT).astype(np.int64), noisy[:, 0].astype(np.float32)


def counted(draws=300, lost=(), **options) -> Receipt:
    """A receipt of what the half-space really gives on ROW under the key of `made`; `lost` are indices."""
    key = bytes.fromhex("3" * 32)
    votes, scores = run(LAW.at(ROW).sample(key, 0, draws))
    kept = ~np.isin(np.arange(draws), lost)
    hits, misses = int(votes[kept].sum()), int((1 - votes[kept]).sum())
    values = np.where(kept, scores, np.nan).astype(float)
    receipt = made("best", draws=draws, hits=hits, lost=len(lost), max_draws=draws, scores=values, **options)
    assert receipt.votes == (misses, hits)
    digest = "sha256:" + lattice_digest(ROW).hex()
    receipt = altered(receipt, "noise.charge", LAW.at(ROW).guarantee.charge)
    return replace(receipt, input=replace(receipt.input, digest=digest))


def differing(receipt, law=LAW, row=ROW, graph=run, calibration=DETECTOR.calibration):
    return [each.field for each in replay(receipt, law, row, graph, calibration) if not each.agrees]


@pytest.mark.parametrize("draws", [1, 32, 128, 300])
def test_the_same_draws_give_the_same_counts(draws):
    assert differing(counted(draws)) == []


def test_no_draws_give_no_counts():
    receipt = altered(made("best", draws=0, hits=0), "noise.charge", LAW.at(ROW).guarantee.charge)
    assert differing(altered(receipt, "input.digest", "sha256:" + lattice_digest(ROW).hex())) == []


def test_another_input_or_law_is_found_before_anything_is_drawn():
    def no_graph(noisy):
        raise AssertionError("nothing may be drawn")

    receipt = counted()
    assert differing(receipt, row=ROW + 1, graph=no_graph) == ["input.digest"]
    assert differing(receipt, row=ROW[None], graph=no_graph) == ["input.shape", "input.digest"]
    assert differing(altered(receipt, "noise.charge", 0.0), graph=no_graph) == ["noise.charge"]


@pytest.mark.parametrize(
    ("path", "value", "fields"),
    [
        ("scores.score", 140.0, {"scores.score"}),
        ("scores.calibration_at_least", 1, {"scores.calibration_at_least"}),
        ("scores.lowest", 100.0, {"scores.lowest"}),
        ("scores.highest", 170.5, {"scores.highest"}),
    ],
)
def test_what_was_not_counted_is_found(path, value, fields):
    assert fields <= set(differing(altered(counted(), path, value)))


def test_draws_of_another_key_are_found():
    receipt = counted()
    other = replace(receipt.scores, drawn=replace(receipt.scores.drawn, key="7" * 32))
    wrong = replace(receipt, noise=replace(receipt.noise, key="7" * 32), scores=other)
    assert {"votes", "scores.above"} <= set(differing(wrong))


def fixed(lost=()) -> Receipt:
    """A receipt of 300 fixed draws of one key, and of the 32 draws of another that give the score; `lost` are of these."""
    voted = LAW.at(ROW).sample(bytes.fromhex("3" * 32), 0, 300)
    scored = LAW.at(ROW).sample(bytes.fromhex("5" * 32), 0, 32)
    values = np.where(np.isin(np.arange(32), lost), np.nan, run(scored)[1]).astype(float)
    hits = int(run(voted)[0].sum())
    receipt = made("fixed", draws=300, hits=hits, max_draws=300, scores=values)
    receipt = altered(receipt, "noise.charge", LAW.at(ROW).guarantee.charge)
    return altered(receipt, "input.digest", "sha256:" + lattice_digest(ROW).hex())


@pytest.mark.parametrize("lost", [(), (3,), range(32)])
def test_both_streams_of_a_fixed_answer_are_drawn_again(lost):
    receipt = fixed(tuple(lost))
    assert differing(receipt) == []
    assert differing(altered(receipt, "noise.key", "7" * 32)) == ["votes"]
    moved = set(differing(altered(receipt, "scores.drawn.key", "7" * 32)))
    assert len(lost) == 32 or (moved and all(name.startswith("scores.") for name in moved))


def test_one_vote_moved_is_found():
    receipt = counted()
    below, above = receipt.votes
    assert differing(replace(receipt, votes=(below + 1, above - 1))) == ["votes"]
    assert differing(replace(receipt, votes=(below, above - 1))) == ["votes"]


def test_another_graph_gives_other_counts():
    assert "votes" in differing(counted(), graph=lambda noisy: (1 - run(noisy)[0], run(noisy)[1]))
    assert differing(counted(), graph=lambda noisy: (run(noisy)[0] + 7, run(noisy)[1])) == ["votes"]


def test_a_score_that_is_no_number_is_the_largest():
    assert set(differing(counted(), graph=lambda noisy: (run(noisy)[0], np.full(len(noisy), np.nan)))) >= {
        "scores.score"
    }


@pytest.mark.parametrize("lost", [range(64, 96), range(0, 32), (0, 299)])
def test_lost_draws_may_have_been_anything_and_bounds_only_narrow(lost):
    receipt = counted(lost=tuple(lost))
    assert all(each.agrees for each in recheck(receipt))
    assert differing(receipt) == []
    below, above = receipt.votes
    assert differing(replace(receipt, votes=(above, below))) == ["votes"]


def test_without_scores_or_calibration_the_rest_is_compared():
    receipt = counted()
    assert differing(receipt, calibration=None) == []
    bare = altered(altered(receipt, "scores", None), "claims.ood", None)
    assert differing(bare) == []
    assert tally(np.zeros(0), terms_of(receipt), DETECTOR).score is None


def test_every_count_is_found_by_its_name_with_both_values():
    receipt = counted(lost=(40, 200))
    findings = replay(receipt, LAW, ROW, run, DETECTOR.calibration)
    whole = counted()
    law = LAW.at(ROW)
    drawn = ["gaussian", "noise-v1", {"sigma": 16.0, "norm": "l2"}, law.guarantee.charge]
    said = [receipt.input.shape, receipt.input.digest, *drawn[:-1], receipt.noise.charge, receipt.votes]
    found = [ROW.shape, receipt.input.digest, law.name, law.stream, law.guarantee.parameters, drawn[-1], whole.votes]
    names = ["input.shape", "input.digest", "noise.law", "noise.stream", "noise.parameters", "noise.charge", "votes"]
    for name in ("score", "calibration_at_least", "above", "at_most", "lowest", "highest"):
        names.append(f"scores.{name}")
        said.append(getattr(receipt.scores, name))
        found.append(getattr(whole.scores, name))
    assert [(each.field, each.said, each.found) for each in findings] == list(zip(names, said, found, strict=True))
    assert all(each.agrees for each in findings)


def test_draws_are_made_some_at_a_time_in_integers():
    seen = []

    def graph(noisy):
        seen.append((noisy.shape, noisy.dtype))
        return run(noisy)

    replay(counted(), LAW, ROW, graph, DETECTOR.calibration)
    assert seen == [((256, 4), np.int32), ((44, 4), np.int32)]


def test_a_score_that_is_not_a_number_is_infinite():
    """In the replay as in the server: with every score NaN, all lie above the threshold, and none is lost."""
    receipt = counted()
    nowhere = replay(receipt, LAW, ROW, lambda noisy: (run(noisy)[0], np.full(len(noisy), np.nan, dtype=np.float32)))
    found = {each.field: each.found for each in nowhere}
    assert (found["scores.above"], found["scores.at_most"], found["scores.score"]) == (300, 0, np.inf)


def test_a_charge_may_be_off_by_the_last_places_of_a_platform_alone():
    charge = LAW.at(ROW).guarantee.charge
    assert differing(altered(counted(), "noise.charge", charge * (1 - 1e-10))) == []
    assert differing(altered(counted(), "noise.charge", charge * (1 - 1e-8))) == ["noise.charge"]
