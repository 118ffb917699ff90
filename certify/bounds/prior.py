"""A learned prior for the confidence sequence: fewer draws where the base pass foresees the votes.

The e-process of `certify.bounds.anytime` mixes over the alternatives `1 - q`, `q = u (1 - m)`, with a Beta prior on u.
Any other
probability measure on u is as valid, as long as it is fixed before the first draw and *the same for every m*: then

    E(m) = 1/2 (the Beta mixture) + 1/2 sum_j w_j u_j^e (u_j + (1 - u_j)/m)^k,      k hits, e misses

is a supermartingale under `p <= m`, `m E(m)` is convex and at most one at m = 1, level `alpha m` covers a class chosen by
the same draws, and one evaluation proves a bound. A bad guess costs at most ln 2 of evidence; it cannot cost validity.

The guess is a table, frozen in the bundle, over what the base pass on the clean input says: its margin and its OOD score.
It may know the bundle, the input and the base pass. It must not know the request (a target chosen later aims it after the
draws) nor any draw on this input; a prior in u that changes with m leaves holes among the rejected values.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from certify.bounds import anytime, binomial

_HALF = -math.log(2)
_MOST = 1 + 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """One probability measure on u: `weights[j]` at `atoms[j]`, beside the Beta mixture, which has the other half.

    u near 0 guesses that nearly all draws agree, whatever is asked; u = 1 guesses nothing.
    """

    atoms: tuple[float, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.atoms) != len(self.weights) or not all(0 <= atom <= 1 for atom in self.atoms):
            raise ValueError(
                f"expected one weight an atom, and atoms from 0 to 1; got {self.atoms} with {self.weights}"
            )
        # None above 1 is added up: such a sum may be too large for a float.
        in_range = all(0 <= weight <= _MOST for weight in self.weights)
        if not in_range or not 0 < math.fsum(self.weights) <= _MOST:
            raise ValueError(f"the weights of a prior must not be negative, nor sum to more than 1; got {self.weights}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorTable:
    """The bundle's guess for an input: `weights[i][j]` of the atoms, i and j the cells of margin and of OOD score.

    n rising edges make n + 1 cells; an edge belongs to the cell above it, and so does a feature that is not a number.
    """

    atoms: tuple[float, ...]
    margin_edges: tuple[float, ...]
    score_edges: tuple[float, ...]
    weights: tuple[tuple[tuple[float, ...], ...], ...]

    def __post_init__(self) -> None:
        for edges in (self.margin_edges, self.score_edges):
            if not all(one < other for one, other in pairwise(edges)):
                raise ValueError(f"the edges of a prior's table must rise; got {edges}")
        shape = len(self.margin_edges) + 1, len(self.score_edges) + 1
        if len(self.weights) != shape[0] or any(len(row) != shape[1] for row in self.weights):
            raise ValueError(f"a prior's table with these edges has {shape[0]} rows of {shape[1]} cells of weights")
        for weights in (cell for row in self.weights for cell in row):
            Prior(atoms=self.atoms, weights=weights)

    @property
    def cells(self) -> tuple[Prior, ...]:
        """Every prior that an input may have."""
        return tuple(Prior(atoms=self.atoms, weights=cell) for row in self.weights for cell in row)

    def of(self, margin: float, score: float) -> Prior:
        """The prior of an input, from the margin and the OOD score of its base pass; no draw has a say."""
        cell = self.weights[bisect_right(self.margin_edges, margin)][bisect_right(self.score_edges, score)]
        return Prior(atoms=self.atoms, weights=cell)


def margin(base: NDArray[np.floating]) -> float:
    """By how much the base pass puts one label before all others: the largest number less the second largest."""
    second, first = np.partition(base.astype(np.float64), -2)[-2:]
    return float(first - second)


def log_evidence(prior: Prior, draws: int, hits: int, complement: float) -> float:
    """The natural logarithm of the e-process against `p <= 1 - complement`; `-inf` where it could not exceed one."""
    beta = anytime.log_evidence(draws, hits, 1 - complement, complement)
    if beta == -math.inf:
        return beta
    misses, odds = draws - hits, complement / (1 - complement)
    logs = [beta] + [
        math.log(weight) + (misses * math.log(atom) if misses else 0.0) + hits * math.log1p((1 - atom) * odds)
        for atom, weight in zip(prior.atoms, prior.weights, strict=True)
        if weight > 0 and (atom > 0 or not misses)
    ]
    largest = max(logs)
    return _HALF + largest + math.log(math.fsum(math.exp(each - largest) for each in logs))


def chosen_exceeds(prior: Prior, draws: int, hits: int, alpha: float, complement: float) -> bool:
    """Whether `p > 1 - complement` is proven at level `alpha (1 - complement)`: for any class chosen by the draws."""
    evidence = log_evidence(prior, draws, hits, complement)
    return math.log1p(-complement) + evidence >= -math.log(alpha) + anytime.GUARD


def chosen_lower_complement(prior: Prior, draws: int, hits: int, alpha: float) -> float:
    """`1 - L` where `P(some class and some n have L > p) <= alpha`; 1 where nothing is proven. Rounded up."""
    return binomial.bisect_complement(
        (draws - hits) / draws, lambda q: 0 < q < 1 and chosen_exceeds(prior, draws, hits, alpha, q)
    )
