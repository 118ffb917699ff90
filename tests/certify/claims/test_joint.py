from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.bounds import anytime
from certify.claims.certificate import AlphaSplit, LowerBound
from certify.claims.counts import Counts
from certify.claims.joint import certify_joint, implied, joint_counts, joint_votes
from tests.certify.claims.test_procedures import terms
from tests.certify.gaussian import best_run
from tests.certify.gaussian import radius as radius_of

SPLIT = AlphaSplit(of_class=0.4, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_joint=0.1)
TERMS = terms(split=SPLIT)


def test_joint_votes_by_hand():
    """A vote for none, a lost draw and a vote for out are three things."""
    votes = np.array([0, 1, 2, 3, 0, 3, 1])
    scores = np.array([1.0, 2.0, 2.1, 1.0, math.nan, math.inf, -1.0])
    assert joint_counts(votes, scores, 2.0, 3) == Counts(draws=7, votes=(1, 2, 0, 2), lost=1)
    assert joint_counts(votes[:1], scores[:1], 2.0, 3) == Counts(draws=1, votes=(1, 0, 0, 0))  # labels never seen count


@pytest.mark.parametrize("classes", [2, 127, 255, 256, 32_767, 65_535])
@pytest.mark.parametrize("threshold", [0.1, 160.0, 159.9999999, 160.0000001, 1e300, -1e300])
@pytest.mark.parametrize("single", [0.1, 160.0, math.inf])
def test_small_types_of_votes_and_scores_are_counted_as_the_numbers_that_they_hold(classes, threshold, single):
    """The score's own claims compare doubles; and "none" may be the largest number that a type of votes has."""
    votes = np.array([0, classes - 1, classes], dtype=np.min_scalar_type(classes))
    scores = np.full(3, single, dtype=np.float32)
    out = float(np.float32(single)) > threshold
    expected = [0] * classes + [3] if out else [1, *[0] * (classes - 2), 1, 0]
    assert joint_votes(votes, scores, threshold, classes).tolist() == expected


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 300), st.integers(0, 20))
def test_the_joint_bound_is_that_of_its_share(first, second, out, lost):
    counts = Counts(draws=first + second + out + lost, votes=(first, second, 0, out), lost=lost)
    bound = certify_joint(counts, TERMS)
    if bound is not None:
        assert bound.class_index == counts.leader()
        assert bound.complement >= anytime.chosen_lower_complement(counts.draws, max(counts.votes), 1e-4)
        assert bound.alpha == pytest.approx(1e-4)
        assert bound.value > 0.5
    else:
        assert max(counts.votes) < 0.9 * counts.draws or counts.draws < 50


def test_out_is_certified_like_a_class():
    bound = certify_joint(Counts(draws=1_000, votes=(3, 0, 0, 997)), TERMS)
    assert (bound.class_index, bound.draws) == (3, 1_000)
    assert radius_of(bound, 0.25) > 0.25


def test_the_noise_charge_weakens_the_bound():
    counts = Counts(draws=1_000, votes=(0, 990, 0, 10))
    plain, charged = (certify_joint(counts, terms(split=SPLIT, charge=charge)) for charge in (0.0, 0.01))
    assert charged.complement == pytest.approx(plain.complement + 0.01)
    assert charged.complement >= plain.complement + 0.01


def test_without_share_or_draws_nothing_is_claimed_and_wrong_counts_are_refused():
    counts = Counts(draws=1_000, votes=(1_000, 0, 0, 0))
    assert certify_joint(counts, terms()) is None
    assert certify_joint(Counts(draws=0, votes=(0, 0, 0, 0)), TERMS) is None
    with pytest.raises(ValueError, match="3 classes and 'out', got 3 labels"):
        certify_joint(Counts(draws=10, votes=(10, 0, 0)), TERMS)


def class_bound(votes, t=TERMS) -> LowerBound | None:
    return best_run(t, 10**6).conclude(Counts(draws=sum(votes), votes=votes)).bound


def test_the_free_joint_bound_is_the_sum_less_one_rounded_up():
    """L_A + L_id - 1."""
    of_class = class_bound((990, 5, 5))
    bound = implied(of_class, 980, TERMS)
    inside = anytime.chosen_lower_complement(1_000, 980, 1e-4)
    assert of_class.complement + inside <= bound.complement <= of_class.complement + inside + 1e-15
    assert radius_of(bound, 0.25) < min(radius_of(of_class, 0.25), 0.25 * 3)
    assert bound.alpha == pytest.approx(0.0005)
    assert (bound.class_index, bound.draws) == (0, 1_000)
    assert implied(of_class, 500, TERMS) is None
    assert implied(None, 980, TERMS) is None
    assert implied(of_class, 980, terms(split=AlphaSplit(of_class=0.8, of_upper=0.2))) is None
    charged = implied(class_bound((990, 5, 5), terms(split=SPLIT, charge=0.01)), 980, terms(split=SPLIT, charge=0.01))
    assert charged.complement == pytest.approx(bound.complement + 0.02)


@given(st.integers(1, 500), st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_with_one_share_the_joint_bound_is_the_better_one(both, class_only, inside_only, neither):
    """Of one alpha, the whole on the joint label proves at least what half on each of class and threshold does."""
    draws = both + class_only + inside_only + neither
    halves = terms(split=AlphaSplit(of_class=0.5, of_upper=0.0, of_threshold=0.5))
    free = implied(class_bound((both + class_only, inside_only + neither, 0), halves), both + inside_only, halves)
    whole = terms(split=AlphaSplit(of_class=1e-12, of_upper=0.0, of_joint=1 - 1e-12))
    joint = certify_joint(Counts(draws=draws, votes=(both, inside_only, 0, class_only + neither)), whole)
    if free is not None and free.class_index == 0:
        assert joint is not None
        assert joint.complement <= free.complement + 1e-9


CELLS = np.array(list(product((0, 1), (0, 1))))  # class, out
SHARES = np.full(4, 0.25)


def false_claims(runs: int, draws: int, level_class: float, level_joint: float) -> dict[str, float]:
    """Shares of runs in which some lower bound of a class, of a joint label, or of either is ever false: any stop."""
    rng = np.random.default_rng(53)
    labels = {"class": CELLS[:, 0], "joint": np.where(CELLS[:, 1], 2, CELLS[:, 0])}
    levels = {"class": level_class, "joint": level_joint}
    limits = {}
    for name, of_cell in labels.items():
        for label in np.unique(of_cell):
            m = float(SHARES[of_cell == label].sum())
            least = [anytime.least_hits(n, m, levels[name] * m) or n + 1 for n in range(1, draws + 1)]
            limits[name, label] = np.array(least)
    ever = {name: [] for name in labels}
    for part in np.array_split(np.arange(runs), max(1, runs // 5_000)):
        cells = rng.integers(0, 4, (len(part), draws), dtype=np.int8)
        for name, of_cell in labels.items():
            wrong = np.zeros(len(part), dtype=bool)
            for label in np.unique(of_cell):
                hits = np.cumsum((of_cell == label)[cells], axis=1, dtype=np.int32)
                wrong |= np.any(hits >= limits[name, label], axis=1)
            ever[name].append(wrong)
    found = {name: np.concatenate(parts) for name, parts in ever.items()}
    either = found["class"] | found["joint"]
    return {name: float(wrong.mean()) for name, wrong in found.items()} | {"either": float(either.mean())}


def check_false_claims(runs: int, draws: int) -> None:
    alpha = 0.1
    limit = binom.isf(1e-6, runs, alpha) / runs
    honest = false_claims(runs, draws, alpha / 2, alpha / 2)
    mutant = false_claims(runs, draws, alpha, alpha)
    print(f"\n{runs} runs of {draws} draws at alpha {alpha}: shares of their own {honest}; one share for both {mutant}")
    assert 0 < honest["either"] <= limit
    assert mutant["class"] <= limit
    assert mutant["joint"] <= limit
    assert mutant["either"] > limit


def test_class_and_joint_claims_share_alpha():
    """(K+1) labels beside the class need their own share; the mutant that uses that of the class
    fails. Limits at a false-alarm rate of 1e-6."""
    check_false_claims(8_000, 1_000)


@pytest.mark.slow
def test_class_and_joint_claims_share_alpha_long():
    """As above, in 1e5 runs."""
    check_false_claims(100_000, 1_000)


def test_more_doubt_than_certainty_has_leaves_nothing():
    whole = AlphaSplit(of_class=0.5, of_upper=0.0, of_threshold=0.25, of_joint=0.25)
    assert certify_joint(Counts(draws=1_000, votes=(900, 0, 0, 100)), terms(split=whole, charge=0.999)) is None
    assert implied(class_bound((990, 5, 5)), 10, TERMS) is None
