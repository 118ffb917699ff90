"""What is true of the inputs of two bundles, exactly, and which claims of an answer are false.

Both vote by the first noisy coordinate alone, so every probability is a difference of two values of the normal law, and
what is true at a distance is found on one line.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit, ndtr, ndtri

from tests.half_space import CUT, SIGMA, THRESHOLD, graded_votes, write_half_space
from tests.three_classes import CUTS, write_three_classes

MENU = (64, 96, 128, 192, 256)
"""Numbers of fixed draws, few enough to ask for them all, and many enough to see what an alpha for each would do."""
_HAIR = 1e-9  # of a step: what is as large as the truth to double precision is true
_FAR = 400.0


@dataclass(frozen=True, eq=False)
class Oracle:
    """A bundle that votes by which of its `cuts` the first coordinate exceeds; `firsts` are where claims fail most often.

    Its joint labels, if it declares them, are the votes of the oracle `joint`.
    """

    bundle: object
    cuts: tuple[int, ...]
    firsts: tuple[int, ...]
    joint: Oracle | None = None
    _reaches: dict[tuple[float, int, float], float] = field(default_factory=dict)

    def votes(self, column: np.ndarray) -> np.ndarray:
        """The votes of some noisy first coordinates."""
        return np.searchsorted(self.cuts, column).astype(np.int64)

    def passes(self, column: np.ndarray) -> np.ndarray:
        """What the graph gives as votes: with grades, where the bundle claims confidence."""
        return graded_votes(column) if self.bundle.manifest.thresholds else self.votes(column)

    def confidence(self, first: int, label: int) -> float:
        """The mean under noise of what the half-space gives a label, summed over the grid: a logistic of the coordinate."""
        places = np.arange(-int(10 * SIGMA), int(10 * SIGMA) + 1)
        mass = ndtr((places + 0.5) / SIGMA) - ndtr((places - 0.5) / SIGMA)
        return float(mass @ expit((2 * label - 1) * 0.1 * (first + places - CUT)))

    def shares(self, first: float) -> tuple[float, ...]:
        """The smoothed probability of each class."""
        below = [0.0, *ndtr((np.array(self.cuts) + 0.5 - first) / SIGMA), 1.0]
        return tuple(after - before for before, after in itertools.pairwise(below))

    def lead(self, first: float, label: int) -> float:
        """How far the label's share lies above that of the next."""
        shares = list(self.shares(first))
        return shares.pop(label) - max(shares)

    def reach(self, first: float, label: int, needed: float = 0.0) -> float:
        """How far from an input the label leads by more than `needed`; negative where it does not lead at all."""
        asked = first, label, needed
        if asked not in self._reaches:
            self._reaches[asked] = self._reach(*asked)
        return self._reaches[asked]

    def _reach(self, first: float, label: int, needed: float) -> float:
        if self.lead(first, label) <= needed:
            return -1.0
        found = []
        for far in (-_FAR, _FAR):
            steps = first + np.linspace(0.0, far, 801)
            lost = next((x for x in steps if self.lead(x, label) <= needed), None)
            if lost is not None:
                found.append(abs(brentq(lambda x: self.lead(x, label) - needed, first, lost, xtol=1e-12) - first))
        return min(found)

    def proven_radius(self, first: float) -> float:
        """What the largest share itself proves: the half-space's true radius, and less than the band's."""
        return max(0.0, SIGMA * float(ndtri(max(self.shares(first)))))


def half_space(folder) -> Oracle:
    """Two classes, a score, a share of alpha for each of six claims.

    In order: the boundary of a target on either side, a tie, the threshold's inner and outer boundary, and where "out" has
    a hair less than one half.
    """
    bundle = write_half_space(folder, fixed_draws=MENU, batch_rows=32, joint=True, confident=True)
    radius, threshold = int(bundle.detector.radius), int(THRESHOLD)
    firsts = (109, 146, 127, 128, threshold - radius + 1, threshold + radius, threshold)
    return Oracle(bundle, (CUT,), firsts, Oracle(bundle, (CUT, threshold), ()))


def three_classes(folder) -> Oracle:
    """A tie of two of three, a band's middle, two places in between, and the boundary of a target."""
    return Oracle(write_three_classes(folder, fixed_draws=MENU, batch_rows=32), CUTS, (99, 100, 128, 112, 81, 156))


def false_claims(oracle: Oracle, first: int, prediction) -> set[str]:
    """The kinds of claims in which an answer is false."""
    found = _of_certificate(oracle, first, prediction.certificate) | _of_mixture(oracle, first, prediction)
    if prediction.ood and prediction.ood.certified:
        found |= _of_score(first, prediction.ood.certified)
    if prediction.joint:
        found |= _of_joint(oracle.joint, first, prediction.joint)
    if prediction.confidence:
        found |= _of_confidence(oracle, first, prediction.confidence)
    return found


def _of_certificate(oracle: Oracle, first: int, said) -> set[str]:
    if said is None:
        return set()
    shares, proven, label = oracle.shares(first), oracle.proven_radius(first), said.class_index
    others = [share for c, share in enumerate(shares) if c != label]
    is_false = {"upper bound": max(others) > said.p_b_upper}
    if label is not None:
        reach = oracle.reach(first, label)
        is_false |= {"label": reach < 0, "radius": 0 <= reach < said.radius - _HAIR}
        is_false["lower bound"] = said.p_a_lower > shares[label]
    if said.status == "refuted":
        is_false["refutation"] = proven > said.target_radius + _HAIR
    if said.status == "certified" and said.radius_tolerance is not None:
        is_false["precision"] = proven > said.radius + said.radius_tolerance + _HAIR
    return {kind for kind, is_so in is_false.items() if is_so}


def _of_mixture(oracle: Oracle, first: int, prediction) -> set[str]:
    said, certificate = prediction.mixture, prediction.certificate
    if said is None or said.radius <= 0:
        return set()
    needed = (1 - said.robust_weight) / said.robust_weight
    is_false = said.radius > oracle.reach(first, said.class_index, needed) + _HAIR
    is_false |= certificate is not None and said.class_index != certificate.class_index
    return {"mixture"} if is_false else set()


def _of_score(first: int, said) -> set[str]:
    """The median of the score under noise is the first coordinate itself; grid inputs lie at whole steps around it."""
    radius = int(said.radius)
    low, high, found = first - radius, first + radius, set()
    if said.score_lower is not None and said.score_lower > low:
        found.add("score interval")
    if said.score_upper is not None and said.score_upper < high:
        found.add("score interval")
    if said.verdict == "in_distribution" and high > THRESHOLD:
        found.add("verdict")
    if said.verdict == "out_of_distribution" and low <= THRESHOLD:
        found.add("verdict")
    return found


def _of_joint(oracle: Oracle, first: int, said) -> set[str]:
    """A joint label's share rises and falls along the line once, so that it is least at an end of what is claimed."""
    if said.verdict == "undetermined":
        return {"joint abstention"} if said.radius > 0 else set()
    label = len(oracle.cuts) if said.verdict == "out_of_distribution" else said.class_index
    least = min(oracle.shares(first + side * max(0.0, said.radius - _HAIR))[label] for side in (-1, 1))
    is_false = {"joint bound": said.p_lower > oracle.shares(first)[label], "joint label": least <= 0.5 - 1e-12}
    return {kind for kind, is_so in is_false.items() if is_so}


def _of_confidence(oracle: Oracle, first: int, said) -> set[str]:
    """The mean rises or falls along the line, so that among grid inputs it is least at the last one within the radius."""
    if said.class_index is None:
        return {"confidence abstention"} if said.radius > 0 or said.lower is not None else set()
    whole = int(said.radius)
    least = min(oracle.confidence(first + side * whole, said.class_index) for side in (-1, 1))
    here = oracle.confidence(first, said.class_index)
    is_false = {"confidence": said.lower > least + _HAIR, "confidence at the input": said.lower_at_input > here + _HAIR}
    return {kind for kind, is_so in is_false.items() if is_so}
