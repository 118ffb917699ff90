"""The compiled noise is `certify.smoothing.lattice_gaussian`, bit for bit."""

from __future__ import annotations

import logging
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.smoothing.lattice_gaussian import RoundedGaussian
from export.build.noise_table import rounded_gaussian_tails
from serving.runtimes import noise_kernel

SIGMAS = (0.7, 3.0, 63.75, 255.0, 12_000.5)
KEY = bytes(range(16))


@cache
def law_of(sigma):
    """Made when it is first used: the table of a large sigma takes seconds."""
    return RoundedGaussian(sigma, rounded_gaussian_tails(sigma))


@pytest.fixture(params=["compiled", "numpy"])
def kernel(request, monkeypatch):
    """The kernel, and what serves where numba is absent."""
    if request.param == "numpy":
        monkeypatch.setattr(noise_kernel, "njit", None)
    elif noise_kernel.njit is None:
        pytest.skip("numba is absent")
    return noise_kernel


def drawn(law, key, start, rows, lattice):
    out = np.full((rows, lattice.size), -99, dtype=np.int32)
    noise_kernel.add_draws(law, [noise_kernel.Draws(key, start, rows, lattice)], out)
    return out


@pytest.mark.skipif(noise_kernel.njit is None, reason="numba is absent")
@settings(max_examples=150, deadline=None)
@given(
    sigma=st.sampled_from(SIGMAS),
    key=st.binary(min_size=16, max_size=16),
    start=st.integers(0, 2**40 - 1) | st.integers(2**32 - 40, 2**32 + 40) | st.integers(0, 100),
    rows=st.integers(1, 70),
    coordinates=st.integers(1, 100) | st.sampled_from([784, 3072]),
    data=st.data(),
)
def test_every_integer_is_that_of_the_reference(sigma, key, start, rows, coordinates, data):
    lattice = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 256, coordinates).astype(np.int32)
    expected = law_of(sigma).sample(key, start, start + rows, coordinates) + lattice
    assert np.array_equal(drawn(law_of(sigma), key, start, rows, lattice), expected)


@pytest.mark.parametrize("sigma", SIGMAS)
def test_a_million_integers(kernel, sigma):
    """Enough for hundreds of far tails, where one prefix holds many boundaries."""
    lattice = np.zeros(784, dtype=np.int32)
    for start in range(0, 1_280, 32):
        expected = law_of(sigma).sample(KEY, start, start + 32, 784)
        assert np.array_equal(drawn(law_of(sigma), KEY, start, 32, lattice), expected)


def test_the_far_tail_is_refined():
    """Prefix 0 and the last one hold every boundary beyond four sigma; force them by a table of the kernel's own."""
    law = law_of(63.75)
    tables = noise_kernel._tables(law)
    assert tables.codes[0] == tables.codes[-1] == -1
    known = tables.codes >= 0
    assert np.array_equal(tables.codes[known] - noise_kernel._OF_NOTHING, law._by_prefix[known])
    assert (law._by_prefix[~known] == -32768).all()
    assert np.array_equal(tables.edges, law._edges)
    assert tables.above[0] == 0
    assert np.sum(tables.edges < 2**48) > 300


def test_a_read_only_lattice_and_a_part_of_a_batch(kernel):
    """What Ray hands over, and where the engine wants it."""
    lattice = np.arange(20, dtype=np.int32)
    lattice.flags.writeable = False
    batch = np.zeros((10, 20), dtype=np.int32)
    kernel.add_draws(law_of(3.0), [kernel.Draws(KEY, 5, 4, lattice)], batch[2:6])
    assert np.array_equal(batch[2:6], law_of(3.0).sample(KEY, 5, 9, 20) + lattice)
    assert not batch[:2].any()
    assert not batch[6:].any()


@pytest.mark.parametrize(
    ("key", "start", "size", "rows"),
    [(b"short", 0, 4, 1), (KEY, -1, 4, 1), (KEY, 2**40, 4, 1), (KEY, 0, 5, 1), (KEY, 0, 4, 0)],
)
def test_what_cannot_be_drawn_is_refused(kernel, key, start, size, rows):
    def draw():
        parts = [kernel.Draws(key, start, rows, np.zeros(size, np.int32))]
        kernel.add_draws(law_of(3.0), parts, np.zeros((rows, 4), np.int32))

    with pytest.raises(ValueError, match="expected"):
        draw()


def test_a_batch_that_is_not_filled_is_refused(kernel):
    parts = [kernel.Draws(KEY, 0, 2, np.zeros(4, np.int32))] * 2
    with pytest.raises(ValueError, match="as many rows to fill as there are draws"):
        kernel.add_draws(law_of(3.0), parts, np.zeros((5, 4), np.int32))
    with pytest.raises(ValueError, match="as many rows to fill as there are draws"):
        kernel.add_draws(law_of(3.0), [], np.zeros((0, 4), np.int32))


def test_draws_of_several_streams_stand_one_after_another(kernel):
    parts = [kernel.Draws(bytes([place] * 16), 7 * place, place, np.full(20, place, np.int32)) for place in (3, 1, 40)]
    out = np.zeros((44, 20), dtype=np.int32)
    kernel.add_draws(law_of(3.0), parts, out)
    expected = [law_of(3.0).sample(p.key, p.start, p.start + p.rows, 20) + p.lattice for p in parts]
    assert np.array_equal(out, np.concatenate(expected))


def test_without_numba_a_warning_says_so(monkeypatch, caplog):
    import importlib
    import sys

    with monkeypatch.context() as absent, caplog.at_level(logging.WARNING):
        absent.setitem(sys.modules, "numba", None)
        importlib.reload(noise_kernel)
        assert "numba cannot be imported" in caplog.text
        assert np.array_equal(drawn(law_of(3.0), KEY, 0, 2, np.zeros(4, np.int32)), law_of(3.0).sample(KEY, 0, 2, 4))
    importlib.reload(noise_kernel)
