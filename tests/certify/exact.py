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


def log_evidence(draws: int, hits: int, m: mpmath.mpf, kappa: float = 0.5) -> mpmath.mpf:
    """The Beta mixture's logarithm by quadrature over the alternatives, in pieces about the peak of the integrand."""
    misses, q = draws - hits, 1 - m

    def log_ratio(u: mpmath.mpf) -> mpmath.mpf:
        return mpmath.log(kappa) + (kappa - 1 + misses) * mpmath.log(u) + hits * mpmath.log(u + (1 - u) / m)

    shape = max(mpmath.mpf(0), kappa - 1 + misses)
    peak = max(mpmath.mpf(10) ** -30, min(mpmath.mpf(1), shape / (shape + hits) / q))
    width = mpmath.sqrt((shape + 1) * (hits + 1)) / (shape + hits + 1) ** mpmath.mpf(1.5) / q
    steps = [sign * 2**k for k in range(-1, 7) for sign in (-1, 1)]
    points = sorted({mpmath.mpf(0), mpmath.mpf(1), peak, *(min(1, max(0, peak + width * step)) for step in steps)})
    top = log_ratio(peak)
    return top + mpmath.log(mpmath.quad(lambda u: mpmath.exp(log_ratio(u) - top), points))


def log_evidence_by_fraction(draws: int, hits: int, m: mpmath.mpf, kappa: float = 0.5) -> mpmath.mpf:
    """The same by the mixture's closed form, for shares of hits above `m`: a hundred times faster with many draws."""
    shape, q = draws - hits + mpmath.mpf(kappa), 1 - m
    log_beta = mpmath.loggamma(shape) + mpmath.loggamma(hits + 1) - mpmath.loggamma(shape + hits + 1)
    mass = 1 - _small_beta_tail(mpmath.mpf(hits + 1), shape, m)
    return mpmath.log(kappa) + log_beta + mpmath.log(mass) - hits * mpmath.log(m) - shape * mpmath.log(q)


def _small_beta_tail(a: mpmath.mpf, b: mpmath.mpf, x: mpmath.mpf) -> mpmath.mpf:
    """`P(Beta(a, b) <= x)` below the mean, by its continued fraction (Lentz's method)."""
    log_front = mpmath.loggamma(a + b) - mpmath.loggamma(a) - mpmath.loggamma(b)
    log_front += a * mpmath.log(x) + b * mpmath.log1p(-x)
    above, below = mpmath.mpf(1), 1 / (1 - (a + b) * x / (a + 1))
    value, n = below, 0
    while abs(above * below - 1) > mpmath.mpf(10) ** -45:
        n += 1
        even = n * (b - n) * x / ((a + 2 * n - 1) * (a + 2 * n))
        odd = -(a + n) * (a + b + n) * x / ((a + 2 * n) * (a + 2 * n + 1))
        for term in (even, odd):
            above, below = 1 + term / above, 1 / (1 + term * below)
            value *= above * below
    return mpmath.exp(log_front) * value / a


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
