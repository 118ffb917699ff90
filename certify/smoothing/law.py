"""The port of smoothing: what perturbs an input, and what a bound of a probability then proves about its neighbours.

A bundle declares a `Law`. `law.at(x)` binds it to one input, whose length may matter, and so gives what can be drawn there
and what holds there: a `LawAt`. Its `guarantee` is the formulas alone, a small value that answers and receipts keep: a
receipt records `name` and `parameters`, and `certify.smoothing.laws` rebuilds an equal guarantee from them.

Everything else speaks of balls and probabilities, and knows neither noise nor norm. All formulas are rounded to the safe
side: what is returned is proven for the numbers that were handed in, which are bounds under the exact law; `charge` says how
far the law that is drawn from may be from it, and `needed` bears it already.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from certify.smoothing.ball import Ball, Part

HALF = 0.5
"""What the most probable label has to exceed so that no other can be it."""


class Guarantee(Protocol):
    """What bounds at one input prove about all inputs in a ball around it."""

    @property
    def name(self) -> str:
        """The law's name, by which `certify.smoothing.laws` knows it."""
        ...

    @property
    def parameters(self) -> Mapping[str, float | str]:
        """All that the formulas depend on beside `charge`; an answer prints them, a receipt records them."""
        ...

    @property
    def charge(self) -> float:
        """The total variation distance of what is drawn at this input to the exact law, rounded up."""
        ...

    @property
    def parts(self) -> tuple[Part, ...]:
        """What the balls of this law measure, in the order of their sizes."""
        ...

    @property
    def reach(self) -> Ball:
        """A ball beyond which no number of draws that is allowed proves anything."""
        ...

    def least(self, p: float, ball: Ball, complement: float | None = None) -> float:
        """How low a probability that is `p` at the input, or more, can get in the ball. `complement` is `1 - p` where it
        is known more precisely.
        """
        ...

    def most(self, p: float, ball: Ball) -> float:
        """How high a probability that is `p` at the input, or less, can get in the ball."""
        ...

    def needed(self, ball: Ball, threshold: float = HALF, side: int = 1) -> float:
        """The probability, as drawn, that decides whether the exact one stays above `threshold` in the ball: above it that
        is proven (`side` 1), below it no bound at the input proves it (-1).
        """
        ...

    def radius(self, complement: float, threshold: float = HALF) -> Ball:
        """The largest ball known in which a label of probability `1 - complement` or more stays above `threshold`.

        Its sizes are 0 where there is none.
        """
        ...

    def radius_above(self, p: float, threshold: float = HALF) -> Ball:
        """A ball at least as large as that of any label whose probability is `p` or less."""
        ...

    def lead(self, complement: float, rival: float, margin: float) -> Ball:
        """The largest ball known in which a label of probability `1 - complement` or more leads by more than `margin` over
        one of probability `rival` or less; its sizes are 0 where there is none.
        """
        ...

    def lead_above(self, p: float, rival: float) -> Ball:
        """A ball at least as large as any in which a label of probability `p` or less leads one of `rival` or more."""
        ...


def scale(law: Guarantee) -> float:
    """The length by which radii under a law are told where none was asked for: an eighth of its reach, which is sigma where
    the noise is Gaussian.
    """
    return law.reach.size / 8


class LawAt(Protocol):
    """A law at one input: its draws, each a pure function of (key, index of the draw), and its guarantee."""

    @property
    def name(self) -> str:
        """See `Guarantee.name`."""
        ...

    @property
    def stream(self) -> str:
        """The name of the definition of the draws, frozen: other draws have another."""
        ...

    @property
    def ballots(self) -> int:
        """How many votes one draw casts."""
        ...

    @property
    def guarantee(self) -> Guarantee:
        """The formulas without the input and what is drawn from: equal for equal parameters."""
        ...

    def sample(self, key: bytes, start: int, stop: int) -> NDArray[np.int32]:
        """The perturbed inputs of the draws `[start, stop)` of the stream of `key`, (stop - start, *shape of the graph)."""
        ...


class Law(Protocol):
    """What a bundle declares: how its inputs are perturbed."""

    @property
    def name(self) -> str:
        """See `Guarantee.name`."""
        ...

    @property
    def tensors(self) -> Mapping[str, NDArray[Any]]:
        """The tables that it is drawn from, by name, as bundles keep them; none where it needs none."""
        ...

    def at(self, x: NDArray[np.integer[Any]]) -> LawAt:
        """The law at one input, integers of the grid or of the vocabulary."""
        ...

    def span(self, lowest: int, highest: int) -> tuple[int, int]:
        """Between which numbers, these included, all of every perturbed input lie, for inputs between these."""
        ...
