"""Balls as receipts have them: each part with its norm, units and size, where a law's balls have several.

Where they have one part, a radius says all, and no ball stands beside it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from certify.smoothing.ball import Ball, Part, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRecord:
    """One part of a ball: what is measured, in which units, and how far it goes."""

    norm: str
    units: str
    size: float


WholeBall = tuple[PartRecord, ...]
"""All parts, in the law's order; the size of the first is the radius beside it."""


def whole_ball(ball: Ball | None) -> WholeBall | None:
    """A ball as receipts have it; None where there is none, or one part."""
    if ball is None or len(ball.parts) == 1:
        return None
    pairs = zip(ball.parts, ball.sizes, strict=True)
    return tuple(PartRecord(norm=part.norm, units=part.units, size=size) for part, size in pairs)


def ball_of(parts: tuple[Part, ...], radius: float, said: WholeBall | None) -> Ball:
    """The ball that was recorded, of a law's `parts`. Raises `ValueError`."""
    if said is None:
        return parse(parts, radius)
    return parse(parts, {each.norm: each.size for each in said})


def fault(parts: tuple[Part, ...], radius: float | None, said: WholeBall | None) -> str | None:
    """What was expected in the place of a recorded ball beside this radius, if it is not one of a law's `parts`."""
    if said is None:
        return None
    if len(parts) == 1:
        return "none, where balls have one part"
    if [(each.norm, each.units) for each in said] != [(part.norm, part.units) for part in parts]:
        return "the parts of the law's balls, in their order"
    if said[0].size != radius:
        return "the radius as the size of its first part"
    try:
        ball_of(parts, said[0].size, said)
    except ValueError:
        return "finite sizes from 0, whole where they count"
    return None


def as_large(said: WholeBall, found: WholeBall, reach: Ball, tolerance: float) -> bool:
    """Whether two balls agree up to what platforms differ in: a part of each size, and of an eighth of the law's reach."""
    return len(said) == len(found) == len(reach.sizes) and all(
        math.isclose(one.size, other.size, rel_tol=tolerance, abs_tol=tolerance * farthest / 8)
        and replace(one, size=other.size) == other
        for one, other, farthest in zip(said, found, reach.sizes, strict=True)
    )
