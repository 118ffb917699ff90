"""The procedures under Gaussian noise, for tests that think in sigma and radii."""

from __future__ import annotations

from certify.claims.procedures import PROCEDURES, Best, Fixed, Precision, RunningProcedure, Target, made
from certify.smoothing.ball import Ball, Euclidean
from certify.smoothing.gaussian import Gaussian
from certify.smoothing.lattice_gaussian import LatticeGaussian, RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails


def ball(radius):
    return Ball((Euclidean(),), (radius,))


def radius(bound, sigma):
    """What a bound of one or of two probabilities reaches under noise `sigma`."""
    law = Gaussian(sigma)
    return (law.lead(bound.complement, bound.p_b, 0.0) if hasattr(bound, "p_b") else law.radius(bound.complement)).size


def target_run(terms, max_draws, target):
    return RunningProcedure(Target(ball(target)), terms, max_draws)


def best_run(terms, max_draws):
    return RunningProcedure(Best(), terms, max_draws)


def precision_run(terms, max_draws, tolerance):
    return RunningProcedure(Precision(tolerance), terms, max_draws)


def fixed_run(terms, draws):
    return RunningProcedure(Fixed(draws), terms, draws)


def asked(mode, target_radius=8.0, tolerance=4.0, draws=1_000):
    """What a request of this name asks for."""
    return made(PROCEDURES[mode], ball(target_radius), tolerance, draws)


def law_of_steps(sigma):
    """Rounded Gaussian noise on a grid of steps 1."""
    return LatticeGaussian(RoundedGaussian(sigma, rounded_gaussian_tails(sigma)), sigma, Euclidean())
