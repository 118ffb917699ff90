"""How far a mixture's label reaches, in units of sigma: five forms of one theorem, from what is known of the robust part.

The mixture `f = (1 - w) g + w h` keeps the label y for every g whatever where `h_y - h_i > (1 - w) / w` for all i other
than y: `w (h_y - h_i) > 1 - w >= (1 - w) (g_i - g_y)`, as g lies in [0, 1] (Bai et al. 2023, lemma 1). The inequality is
strict because a g that is exactly one-hot makes equality a tie. `w <= 1/2` gives nothing.

h is the Gaussian smoothing of functions with values in [0, 1], hard votes or soft. `complement` is an upper bound of
`1 - h_y` and `p_b_upper` one of every other `h_i`, both at the input and true on one event; where they came from (counts,
soft votes, a bound at any stopping time) is of no matter. `Phi^-1(h_y)` and `Phi^-1(h_i)` move by at most `|d| / sigma`.
Every value is rounded down, and is valid for `|d| / sigma` below it.
"""

from __future__ import annotations

import math

from certify.bounds import binomial

_FARTHEST = 40.0  # beyond it a normal tail has no double
_HALVINGS = 60


def needed_margin(weight: float) -> float:
    """`(1 - w) / w`, rounded up: what the robust part has to lead by."""
    return math.nextafter((1 - weight) / weight, math.inf) if weight < 1 else 0.0


def needed_alone(weight: float) -> float:
    """`1 / (2 w)`, rounded up: what the robust part's probability of the label has to exceed if nothing else is known."""
    return math.nextafter(1 / (2 * weight), 1.0) if weight < 1 else 0.5


def above(complement: float, threshold: float) -> float:
    """`Phi^-1(p_A) - Phi^-1(threshold)`: how far a label stays above a threshold. Negative where it is below."""
    own = binomial.quantile_of_complement_below(complement)
    return math.nextafter(own - binomial.quantile_above(threshold), -math.inf)


def one_sided(complement: float, weight: float) -> float:
    """`Phi^-1(p_A) - Phi^-1(1 / (2 w))`, negative where nothing is proven.

    `h_y > 1 / (2 w)` suffices, as `h_y + h_i <= 1`. Tight: a half-space h and an adversarial g flip exactly there.
    """
    return above(complement, needed_alone(weight))


def of_margin(complement: float, p_b_upper: float, weight: float) -> float:
    """The one-sided form for the margin variable `v = (1 + h_y - h_i) / 2` instead of h_y.

    A bound of `1 - E v` for one i goes into `one_sided` as it is; then y has to be fixed before the draws, or every pair
    has a share of alpha, for the means of margin variables do not sum to one.
    """
    return one_sided(math.nextafter((complement + p_b_upper) / 2, math.inf), weight)


def lipschitz(margin: float, constant: float, weight: float) -> float:
    """`(w m + w - 1) / (2 w L)` in the caller's units, at least 0, for any h of margin m with L-Lipschitz components.

    Bai et al. 2023, theorem 1. A function that is smoothed by noise sigma has L = `smoothed_constant(sigma)`.
    """
    lead = math.nextafter(margin - needed_margin(weight), -math.inf)
    return math.nextafter(lead / (2 * constant), 0.0) if lead > 0 else 0.0


def smoothed_constant(sigma: float) -> float:
    """`1 / (sigma sqrt(2 pi))`, rounded up: the tight constant for values in [0, 1], half of the published one."""
    return 1 / (sigma * math.sqrt(2 * math.pi)) * (1 + 2**-50)


def two_sided(complement: float, p_b_upper: float, weight: float) -> float:
    """The largest r found at which the lead exceeds `(1 - w) / w`; negative if there is none.

    At equal bounds no other form is larger.
    """
    return leading(complement, p_b_upper, needed_margin(weight))


def leading(complement: float, p_b_upper: float, needed: float) -> float:
    """The largest r found with `Phi(Phi^-1(p_A) - r) - Phi(Phi^-1(p_B) + r) > needed`; negative if there is none.

    The inequality itself is evaluated, directed, at the returned r.
    """
    top, next_ = binomial.quantile_of_complement_below(complement), binomial.quantile_above(p_b_upper)

    def holds(r: float) -> bool:
        least = binomial.probability_below(math.nextafter(top - r, -math.inf))
        most = binomial.probability_above(math.nextafter(next_ + r, math.inf))
        return math.nextafter(least - most, -1.0) > needed

    if not holds(0.0):
        return -math.inf
    low, high = 0.0, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def best(complement: float, p_b_upper: float, weight: float) -> float:
    """The largest radius that these bounds prove, at least 0. Both forms hold on the one event, so the choice is free.

    Other classes have at most `complement` as it is; a `p_b_upper` that says no more leaves the one-sided form.
    """
    if weight <= 0.5:
        return 0.0
    alone = one_sided(complement, weight)
    together = two_sided(complement, p_b_upper, weight) if p_b_upper < complement else 0.0
    return max(0.0, alone, together)
