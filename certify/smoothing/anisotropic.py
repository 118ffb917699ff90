"""Library offering: one certificate for noise of several scales (pixels and words, or features in different units).

Part i of the input (a modality, a feature, a block of coordinates) bears Gaussian noise `sigma_i` of its own, all drawn
together. Dividing each part by its sigma gives the isotropic theorem (Cohen et al. 2019) in the stretched space, so the
class with `p_A` above one half stays for every perturbation with

    sum_i |d_i|^2 / sigma_i^2 < Phi^-1(p_A)^2

tight as the theorem is. With equal sigmas it is the ordinary radius. What is returned as a length is valid below it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from certify.bounds import binomial


@dataclass(frozen=True, slots=True, kw_only=True)
class Ellipsoid:
    """The certified perturbations: `reach` is `Phi^-1(p_A)`, rounded down, and `sigmas` are in the units of their parts."""

    reach: float
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (self.sigmas and all(0 < sigma < math.inf for sigma in self.sigmas) and 0 <= self.reach < math.inf):
            raise ValueError(f"expected positive sigmas and a reach from 0; got {self.sigmas} and {self.reach}")

    def contains(self, lengths: Sequence[float]) -> bool:
        """Whether perturbations of these l2 lengths, one for each part, are certified. Exact in rational arithmetic."""
        if len(lengths) != len(self.sigmas) or not all(0 <= length < math.inf for length in lengths):
            raise ValueError(f"expected {len(self.sigmas)} lengths, finite and from 0; got {list(lengths)}")
        return self._square(lengths) < Fraction(self.reach) ** 2

    def alone(self, part: int) -> float:
        """The largest l2 length for one part while the others stay as they are."""
        return math.nextafter(self.sigmas[part] * self.reach, 0.0)

    def inner_l2(self) -> float:
        """The radius of the largest l2 ball over all parts together: that of the smallest sigma."""
        return math.nextafter(min(self.sigmas) * self.reach, 0.0)

    def inner_l_infinity(self, sizes: Sequence[int]) -> float:
        """How far every coordinate may move at once, part i having `sizes[i]` of them."""
        if len(sizes) != len(self.sigmas) or min(sizes) < 1:
            raise ValueError(f"expected {len(self.sigmas)} numbers of coordinates from 1; got {list(sizes)}")
        weight = math.fsum(size / sigma**2 for size, sigma in zip(sizes, self.sigmas, strict=True))

        def certified(step: float) -> bool:
            square = sum(size * (Fraction(step) / Fraction(s)) ** 2 for size, s in zip(sizes, self.sigmas, strict=True))
            return square <= Fraction(self.reach) ** 2

        return _lowered(self.reach / math.sqrt(weight), certified)

    def _square(self, lengths: Sequence[float]) -> Fraction:
        stretched = (Fraction(length) / Fraction(s) for length, s in zip(lengths, self.sigmas, strict=True))
        return sum((each**2 for each in stretched), Fraction(0))


def ellipsoid(complement: float, sigmas: Sequence[float]) -> Ellipsoid:
    """What a lower bound `1 - complement` certifies under noise of these scales; empty unless it lies above one half."""
    return Ellipsoid(reach=max(0.0, binomial.quantile_of_complement_below(complement)), sigmas=tuple(sigmas))


def _lowered(value: float, certified: Callable[[float], bool]) -> float:
    while not certified(value):
        value = math.nextafter(value, 0.0)
    return value
