"""How many draws it takes to prove a radius, by our rule and by the published ones: simulated, with no model and no server.

    python -m benchmarks.draws_needed

Every stream has `p_A = Phi(R/sigma + z)` and is looked at after every draw. All anytime rules test the same thing at the
same level `alpha m0`, `m0 = Phi(R/sigma)`, and see the same streams. A prior is right if it guesses p_A, and wrong if it
guesses twice the margin z. `information` is Wald's floor for any rule that surely
stops, `ln(1/(alpha m0)) / KL(p_A, m0)`. A fixed number of draws is Cohen's, Clopper-Pearson at plain alpha with the class
known: it costs n on every input, and the share that it certifies is beside it.

A second table is of inputs that fall short of the radius: draws until that is shown, with the prior of lower bounds and with
the upper bounds' own, at looks after every draw and after every slice.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from scipy.special import betaln, ndtr, xlogy, zeta
from scipy.stats import binom

from certify.bounds import anytime, binomial
from certify.bounds.prior import Prior, chosen_exceeds
from certify.claims.procedures import SLICE

ALPHA = 0.001
UPPER_SHARE = 0.2  # of alpha, in the bundled model
RATIOS, MARGINS = (0.25, 0.5, 1.0, 2.0), (1.0, 0.5, 0.25)
RUNS = 2_000
FIXED = (1_000, 10_000, 100_000)
_UNSETTLED = 8  # a stream is followed for so many times Wald's floor, and counted as that long if it is still undecided

Streams = np.ndarray  # (runs, draws) of 0 and 1


def information(p: float, m0: float) -> float:
    """Wald's floor for the mean number of draws."""
    divergence = xlogy(p, p / m0) + xlogy(1 - p, (1 - p) / (1 - m0))
    return -math.log(ALPHA * m0) / float(divergence)


def streams(p: float, m0: float, runs: int, seed: int) -> Streams:
    """Seeded draws, long enough for nearly every one to be decided."""
    length = int(_UNSETTLED * information(p, m0)) + 200
    return np.random.default_rng(seed).random((runs, length), dtype=np.float32) < p


def by_counts(exceeds: Callable[[int, int], bool], draws: Streams, apart: int = 1) -> np.ndarray:
    """When each stream stops, for a rule of (draws, hits): the least hits that reject rise by at most one a draw.

    Looks are `apart` draws from each other.
    """
    needed, least = np.empty(draws.shape[1], dtype=np.int32), 0
    for n in range(1, draws.shape[1] + 1):
        while least <= n and not exceeds(n, least):
            least += 1
        needed[n - 1] = least
    needed[np.arange(1, draws.shape[1] + 1) % apart != 0] = np.iinfo(np.int32).max
    return first(np.cumsum(draws, axis=1, dtype=np.int32) >= needed)


def first(stops: np.ndarray) -> np.ndarray:
    """The first draw at which a stream stops; its length if it does not."""
    return np.where(stops.any(axis=1), stops.argmax(axis=1) + 1, stops.shape[1])


def krichevsky_trofimov(n: int, k: int, m: float, level: float) -> bool:
    """The two-sided mixture over Beta(1/2, 1/2) (Krichevsky and Trofimov 1981; Robbins 1970)."""
    log_ratio = betaln(k + 0.5, n - k + 0.5) - betaln(0.5, 0.5) - xlogy(k, m) - (n - k) * math.log1p(-m)
    return k > n * m and bool(log_ratio >= -math.log(level))


def stitched(n: int, k: int, m: float, level: float, eta: float = 2.0, s: float = 1.4) -> bool:
    """The polynomial stitched bound (Howard et al. 2021, theorem 1), with the null's variance, for m >= 1/2."""
    time = max(1.0, n * m * (1 - m))
    log_part = s * math.log(math.log(eta * time)) + math.log(zeta(s) / (level * math.log(eta) ** s))
    return k - n * m >= (eta**0.25 + eta**-0.25) / math.sqrt(2) * math.sqrt(time * log_part)


def betting(draws: Streams, m: float, level: float, agrapa: bool = False, cap: float = 0.5) -> np.ndarray:
    """When capital grown by predictable bets reaches 1/level (Waudby-Smith and Ramdas 2024); it depends on the order.

    The bets are their predictable plug-in, or their approximate growth-rate-adaptive ones (`agrapa`).
    """
    runs, length = draws.shape
    wealth, stopped = np.zeros(runs), np.full(runs, length)
    total, squares = np.full(runs, 0.5), np.full(runs, 0.25)
    for i in range(1, length + 1):
        mean, variance = total / i, squares / i
        if agrapa:
            bet = np.maximum(mean - m, 0) / (variance + (mean - m) ** 2)
        else:
            bet = np.sqrt(-2 * math.log(level) / (variance * i * math.log(i + 1)))
        seen = draws[:, i - 1]
        wealth += np.log1p(np.minimum(bet, cap / m) * (seen - m))
        total += seen
        squares += (seen - total / (i + 1)) ** 2
        stopped = np.where((wealth >= -math.log(level)) & (stopped == length), i, stopped)
        if i % 512 == 0 and (stopped < length).all():
            break
    return stopped


def rules(ratio: float, z: float) -> dict[str, Callable[[Streams], np.ndarray]]:
    """Every anytime rule: from streams to the draws at which they stop."""
    m0, p = float(ndtr(ratio)), float(ndtr(ratio + z))
    level = ALPHA * m0
    guess = Prior(atoms=((1 - p) / (1 - m0),), weights=(1.0,))
    missed = Prior(atoms=(float(1 - ndtr(ratio + 2 * z)) / (1 - m0),), weights=(1.0,))
    return {
        "ours": lambda x: by_counts(lambda n, k: anytime.chosen_exceeds(n, k, m0, ALPHA), x),
        "prior, right": lambda x: by_counts(lambda n, k: chosen_exceeds(guess, n, k, ALPHA, 1 - m0), x),
        "prior, 2z": lambda x: by_counts(lambda n, k: chosen_exceeds(missed, n, k, ALPHA, 1 - m0), x),
        "KT": lambda x: by_counts(lambda n, k: krichevsky_trofimov(n, k, m0, level), x),
        "stitched": lambda x: by_counts(lambda n, k: stitched(n, k, m0, level), x),
        "plug-in bets": lambda x: betting(x, m0, level),
        "aGRAPA bets": lambda x: betting(x, m0, level, agrapa=True, cap=0.75),
    }


def certified_share(n: int, p: float, m0: float) -> float:
    """The chance that Clopper-Pearson at a fixed n certifies the radius."""
    least = int(binom.ppf(0.5, n, m0))
    while least <= n and 1 - binomial.clopper_pearson_complement(n, least, ALPHA) < m0:
        least += 1
    return float(binom.sf(least - 1, n, p))


def row(ratio: float, z: float, runs: int = RUNS) -> list[str]:
    """One line of the table."""
    m0, p = float(ndtr(ratio)), float(ndtr(ratio + z))
    draws = streams(p, m0, runs, seed=round(1_000 * ratio + 10 * z))
    cells = [f"{ratio:g}", f"{z:g}", f"{information(p, m0):,.0f}"]
    for rule in rules(ratio, z).values():
        stopped = rule(draws)
        cells.append(f"{stopped.mean():,.0f} / {np.quantile(stopped, 0.95):,.0f}")
    return cells + [f"{certified_share(n, p, m0):.3f}" for n in FIXED]


def refuted_row(ratio: float, z: float, runs: int = RUNS) -> list[str]:
    """One line of the second table: `p_A = Phi(R/sigma - z)` is refuted at the upper bound's share of alpha."""
    m0, p = float(ndtr(ratio)), float(ndtr(ratio - z))
    level, missed = UPPER_SHARE * ALPHA, 1 - m0
    floor = information(1 - p, missed) * math.log(level) / math.log(ALPHA * missed)
    draws = np.random.default_rng(round(1_000 * ratio + 10 * z)).random((runs, int(_UNSETTLED * floor) + 200)) >= p
    cells = [f"{ratio:g}", f"{z:g}", f"{floor:,.0f}"]
    for kappa in (anytime.KAPPA, anytime.KAPPA_UPPER):
        for apart in (1, SLICE):
            stopped = by_counts(lambda n, k, of=kappa: anytime.exceeds(n, k, missed, level, of), draws, apart)
            cells.append(f"{stopped.mean():,.1f} ({stopped.mean() / floor:.2f})")
    return cells


def refuted() -> None:
    """Print the second table."""
    priors = [f"Beta({kappa:g}, 1)" for kappa in (anytime.KAPPA, anytime.KAPPA_UPPER)]
    head = ["R/sigma", "z below", "information", *(f"{p}, looks every {n}" for p in priors for n in (1, SLICE))]
    print(f"\nDraws to refute, mean (over information)\n\n| {' | '.join(head)} |\n|{'-|' * len(head)}", flush=True)
    for ratio in RATIOS:
        for z in MARGINS:
            print(f"| {' | '.join(refuted_row(ratio, z))} |", flush=True)


def main() -> None:
    head = ["R/sigma", "z", "information", *rules(1.0, 1.0), *(f"certified at n={n:,}" for n in FIXED)]
    print(f"Draws, mean / 95 % quantile of {RUNS:,} streams, alpha = {ALPHA}\n\n| {' | '.join(head)} |")
    print(f"|{'-|' * len(head)}", flush=True)
    for ratio in RATIOS:
        for z in MARGINS:
            print(f"| {' | '.join(row(ratio, z))} |", flush=True)
    refuted()


if __name__ == "__main__":
    main()
