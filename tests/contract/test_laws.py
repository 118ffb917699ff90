"""What every law of smoothing has to keep, whatever it draws."""

from __future__ import annotations

import numpy as np
import pytest

from certify.smoothing.ball import Euclidean
from certify.smoothing.lattice_gaussian import LatticeGaussian, RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails

KEY = b"0123456789abcdef"


def gaussian():
    return LatticeGaussian(RoundedGaussian(3.0, rounded_gaussian_tails(3.0)), 0.75, Euclidean("steps", (0.25,)))


LAWS = {"gaussian": (gaussian, np.arange(12).reshape(3, 4))}


@pytest.fixture(params=LAWS, ids=LAWS)
def at(request):
    law, x = LAWS[request.param]
    return law().at(x)


def test_a_draw_depends_on_key_and_index_alone(at):
    drawn = at.sample(KEY, 0, 100)
    for start, stop in ((0, 1), (17, 40), (99, 100)):
        assert np.array_equal(at.sample(KEY, start, stop), drawn[start:stop])
    assert not np.array_equal(at.sample(KEY[::-1], 0, 100), drawn)
    assert drawn.dtype == np.int32
