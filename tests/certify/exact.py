"""Oracles at 50 digits, computed by other means than the code they judge."""

from __future__ import annotations

import mpmath

mpmath.mp.dps = 50


def tail_at_least(draws: int, hits: int, p: mpmath.mpf) -> mpmath.mpf:
    """`P(Binomial(draws, p) >= hits)`, the exact sum outward from `hits` until its terms vanish."""
    if hits <= 0:
        return mpmath.mpf(1)
    if p in (0, 1):
        return mpmath.mpf(int(p))
    if hits <= draws * p:
        return 1 - tail_at_least(draws, draws - hits + 1, 1 - p)
    term = mpmath.exp(
        mpmath.loggamma(draws + 1)
        - mpmath.loggamma(hits + 1)
        - mpmath.loggamma(draws - hits + 1)
        + hits * mpmath.log(p)
        + (draws - hits) * mpmath.log1p(-p)
    )
    total, k = mpmath.mpf(0), hits
    while k <= draws and term > total * mpmath.mpf(10) ** -45:
        total += term
        term *= mpmath.mpf(draws - k) / (k + 1) * p / (1 - p)
        k += 1
    return total


def log_evidence(draws: int, hits: int, m: mpmath.mpf) -> mpmath.mpf:
    """The Beta mixture's logarithm by quadrature over the alternatives, with kappa = 1/2 and u = t^2."""
    misses = draws - hits

    def ratio(t: mpmath.mpf) -> mpmath.mpf:
        u = t * t  # (1/2) u^(-1/2) du = dt
        return u**misses * (u + (1 - u) / m) ** hits

    peak = mpmath.sqrt(min(mpmath.mpf(1), max(mpmath.mpf(misses) / draws / (1 - m), mpmath.mpf(10) ** -9)))
    points = sorted({mpmath.mpf(0), peak / 2, peak, (1 + peak) / 2, mpmath.mpf(1)})
    return mpmath.log(mpmath.quad(ratio, points))


def normal_quantile(p: mpmath.mpf) -> mpmath.mpf:
    """The standard normal quantile by Newton's method on the complementary error function."""
    z = mpmath.mpf(0)
    for _ in range(200):
        density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mpmath.pi)
        step = (mpmath.ncdf(z) - p) / density
        step = max(min(step, mpmath.mpf(1)), mpmath.mpf(-1))
        z -= step
        if abs(step) < mpmath.mpf(10) ** -45:
            break
    return z
