"""Radii that Cohen, Rosenfeld and Kolter (2019) released with their code, each of 100,000 draws.

They are the largest of two of their logs (CIFAR-10, ResNet-110), in the three digits printed there. So close to all hits
neighbouring counts lie farther apart than that, and another level would not explain them.
"""

from __future__ import annotations

import pytest

from certify.bounds import binomial

DRAWS = 100_000
LOGGED = {
    # sigma: (level, radii)
    0.12: (0.001, "0.457 0.449 0.443 0.438 0.434 0.431 0.428 0.425 0.423 0.421 0.419 0.417 0.415 0.412 0.41 0.409"),
    0.25: (0.01, "0.978 0.955 0.941 0.929 0.92 0.906 0.894 0.889 0.88 0.873 0.866 0.863 0.859 0.849 0.844 0.831 0.824"),
}


def radii(sigma, level, misses=range(100)):
    """What the bound allows for each number of misses, printed as the logs are."""
    complements = (binomial.clopper_pearson_complement(DRAWS, DRAWS - each, level) for each in misses)
    return {f"{sigma * binomial.quantile_of_complement_below(complement):.3}" for complement in complements}


@pytest.mark.parametrize("sigma", LOGGED)
def test_every_logged_radius_is_that_of_a_whole_number_of_hits(sigma):
    level, logged = LOGGED[sigma]
    assert not set(logged.split()) - radii(sigma, level)


@pytest.mark.parametrize("sigma", LOGGED)
def test_another_level_does_not_explain_them(sigma):
    level, logged = LOGGED[sigma]
    assert set(logged.split()) - radii(sigma, 0.011 - level)
