"""What many inputs cost together: how many near-duplicates at a boundary it takes until one answer is expected to be false.

    python -m benchmarks.near_duplicates

Exact, by dynamic programming, with no model and no server. At each input two classes have the smoothed probability 1/2,
up to less than any number of draws can tell, so a certificate of either is false. The client sees what is proven after
every slice and keeps the first certificate; each input has a key of its own, and so a new stream.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import binom

from certify.bounds import anytime
from certify.claims.procedures import SLICE

ALPHAS = (0.001, 0.01, 0.1)
CLASS_SHARE = 0.5  # of alpha, in the bundled model
DRAWS = (10_000, 100_000)


def chance_of_a_false_certificate(alpha: float, draws: int) -> float:
    """The chance that at one of the looks one of the two classes is certified."""
    step = binom.pmf(np.arange(SLICE + 1), SLICE, 0.5)
    alive, hit = np.ones(1), 0.0
    for n in range(SLICE, draws + 1, SLICE):
        alive = np.convolve(alive, step)
        least = anytime.least_hits(n, 0.5, alpha * CLASS_SHARE * 0.5)  # as `anytime.chosen_exceeds` has it
        if least is not None:
            hit += float(alive[least:].sum() + alive[: n - least + 1].sum())
            alive[least:] = alive[: n - least + 1] = 0.0
    return hit


def main() -> None:
    print("| alpha | draws at most | chance for one input | inputs for one false certificate |\n|-|-|-|-|")
    for alpha in ALPHAS:
        for draws in DRAWS:
            chance = chance_of_a_false_certificate(alpha, draws)
            print(f"| {alpha:g} | {draws:,} | {chance:.2e} | {1 / chance:,.0f} |", flush=True)


if __name__ == "__main__":
    main()
