"""What a prior of the votes is worth: the draws to a decision with it and without, on the same votes of held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from certify.bounds.prior import Prior
from certify.claims.certificate import Terms
from certify.claims.counts import Counts
from certify.claims.procedures import SLICE, RunningProcedure, Target
from certify.smoothing.ball import Ball
from certify.smoothing.law import Law
from export.build.passes import BATCH, noisy_lattice
from export.bundle.batches import NoisyRun

PAYS = 0.98
"""The part of the draws that a prior has to come down to, to be worth its place in every receipt."""
_LAST_LOOK = 16 * SLICE
"""Rows that are open then lie near the target; they count as decided there, with a prior and without."""


@dataclass(frozen=True, kw_only=True, eq=False, slots=True)
class Worth:
    """Draws that each row took until it was decided, without a prior and with it."""

    without: NDArray[np.int64]
    with_prior: NDArray[np.int64]

    @property
    def ratio(self) -> float:
        """Of the mean with it to that without."""
        return float(self.with_prior.mean() / self.without.mean())

    @property
    def pays(self) -> bool:
        """Whether so many draws are saved that they count, and by more than two standard errors."""
        saved = self.without - self.with_prior
        return self.ratio <= PAYS and bool(saved.mean() > 2 * saved.std() / np.sqrt(len(saved)))


def worth(
    rows: NDArray[np.int32],
    keys: Sequence[bytes],
    priors: Sequence[Prior],
    *,
    law: Law,
    noisy: NoisyRun,
    terms: Terms,
    ball: Ball,
) -> Worth:
    """Decide the ball about each row [rows, *shape], on the stream of its key, as a server does: a look after each slice."""
    together = max(1, BATCH // SLICE)
    found = []
    for start in range(0, len(rows), together):
        part = slice(start, start + together)
        asked = [_Asked(terms, prior, ball) for prior in priors[part]]
        _decide(rows[part], keys[part], asked, law, noisy)
        found += [each.decided for each in asked]
    without, with_prior = np.array(found, dtype=np.int64).T
    return Worth(without=without, with_prior=with_prior)


class _Asked:
    """One row's two procedures, which see the same votes."""

    def __init__(self, terms: Terms, prior: Prior, ball: Ball) -> None:
        both = terms, replace(terms, prior=prior)
        self._running = [RunningProcedure(Target(ball), each, _LAST_LOOK) for each in both]
        self._votes = np.zeros(terms.classes + 1, dtype=np.int64)
        self.decided = [0, 0]

    @property
    def open(self) -> bool:
        return not all(self.decided)

    def see(self, votes: NDArray[np.int64], draws: int) -> None:
        self._votes += np.bincount(votes, minlength=len(self._votes))
        counts = Counts(draws=draws, votes=tuple(self._votes[:-1].tolist()))
        for place, each in enumerate(self._running):
            if not self.decided[place] and each.receive(counts):
                self.decided[place] = draws


def _decide(rows: NDArray[np.int32], keys: Sequence[bytes], asked: Sequence[_Asked], law: Law, noisy: NoisyRun) -> None:
    for draws in range(0, _LAST_LOOK, SLICE):
        still = [place for place, each in enumerate(asked) if each.open]
        if not still:
            return
        drawn = [noisy_lattice(rows[place], law, keys[place], draws, draws + SLICE) for place in still]
        votes = noisy(np.concatenate(drawn))[0].reshape(len(still), SLICE)
        for place, each in zip(still, votes, strict=True):
            asked[place].see(each, draws + SLICE)
