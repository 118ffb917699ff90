"""Laws of noise for any sigma, made quickly."""

from __future__ import annotations

import math

import numpy as np
from scipy.special import ndtr

from certify.smoothing.lattice_gaussian import RoundedGaussian


def law_of(sigma: float) -> RoundedGaussian:
    """Boundaries as good as double precision knows them: a law of its own, as good for a comparison as the exporter's."""
    tails = [math.floor(math.ldexp(float(ndtr(-(k + 0.5) / sigma)), 64)) for k in range(int(10 * sigma) + 2)]
    return RoundedGaussian(sigma, np.array([*filter(None, tails), 0], dtype=np.uint64))


def drawn(law, parts):
    """The noisy inputs of all parts by the definition, in 64 bits."""
    return np.concatenate(
        [law.sample(each.key, each.start, each.start + each.rows, each.lattice.size) + each.lattice for each in parts]
    )
