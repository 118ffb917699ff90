"""One alpha for all claims of an answer, and what breaks it: choices made after the draws, and draws left out."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import binom, multivariate_normal

from certify.bounds import anytime, binomial
from certify.bounds.anytime import least_hits
from certify.claims.certificate import AlphaSplit

FALSE_ALARM = 1e-6
SPLIT = AlphaSplit(of_class=0.3, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_joint=0.1, of_confidence=0.1)
GRADES = (0.9, 0.6, 0.3)
"""How often a vote exceeds each threshold of confidence, whatever it is for."""
LOOKS = np.arange(8, 641, 8)
RATIO = 0.5  # R/sigma of the score interval
VECTORS = {"two tied": [0.5, 0.5], "ten tied": [0.1] * 10, "one and ten": [0.9, *[0.01] * 10]}


def least(exceeds):
    """The least hits that reject, at each look; one more than the draws where none do."""
    found = []
    for n in LOOKS.tolist():
        low, high = -1, n + 1
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if exceeds(n, middle) else (middle, high)
        found.append(high)
    return np.array(found)


def joint_shares(p):
    """The share of each class with a score at most the threshold, the median, and of "out"."""
    edges = ndtri(np.clip(np.cumsum(p), 0, 1 - 1e-15))
    inside = [multivariate_normal.cdf([edge, 0], cov=[[1, 0.6], [0.6, 1]]) for edge in edges]
    return np.append(np.diff(inside, prepend=0.0), 0.5)


def any_false(p, alpha, runs, seed, each_its_own=False):
    """In how many runs some claim is false at some look. Score and vote are correlated, by .6."""
    share = (lambda part: alpha) if each_its_own else (lambda part: alpha * part)
    p = np.array(p)
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(runs, LOOKS[-1]))
    votes = np.minimum(np.digitize(ndtr(0.6 * scores + 0.8 * rng.normal(size=scores.shape)), np.cumsum(p)), p.size - 1)
    seen = [slice(None), LOOKS - 1]

    def counted(hit):
        return np.cumsum(hit, axis=1)[tuple(seen)]

    false = np.zeros(runs, dtype=bool)
    chosen = {
        m: least(lambda n, k, m=m: anytime.chosen_exceeds(n, k, m, share(SPLIT.of_class))) for m in set(p.tolist())
    }
    for c in range(p.size):
        false |= (counted(votes == c) >= chosen[p[c]]).any(axis=1)
    top = int(np.argmax(p))
    level = share(SPLIT.of_upper)
    refuting = least(lambda n, k: anytime.exceeds(n, k, 1 - p[top], level, anytime.KAPPA_UPPER))
    false |= (counted(votes != top) >= refuting).any(axis=1)
    sides = least(lambda n, k: anytime.chosen_exceeds(n, k, 0.5, share(SPLIT.of_threshold)))
    for hit in (scores > 0, scores <= 0):  # the threshold lies at the median: neither side is the majority
        false |= (counted(hit) >= sides).any(axis=1)
    level, joint = share(SPLIT.of_joint), np.where(scores > 0, p.size, votes)
    for label, q in enumerate(joint_shares(p)):
        proven = least(lambda n, k, q=q: anytime.chosen_exceeds(n, k, q, level))
        false |= (counted(joint == label) >= proven).any(axis=1)
    grades, level = rng.random(scores.shape), share(SPLIT.of_confidence / len(GRADES))
    for exceeding in GRADES:
        beyond = {
            m: least(lambda n, k, m=m: anytime.chosen_exceeds(n, k, m, level)) for m in set((p * exceeding).tolist())
        }
        for c in range(p.size):
            false |= (counted((votes == c) & (grades < exceeding)) >= beyond[p[c] * exceeding]).any(axis=1)
    needed = float(ndtr(RATIO))
    ranks = [least_hits(int(n), needed, share(SPLIT.of_interval) / 2) for n in LOOKS]
    ranks = np.array([n + 1 if rank is None else rank for n, rank in zip(LOOKS, ranks, strict=True)])
    for hit in (scores < RATIO, scores > -RATIO):
        false |= (counted(hit) >= ranks).any(axis=1)
    return int(false.sum())


@pytest.mark.parametrize("p", VECTORS.values(), ids=VECTORS)
def test_any_claim_at_any_look_is_false_in_at_most_alpha(p):
    """alpha = .10; 4,000 seeded runs, false-alarm rate 1e-6."""
    assert any_false(p, 0.1, 4_000, seed=1) <= binom.isf(FALSE_ALARM, 4_000, 0.1)


def test_the_mutant_with_each_claim_at_its_own_alpha_fails():
    """Some claim false in .22 to .25 with six claims; here there are seven, and fewer looks."""
    found = any_false(VECTORS["one and ten"], 0.1, 4_000, seed=1, each_its_own=True)
    assert found > binom.isf(FALSE_ALARM, 4_000, 0.1)


def test_the_shares_of_joint_labels_are_those_that_are_drawn():
    p = np.array(VECTORS["one and ten"])
    normal = np.random.default_rng(5).normal(size=(2, 400_000))
    votes = np.digitize(ndtr(0.6 * normal[0] + 0.8 * normal[1]), np.cumsum(p)[:-1])
    drawn = np.bincount(np.where(normal[0] > 0, p.size, votes), minlength=p.size + 1) / votes.size
    assert np.abs(drawn - joint_shares(p)).max() < 5 * 0.5 / np.sqrt(votes.size)


def test_a_share_for_a_further_claim_comes_off_another_or_the_bundle_is_refused():
    """The mutant "no share taken from class" of what is declared."""
    with pytest.raises(ValueError, match="nor sum to more than 1"):
        AlphaSplit(of_class=0.4, of_upper=0.2, of_threshold=0.1, of_interval=0.2, of_joint=0.1, of_confidence=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("p", VECTORS.values(), ids=VECTORS)
def test_any_claim_at_any_look_in_many_runs(p):
    false = sum(any_false(p, 0.1, 10_000, seed) for seed in range(10))
    mutant = any_false(p, 0.1, 10_000, 0, each_its_own=True)
    print(f"\n{p[:2]}...: {false / 100_000:.4f} false at .10; each at its own {mutant / 10_000:.3f}")
    assert false <= binom.isf(FALSE_ALARM, 100_000, 0.1)


RUNS, DRAWS = 4_000, 1_000


def fixed_ranks(q, level):
    """The pair of ranks between which the q-quantile lies, at a fixed number of draws."""
    return int(binom.ppf(level, DRAWS, 1 - q)), int(binom.ppf(1 - level, DRAWS, q)) + 1


def test_the_mutant_with_the_radius_from_the_request_fails():
    """Any of 31 radii, each interval at .05: a request that has seen the draws may pick."""
    ordered = np.sort(np.random.default_rng(2).normal(size=(RUNS, DRAWS)), axis=1)
    false = {}
    for ratio in np.linspace(0, 1.5, 31):
        low, high = fixed_ranks(float(ndtr(ratio)), 0.025)
        false[ratio] = (ordered[:, low - 1] > -ratio) | (ordered[:, high - 1] < ratio)
    limit = binom.isf(FALSE_ALARM, RUNS, 0.05)
    assert max(each.sum() for each in false.values()) <= limit
    assert np.any(list(false.values()), axis=0).mean() == pytest.approx(0.28, abs=0.06)


def test_the_mutant_with_the_threshold_from_the_request_fails():
    """Any of 41 thresholds, both sides at alpha m of .05."""
    scores = np.random.default_rng(3).normal(size=(RUNS, DRAWS))
    lower = 1 - np.array([binomial.clopper_pearson_chosen_complement(DRAWS, k, 0.05) for k in range(DRAWS + 1)])
    false = []
    for threshold in np.linspace(-2, 2, 41):
        above = np.sum(scores > threshold, axis=1)
        p = float(ndtr(-threshold))
        false.append((lower[above] > p) | (lower[DRAWS - above] > 1 - p))
    limit = binom.isf(FALSE_ALARM, RUNS, 0.05)
    assert max(each.sum() for each in false) <= limit
    assert np.any(false, axis=0).sum() > 4 * limit


def test_the_mutant_that_drops_lost_draws_fails():
    """A fifth of the misses is lost, p = 1/2: dropped .93 false at .05, as misses .03."""
    looks = np.arange(50, 2_001, 50)
    rng = np.random.default_rng(4)
    hit = rng.random((2_000, looks[-1])) < 0.5
    lost = ~hit & (rng.random(hit.shape) < 0.2)
    hits, gone = np.cumsum(hit, axis=1)[:, looks - 1], np.cumsum(lost, axis=1)[:, looks - 1]
    ruled, dropped = np.zeros(2_000, dtype=bool), np.zeros(2_000, dtype=bool)
    for i, n in enumerate(looks.tolist()):
        needed = next(k for k in range(n // 2, n + 2) if k > n or anytime.exceeds(n, k, 0.5, 0.05))
        ruled |= hits[:, i] >= needed
        counted = n - gone[:, i]
        dropped |= np.array(
            [anytime.exceeds(int(c), int(k), 0.5, 0.05) for c, k in zip(counted, hits[:, i], strict=True)]
        )
    assert ruled.sum() <= binom.isf(FALSE_ALARM, 2_000, 0.05)
    assert dropped.mean() > 0.9


def test_a_quantile_that_was_chosen_is_not_the_one_that_was_declared():
    """What the mutants above do not break: the declared radius alone, at every one of the same draws."""
    ordered = np.sort(np.random.default_rng(2).normal(size=(RUNS, DRAWS)), axis=1)
    rank = least_hits(DRAWS, float(ndtr(RATIO)), 0.025)
    false = (ordered[:, rank - 1] < RATIO) | (ordered[:, DRAWS - rank] > -RATIO)
    assert ndtri(ndtr(RATIO)) == pytest.approx(RATIO)
    assert false.sum() <= binom.isf(FALSE_ALARM, RUNS, 0.05)
