"""What two-sided bounds are worth: the radii that they prove, and those of one-sided ones, on the same held-out votes.

At equal votes and shares of alpha no radius becomes smaller (`certify.claims.two_sided`). What they cost is paid elsewhere:
refuting takes more draws, and whoever reads an answer has to know that its class may have less than half of the votes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certify.claims.certificate import AlphaSplit, Certificate, Terms
from certify.claims.counts import Counts
from certify.claims.procedures import Best
from certify.mixture import mix
from certify.smoothing.law import Law
from export.build.lattice import lattices
from export.build.passes import draw_rows
from export.bundle import InputSpec
from export.bundle.batches import NoisyRun
from export.data import Dataset

PAYS = 1.05
"""How many times the mean radius has to become, to be worth an answer that takes more words."""
ROWS, DRAWS = 64, 256


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Radii:
    """What was proven about each row, 0 where nothing was."""

    one_sided: NDArray[np.float64]
    two_sided: NDArray[np.float64]

    @property
    def ratio(self) -> float:
        """Of the means: infinite where one-sided bounds prove nothing and the others do, 1 where neither does."""
        one, two = float(self.one_sided.mean()), float(self.two_sided.mean())
        return two / one if one else np.inf if two else 1.0

    @property
    def pays(self) -> bool:
        """Whether they become so much larger that it counts, and by more than two standard errors."""
        gained = self.two_sided - self.one_sided
        return self.ratio >= PAYS and bool(gained.mean() > 2 * gained.std() / np.sqrt(len(gained)))


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Reach:
    """The radii of the class, and those of the mixture where there is one."""

    of_class: Radii
    of_mixture: Radii | None

    def __str__(self) -> str:
        of_mixture = [] if self.of_mixture is None else [f"{self.of_mixture.ratio:.2f} times that of the mixture"]
        said = ", ".join([f"{self.of_class.ratio:.2f} times the mean radius of the class", *of_mixture])
        return f"{said}, at {DRAWS} draws, on {len(self.of_class.one_sided)} held-out rows"

    @property
    def pays(self) -> bool:
        """Whether either becomes larger."""
        return self.of_class.pays or (self.of_mixture is not None and self.of_mixture.pays)


def from_held_out(
    held_out: Dataset,
    spec: InputSpec,
    law: Law,
    noisy: NoisyRun,
    *,
    alpha: float,
    split: AlphaSplit,
    labels: int,
    robust_weight: float | None,
) -> Reach:
    """The reach on some held-out rows, evenly spaced. With two labels, either bound says what the other does."""
    some = held_out.every(max(1, len(held_out) // ROWS)).first(ROWS)
    rows = np.concatenate([part for part, _ in lattices(some, spec, ROWS)])
    votes = draw_rows(rows, law, noisy, "two-sided", DRAWS, quiet=True).counts(labels)
    terms = Terms(law=law.at(rows[0]).guarantee, alpha=alpha, split=split, classes=labels)
    return reach(votes, DRAWS, terms, robust_weight)


def reach(votes: NDArray[np.int64], draws: int, terms: Terms, robust_weight: float | None) -> Reach:
    """The reach by `votes` [rows, labels] of so many draws each, of one-sided `terms` and of the same with two sides."""
    counts = [Counts(draws=draws, votes=tuple(row)) for row in votes.tolist()]
    proven = [[Best().conclude(each, of_row) for of_row in counts] for each in (terms, replace(terms, two_sided=True))]
    return Reach(
        of_class=_radii(proven, None), of_mixture=None if robust_weight is None else _radii(proven, robust_weight)
    )


def _radii(proven: list[list[Certificate]], robust_weight: float | None) -> Radii:
    one, two = (
        np.array([each.radius if robust_weight is None else mix.radius(each, robust_weight) for each in side])
        for side in proven
    )
    return Radii(one_sided=one, two_sided=two)
