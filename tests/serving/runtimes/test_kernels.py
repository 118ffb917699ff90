"""The kernels of a device, built for the host from the same source, against the definition of the noise: bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.runtimes import device_batch
from serving.runtimes.noise_kernel import Draws
from tests.serving.runtimes import host_kernels
from tests.serving.runtimes.laws import drawn, law_of

KEY = bytes(range(16))
OPEN = -32768
SIGMAS = (0.06, 0.3, 3.0, 63.75, 255.0, 3_500.0)
# Coordinates and draws. 16 coordinates are a block of the generator, 2,048 a tile of the grid, 150,528 224x224x3 pixels.
SHAPES = (
    (1, 100_000),
    (15, 20_000),
    (16, 1),
    (17, 20_000),
    (784, 800),
    (2_047, 40),
    (2_048, 40),
    (2_049, 40),
    (150_528, 3),
)


LAWS = {sigma: law_of(sigma) for sigma in SIGMAS}


@pytest.mark.parametrize(("coordinates", "draws"), SHAPES)
@pytest.mark.parametrize("sigma", SIGMAS)
def test_every_value_is_that_of_the_definition(sigma, coordinates, draws):
    law, lattice = LAWS[sigma], np.random.default_rng(3).integers(0, 256, coordinates).astype(np.int32)
    for start in range(0, draws, 50_000):
        part = Draws(KEY, 7 + start, min(50_000, draws - start), lattice)
        assert np.array_equal(host_kernels.add_noise(law, [part], part.rows), drawn(law, [part]))


def test_these_are_ten_million_values_and_every_way_to_a_value_is_among_them():
    assert len(SIGMAS) * sum(coordinates * draws for coordinates, draws in SHAPES) > 10_000_000
    tables = {sigma: device_batch.NoiseTables.of(law) for sigma, law in LAWS.items()}
    for law, each in zip(LAWS.values(), tables.values(), strict=True):
        assert np.array_equal(each.values, law._by_prefix)
        assert np.array_equal(each.edges, law._edges)
    open_share = {sigma: (each.values == OPEN).mean() for sigma, each in tables.items()}
    assert open_share[0.06] < 1e-4, "next to nothing is open where sigma is small"
    assert open_share[3_500.0] > 0.2, "and much where it is large"
    assert np.diff(tables[3_500.0].above.astype(int)).max() > 1_000, "the far tails share one prefix"


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("round < 10", "round < 9"),
        ("block + 1", "block"),
        ("refining[number % 4] >> 16", "refining[number % 4] >> 15"),
        ("number / 4, 1, refining", "number / 4, 0, refining"),
        ("edges[middle] <= uniform", "edges[middle] < uniform + 2000000000000000"),
        ("row.draw * coordinates + start + j", "(unsigned)row.draw * coordinates + start + j"),
        ("(coordinates + 15) / 16", "coordinates / 16"),
        ("0x9E3779B97F4A7C15ull", "0x9E3779B97F4A7C17ull"),
    ],
)
def test_a_kernel_that_is_wrong_somewhere_is_found(right, wrong, tmp_path, monkeypatch):
    source = device_batch.SOURCE.read_text()
    assert source.count(right) == 1
    (tmp_path / "wrong.cu").write_text(source.replace(right, wrong))
    monkeypatch.setattr(device_batch, "SOURCE", tmp_path / "wrong.cu")
    wrong_kernels = host_kernels.library.__wrapped__(0)
    monkeypatch.setattr(host_kernels, "library", lambda element: wrong_kernels)
    part = Draws(KEY, 2**33, 200, np.zeros(785, np.int32))
    assert not np.array_equal(host_kernels.add_noise(LAWS[255.0], [part], 200), drawn(LAWS[255.0], [part]))


@settings(max_examples=100, deadline=None)
@given(data=st.data(), sigma=st.sampled_from(SIGMAS), coordinates=st.integers(1, 100) | st.sampled_from([784, 2_049]))
def test_any_parts_of_any_streams_stand_one_after_another_in_one_batch(data, sigma, coordinates):
    rng, law = np.random.default_rng(data.draw(st.integers(0, 9))), LAWS[sigma]
    starts = st.integers(0, 2**40 - 20) | st.integers(2**32 - 20, 2**32 + 20) | st.integers(0, 100)
    parts = [
        Draws(
            data.draw(st.binary(min_size=16, max_size=16)),
            data.draw(starts),
            data.draw(st.integers(1, 9)),
            rng.integers(-300, 300, coordinates).astype(np.int32),
        )
        for _ in range(data.draw(st.integers(1, 5)))
    ]
    filled, spare = sum(part.rows for part in parts), data.draw(st.integers(0, 3))
    out = host_kernels.add_noise(law, parts, filled + spare)
    assert np.array_equal(out[:filled], drawn(law, parts))
    assert not out[filled:].any(), "rows of nobody are zeros"


@pytest.mark.parametrize(
    ("kind", "sigma", "low", "high"), [(np.int16, 3_500.0, -900, 900), (np.float16, 63.75, -900, 900)]
)
def test_smaller_types_hold_the_same_integers_up_to_their_limits(kind, sigma, low, high):
    law = LAWS[sigma]
    lattice = np.linspace(low, high, 3_000).astype(np.int32)
    parts = [Draws(KEY, 2**33 + 1, 30, lattice), Draws(KEY[::-1], 5, 20, lattice[::-1])]
    out = host_kernels.add_noise(law, parts, 50, kind)
    assert np.array_equal(out.astype(np.int64), drawn(law, parts))


def test_every_integer_that_fp16_holds_is_written_as_it_is():
    law = LAWS[0.06]
    lattice = np.arange(-2_047, 2_048, dtype=np.int32)
    out = host_kernels.add_noise(law, [Draws(KEY, 0, 2, lattice)], 2, np.float16)
    assert np.array_equal(out.astype(np.int64), drawn(law, [Draws(KEY, 0, 2, lattice)]))


@pytest.mark.parametrize(
    ("kind", "high", "fits"),
    [(np.int32, 255, True), (np.float16, 255, False), (np.float32, 255, False), ("u1", 1, False)],
)
def test_a_type_that_cannot_hold_what_may_be_drawn_is_refused(kind, high, fits):
    law = LAWS[3_500.0]
    if fits:
        assert device_batch.element_kind(law, 0, high, kind) == 0
    else:
        with pytest.raises(device_batch.DeviceBatchError, match="export"):
            device_batch.element_kind(law, 0, high, kind)


@pytest.mark.parametrize(("kind", "number", "limit"), [(np.int16, 1, 32_767), (np.float16, 2, 2_048)])
def test_the_limit_of_a_type_is_its_last_exact_integer(kind, number, limit):
    room = limit - LAWS[63.75].largest
    assert device_batch.element_kind(LAWS[63.75], -room, room, kind) == number
    for low, high in ((-room - 1, 0), (0, room + 1)):
        with pytest.raises(device_batch.DeviceBatchError, match=f"exact up to {limit}"):
            device_batch.element_kind(LAWS[63.75], low, high, kind)


@pytest.mark.parametrize(("rows", "coordinates"), [(0, 4), (65_536, 4), (1, 0), (1, 2**24 + 1)])
def test_a_batch_beyond_the_grid_is_refused(rows, coordinates):
    with pytest.raises(device_batch.DeviceBatchError, match="expected 1 to"):
        device_batch.grid(rows, coordinates)


@pytest.mark.parametrize("draws", [[], [5]])
def test_a_batch_is_neither_empty_nor_overfull(draws):
    parts = [Draws(KEY, 0, rows, np.zeros(3, np.int32)) for rows in draws]
    with pytest.raises(device_batch.DeviceBatchError, match="1 to 4 draws"):
        device_batch.check(parts, 4, 3)


def gathered(votes, scores):
    results = np.full(len(votes), 9, device_batch.RESULT)
    host_kernels.launch(
        0,
        "gather_results",
        device_batch.results_grid(len(votes)),
        np.ascontiguousarray(votes, np.int64).ctypes.data,
        np.ascontiguousarray(scores, np.float32).ctypes.data,
        host_kernels.ctypes.c_uint(len(votes)),
        results.ctypes.data,
    )
    return results


@pytest.mark.parametrize("rows", [1, 127, 128, 129, 1_000])
def test_votes_and_scores_leave_in_one_buffer_bit_for_bit(rows):
    rng = np.random.default_rng(rows)
    votes, scores = rng.integers(0, 11, rows), rng.standard_normal(rows).astype(np.float32)
    scores[::7], scores[::11], scores[::13] = np.inf, -0.0, np.float32(1e-45)
    found_votes, found_scores = device_batch.read_results(gathered(votes, scores), rows, 10)
    assert np.array_equal(found_votes, votes)
    assert np.array_equal(found_scores.view(np.uint32), scores.view(np.uint32))
    assert len(device_batch.read_results(gathered(votes, scores), rows - rows // 2, 10)[0]) == rows - rows // 2


@pytest.mark.parametrize("vote", [-1, 11, 2**31, 2**32, 2**32 + 3, -(2**63), 2**63 - 1])
def test_what_is_no_vote_is_an_error_and_never_another_vote(vote):
    results = gathered([3, vote, 3], [0.0, 0.0, 0.0])
    with pytest.raises(device_batch.DeviceBatchError, match="outside 0 to 10"):
        device_batch.read_results(results, 3, 10)
    device_batch.read_results(results, 1, 10)


@pytest.mark.parametrize(("kind", "reach"), [(np.int32, 2**31 - 1), (np.int16, 32_767), (np.float16, 2_048)])
def test_rows_as_they_are_stand_among_draws_and_are_not_touched(kind, reach):
    law, rng = LAWS[3.0], np.random.default_rng(1)
    lattice = rng.integers(0, 256, 2_050).astype(np.int32)
    rows = rng.integers(-reach, reach, (5, 2_050), endpoint=True).astype(np.int32)
    rows[0, :2] = reach, -reach
    draws = [Draws(KEY, 2**35, 3, lattice), Draws(KEY, 1, 2, lattice[::-1])]
    parts = [device_batch.AsTheyAre(rows[:2]), draws[0], device_batch.AsTheyAre(rows[2:]), draws[1]]
    out = host_kernels.add_noise(law, parts, 11, kind).astype(np.int64)
    noisy = drawn(law, draws)
    assert np.array_equal(out, np.concatenate([rows[:2], noisy[:3], rows[2:], noisy[3:], np.zeros((1, 2_050))]))
    assert device_batch.fits(law, parts, np.dtype(kind))


@pytest.mark.parametrize(("kind", "limit"), [(np.int16, 32_767), (np.float16, 2_048)])
def test_rows_and_draws_beyond_what_a_type_holds_are_told(kind, limit):
    law, around = LAWS[63.75], np.full(20, limit - LAWS[63.75].largest, np.int32)
    for sign in (1, -1):
        assert device_batch.fits(law, [Draws(KEY, 0, 1, sign * around)], np.dtype(kind))
        assert not device_batch.fits(law, [Draws(KEY, 0, 1, sign * (around + 1))], np.dtype(kind))
        assert not device_batch.fits(law, [device_batch.AsTheyAre(np.full((2, 3), sign * (limit + 1)))], np.dtype(kind))
