"""A client that knows the truth about its input, sees each answer, and asks on for as long as something false may come."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, fields, replace
from typing import ClassVar

from serving.messages import Options
from tests.simulation.losing import MAX_DRAWS
from tests.simulation.oracles import MENU, Oracle, false_claims

_SMALLER = (1.0, 1.0, 1.0, 1.0, 0.5, 0.1)
_HAIR = 1e-6


@dataclass(eq=False)
class Client:
    """One input, all that is asked about it, and what was false: `anytime` and `fixed` are the kinds of false claims."""

    patience: ClassVar[int] = 14
    """Requests, beside those for each number of fixed draws."""
    menu: ClassVar[tuple[int, ...]] = MENU
    oracle: Oracle
    first: int
    alpha: float
    chance: random.Random
    anytime: set[str] = field(default_factory=set)
    fixed: set[str] = field(default_factory=set)
    scores: set[tuple[float, float]] = field(default_factory=set)
    budgets: dict[object, float] = field(default_factory=dict)
    answers: list[str] = field(default_factory=list)
    lost: int = 0
    cut: int = 0
    refused: int = 0
    _radius: float = 0.0
    _draws: int = 0

    async def ask_on(self, ask) -> None:
        """`ask` gives the prediction for some options, or None where it was refused."""
        menu = self.chance.sample(self.menu, len(self.menu))
        for turn in range(self.patience):
            if not self.anytime:
                await self._ask(ask, self._next())
            if menu and turn % 2:
                await self._ask(ask, Options(certify="fixed", draws=menu.pop(), alpha=self.alpha))
        for draws in menu:
            await self._ask(ask, Options(certify="fixed", draws=draws, alpha=self.alpha))

    async def _ask(self, ask, options: Options) -> None:
        prediction = await ask(options)
        if prediction is None:
            self.refused += 1
            return
        self.answers.append(options.certify)
        self.lost += prediction.lost_draws > 0
        self.cut += options.certify in ("best", "fixed") and prediction.draws < (options.draws or options.max_draws)
        (self.fixed if options.certify == "fixed" else self.anytime).update(
            false_claims(self.oracle, self.first, prediction)
        )
        split = prediction.alpha_split
        spent = sum(getattr(split, each.name) for each in fields(split))
        event = options.draws or "anytime"
        self.budgets[event] = max(self.budgets.get(event, 0.0), spent * prediction.alpha)
        if prediction.ood:
            self.scores.add((prediction.ood.score, prediction.ood.p_value))
        if prediction.certificate:
            self._radius, self._draws = prediction.certificate.radius, prediction.draws

    def _next(self) -> Options:
        """Of the kinds of requests some depend on what was answered last."""
        moves = (self._boundary, self._boundary, self._more, self._more, self._printed, self._precision, self._off)
        move = self.chance.choice(moves)
        asked = replace(move(), alpha=self.alpha * self.chance.choice(_SMALLER))
        return replace(asked, deadline_ms=self.chance.choice((30, 100, 400))) if self.chance.random() < 0.2 else asked

    def _boundary(self) -> Options:
        """A hair more than is true, or a hair less, so that either decision is false where it is the wrong one."""
        beside = self.oracle.proven_radius(self.first) + self.chance.choice((-_HAIR, _HAIR))
        return Options(certify="target", target_radius=max(0.0, beside), max_draws=self._some_draws())

    def _more(self) -> Options:
        """The best of a few draws more than the last time, so that it sees the bounds at many stops."""
        more = self._draws + self.chance.choice((8, 24, 40, 64))
        return Options(certify="best", max_draws=more if 32 <= more <= 640 else self._some_draws())

    def _printed(self) -> Options:
        """A target just below the radius that was printed, or just above."""
        radius = self._radius * self.chance.choice((1 - 1e-9, 1 + 1e-9, 1.05))
        return Options(certify="target", target_radius=radius, max_draws=self._some_draws())

    def _precision(self) -> Options:
        """So much tolerance that it is false, by a hair, to say that the radius is known, where the last one was printed."""
        tolerance = self.oracle.proven_radius(self.first) - self._radius - _HAIR
        return Options(
            certify="precision", radius_tolerance=tolerance if tolerance > 1 else 12.0, max_draws=self._some_draws()
        )

    def _off(self) -> Options:
        return Options(certify="off", outputs=("probabilities", "ood"))

    def _some_draws(self) -> int:
        return self.chance.choice((64, 100, 256, MAX_DRAWS, MAX_DRAWS))
