"""alpha simulated on exact models: half-spaces, whose smoothed probabilities are one value of the normal law.

The noisy network votes "above" where the first coordinate exceeds a cut and scores an input by that coordinate. An
adversary picks the stop after every slice of draws: a run counts as false if *any* look at it would have issued a false
claim, since that is where he stops. He also loses draws: in half of the runs all votes of the rarer class are lost. The
claims are composed by the procedures that serve. A kind fails if more runs are false than a binomial at its budget
exceeds with probability `FALSE_ALARM`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from scipy.stats import binom

from certify.claims.certificate import AlphaSplit, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE, Best, Target
from certify.ood.verdict import Detector, assess
from certify.smoothing.ball import parse
from certify.smoothing.laws import gaussian_on_grid
from export.attack.sample import own_key
from export.build.noise_table import rounded_gaussian_tails
from export.progress import progress

SIGMA = 64.0
ALPHA = 0.05
FALSE_ALARM = 1e-6
SPLIT = AlphaSplit(of_class=0.5, of_upper=0.2, of_threshold=0.1, of_interval=0.2)
RADIUS = 32  # of the score claims, in steps
CUTS = (-150, -97, -60, -20)
"""The boundary lies this far below an input, so "above" has a probability of .62 to .99, where draws are few enough."""

BUDGETS = {
    "certificate": SPLIT.of_class,
    "refuted": SPLIT.of_upper,
    "p_b_upper": SPLIT.of_class + SPLIT.of_upper,
    "score interval": SPLIT.of_interval,
    "verdict": SPLIT.of_threshold + SPLIT.of_interval,
    "any claim": 1.0,
}
"""The part of alpha that each kind may spend: `p_b_upper` and the verdict are each proven by either of two events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """How many runs issued a false claim of one kind, and how many may."""

    kind: str
    runs: int
    false: int
    budget: float
    false_alarm: float = FALSE_ALARM

    @property
    def limit(self) -> int:
        """A sound procedure exceeds this with probability at most `false_alarm`."""
        return int(binom.isf(self.false_alarm, self.runs, self.budget))

    @property
    def passed(self) -> bool:
        """Whether the false runs stay within the limit."""
        return self.false <= self.limit


def simulate(runs: int, seed: int, max_draws: int = 1_024, alpha: float = ALPHA, *, quiet: bool = False) -> list[Tally]:
    """So many inputs with streams of their own, all claims watched at every look."""
    law = gaussian_on_grid(SIGMA, rounded_gaussian_tails(SIGMA))
    at = law.at(np.zeros(1, dtype=np.int32))
    terms = Terms(law=at.guarantee, alpha=alpha, split=SPLIT, classes=2)
    false: Counter[str] = Counter()
    for run in progress(range(runs), what="simulation", unit="run", quiet=quiet):
        drawn = at.sample(own_key(seed, "simulation", run), 0, max_draws)[:, 0].astype(np.float64)
        cut = CUTS[run % len(CUTS)]
        # The threshold lies where one side of it just fails to hold in the whole ball, the others' sides in turn.
        threshold = RADIUS - 1 if run // len(CUTS) % 2 else -RADIUS
        kinds = _false_kinds(drawn, cut, threshold, terms, loses=run // (2 * len(CUTS)) % 2 == 1)
        false.update(kinds)
        false["any claim"] += bool(kinds)
    return [Tally(kind=kind, runs=runs, false=false[kind], budget=share * alpha) for kind, share in BUDGETS.items()]


def _false_kinds(noise: NDArray[np.float64], cut: int, threshold: int, terms: Terms, *, loses: bool) -> set[str]:
    """The kinds of claims that some look would have issued falsely, for the input 0: its score is the noise itself."""
    above = noise > cut
    # Nothing is lost of the first slice: without it there is no score, and no claim about it.
    lost = ~above & (np.arange(len(noise)) >= SLICE) & loses
    scores = np.where(lost, np.nan, noise)
    detector = Detector(threshold=threshold, radius=float(RADIUS), score_draws=SLICE, calibration=np.array([math.inf]))
    found: set[str] = set()
    for draws in range(SLICE, len(noise) + 1, SLICE):
        hits, gone = int(np.sum(above[:draws])), int(np.sum(lost[:draws]))
        found |= _false_votes(Counts(draws=draws, votes=(draws - hits - gone, hits), lost=gone), cut, terms)
        found |= _false_scores(scores[:draws], terms, detector)
    return found


@lru_cache(maxsize=1 << 18)
def _false_votes(counts: Counts, cut: int, terms: Terms) -> frozenset[str]:
    """False claims about the votes; they depend on counts alone, so equal counts are composed once."""
    radius = -(cut + 0.5)  # of "above", the more probable class here
    truth = float(ndtr(radius / SIGMA))
    best = Best().conclude(terms, counts)
    beyond, within = (Target(parse(terms.law.parts, radius * (1 + little))) for little in (1e-9, -1e-9))
    claimed = beyond.conclude(terms, counts)
    share = truth if best.class_index == 1 else 1 - truth
    found = set()
    if any(
        each.class_index is not None and (each.class_index != 1 or each.radius > radius) for each in (best, claimed)
    ):
        found.add("certificate")
    if best.p_a_lower is not None and best.p_a_lower > share:
        found.add("certificate")
    # Without a certified class the bound speaks of both, so of the more probable one.
    if best.p_b_upper < (truth if best.class_index is None else 1 - share):
        found.add("p_b_upper")
    if within.conclude(terms, counts).status == "refuted":
        found.add("refuted")
    return frozenset(found)


def _false_scores(scores: NDArray[np.float64], terms: Terms, detector: Detector) -> set[str]:
    """False claims about the score. Its median at the input is 0, and inside the ball any integer up to `RADIUS` off."""
    ood = assess(scores, terms, detector)
    assert ood is not None
    assert ood.certified is not None
    certified, found = ood.certified, set()
    low, high = certified.score_lower, certified.score_upper
    if (low is not None and low > -RADIUS) or (high is not None and high < RADIUS):
        found.add("score interval")
    wrong = {"in_distribution": detector.threshold < RADIUS, "out_of_distribution": detector.threshold >= -RADIUS}
    if wrong.get(certified.verdict, False):
        found.add("verdict")
    return found
