"""Library offering: what an l2 radius on the grid says of other adversaries, free on the certificate's event.

All lengths are in the caller's units, rounded down, and valid below them. `step` is the grid's, `coordinates` the number of
integers that the network sees.
"""

from __future__ import annotations

import math


def l_infinity_radius(radius: float, coordinates: int) -> float:
    """`R / sqrt(d)`: every coordinate may move by less. A conversion, and a poor one in many dimensions."""
    return math.nextafter(radius / _root_above(coordinates), 0.0)


def float_radius(radius: float, step: float, coordinates: int) -> float:
    """`max(R / 2, R - s sqrt(d) / 2)`, for an attacker off the grid around a centre X on it, the input being rounded.

    A point x' at distance r rounds to a grid point within `min(2 r, r + s sqrt(d) / 2)` of X: a coordinate that moves to
    the next step has moved by half of one. Both are attained.
    """
    return max(math.nextafter(radius / 2, 0.0), _less_rounding(radius, step, coordinates))


def float_radius_off_grid(radius: float, step: float, coordinates: int, snap_distance: float) -> float:
    """`R - |x' - X| - s sqrt(d) / 2`, at least 0: the same around the caller's own x', which was snapped to X.

    `R / 2` does not hold here: where x' lies between grid points, a step much smaller than s moves X by `s sqrt(d)`.
    """
    left = math.nextafter(radius - snap_distance, -math.inf)
    return _less_rounding(left, step, coordinates)


def _less_rounding(radius: float, step: float, coordinates: int) -> float:
    moved = math.nextafter(step * _root_above(coordinates), math.inf) / 2
    return max(0.0, math.nextafter(radius - moved, -math.inf))


def _root_above(coordinates: int) -> float:
    return math.nextafter(math.sqrt(coordinates), math.inf)
