"""Grids of any kind: sound, sixteen bits as 0 to 1, and a step for each column, whose radius is in shares of its scale."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.special import ndtr

from certify.smoothing.laws import rebuilt
from export import own_model
from export.build import columns
from export.build.grid import MOST_STEPS, GridError, declared
from export.build.noise_table import rounded_gaussian_tails
from export.bundle import load
from export.sources.source import SourceError
from serving.commands.check import faults
from serving.errors import InvalidInput
from serving.inputs.grid import on_grid
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import given
from tests.declared import spec
from tests.export.foreign import written

RNG = np.random.default_rng(8)
SOUND = RNG.integers(-(2**15), 2**15, (20, 4)).astype(np.int16)
SIXTEEN = (RNG.integers(0, 2**16, (20, 4)) / 65_535).astype(np.float32)
SCALES = np.array([1.0, 100.0, 0.01, 5.0])
TABLE = np.column_stack(
    [
        RNG.normal(3.0, 0.4, 300),
        RNG.integers(18, 90, 300),
        RNG.integers(0, 2, 300) / 100,
        RNG.exponential(2.0, 300),
    ]
)
LINEAR = "y = Gemm(x, w, b)"


def exported(tmp_path, samples, sigma, **more):
    more = {"faults": lambda folder: []} | more
    path = written(tmp_path, LINEAR)
    return own_model.export(path, name="parts", samples=samples, sigma=sigma, out=tmp_path / "models", **more)


@pytest.mark.parametrize(
    ("samples", "sigma", "grid", "steps"),
    [
        (SOUND, 8_192.0, (-32_768, 1, 32_767), 8_192),
        ((SOUND / 2**15).astype(np.float32), 0.25, (-1, 2**-15, 1 - 2**-15), 8_192),
        (SIXTEEN, 0.25, (0, 1 / 65_535, 1), 0.25 * 65_535),
        (SIXTEEN.astype(np.float64), 0.25, (0, 1 / 65_535, 1), 0.25 * 65_535),
        ((RNG.integers(0, 256, (9, 4)) / 255).astype(np.float32), 0.25, (0, 1 / 255, 1), 63.75),
    ],
)
def test_grids_of_sixteen_bits_and_fewer_are_seen_and_bear_a_sigma_of_a_quarter(samples, sigma, grid, steps):
    found = declared(samples, sigma)
    assert [float(each) for each in (found.low, found.step, found.high)] == pytest.approx(grid, rel=1e-12)
    assert (found.made_up, found.sigma_steps) == (False, pytest.approx(steps))
    assert Fraction(found.sigma_steps) * Fraction(found.length) >= Fraction(sigma)


def test_noise_that_needs_too_large_a_table_is_refused_in_one_line():
    with pytest.raises(GridError, match=rf"131072 steps of the grid, and noise of at most {MOST_STEPS:,} .*--step"):
        declared(SOUND, 131_072.0)
    with pytest.raises(GridError, match="share of each column's range"):
        columns.found_in(TABLE, 2.0)


def test_a_table_of_a_hundred_thousand_entries_is_exact():
    """Every 331st entry, and the last ones, by the error function itself at sixty digits."""
    import mpmath

    sigma, tails = 11_000.5, rounded_gaussian_tails(11_000.5).tolist()
    with mpmath.workdps(60):
        for k in [*range(0, len(tails), 331), *range(len(tails) - 5, len(tails))]:
            exact = mpmath.ncdf(-(mpmath.mpf(k) + mpmath.mpf("0.5")) / mpmath.mpf(sigma)) * 2**64
            assert tails[k] <= exact < tails[k] + 1


def test_floats_of_32_bits_lie_on_a_grid_of_sixteen_bits_and_the_answer_says_how_far_off():
    given_grid = spec((4,), low=0.0, step=1 / 65_535, high=1.0)
    rows, notes = on_grid(SIXTEEN, given_grid, 20, snap=False)
    assert np.array_equal(np.stack(rows), np.rint(SIXTEEN.astype(np.float64) * 65_535))
    assert all(note is None or (not note.snapped and note.snap_distance < 2.0**-23) for note in notes)
    with pytest.raises(InvalidInput, match="row 0: values of 'x' must lie on the grid"):
        on_grid(SIXTEEN + np.float32(0.4 / 65_535), given_grid, 20, snap=False)


def test_sound_is_signed_on_the_wire_and_counted_from_zero_on_the_grid(tmp_path):
    bundle = exported(tmp_path, SOUND, 8_192.0, rate=8_000, faults=faults)
    declared_input = bundle.manifest.input
    assert (declared_input.kind.kind, declared_input.kind.rate, declared_input.zero) == ("waveform", 8_000, 2**15)
    for values in (SOUND, SOUND.astype(np.int64), SOUND.astype(np.float32)):
        rows, _ = on_grid(values, declared_input, 20, snap=False)
        assert np.array_equal(np.stack(rows), SOUND.astype(np.int32) + 2**15)
    for wrong in (np.full((1, 4), 40_000, np.int32), np.full((1, 4), 2**64 - 1, np.uint64)):
        with pytest.raises(InvalidInput, match="row 0: signed samples must lie in -32768 to 32767"):
            on_grid(wrong, declared_input, 20, snap=False)
    with pytest.raises(GridError, match="--rate: sound is one channel of signed samples of 16 bits"):
        exported(tmp_path, TABLE, 0.5, rate=8_000)


def test_each_column_has_a_step_on_which_its_own_values_lie():
    found = columns.found_in(TABLE, 0.1)
    for column in (1, 2):
        steps = (TABLE[:, column] - found.low[column]) / found.step[column]
        assert np.abs(steps - np.rint(steps)).max() < 1e-4
    spread = np.percentile(TABLE, 99, axis=0) - np.percentile(TABLE, 1, axis=0)
    np.testing.assert_allclose(found.step / found.length, spread, rtol=0.04)
    beyond = np.stack([2 * TABLE.max(axis=0) - TABLE.min(axis=0), 2 * TABLE.min(axis=0) - TABLE.max(axis=0)])
    assert found.integers(beyond).shape == (2, 4)  # rows that come later may lie farther out
    far = np.append(TABLE[:, 3], 1e5)
    assert columns.found_in(np.column_stack([far, far]), 0.1).tops.max() < 2**24
    assert np.all((found.integers(TABLE) >= 0) & (found.integers(TABLE) <= found.tops))
    lone = columns.found_in(np.column_stack([TABLE[:, 0], np.full(300, 7.0), np.zeros(300)]), 0.1)
    assert np.all(lone.tops >= 1)


@pytest.mark.parametrize("way", ["found", "given"])
def test_the_radius_of_columns_is_a_distance_in_units_of_each_scale(tmp_path, way):
    """A half-space in the callers' units, whose smoothed probability is known exactly if the noise is what is claimed.

    With noise of sigma times its scale in every column, the vote's share is Phi of the distance to the plane in scaled
    units over sigma: the certificate of the exact probability reaches exactly to the plane, and no farther.
    """
    sigma = 0.1 if way == "found" else 6_000.0
    chosen = {"columns": True} if way == "found" else {"step": tuple(SCALES / 60_000)}
    bundle = exported(tmp_path, TABLE, sigma, faults=faults, **chosen)
    manifest = load(tmp_path / "models" / "parts" / "1").manifest
    grid, law = manifest.input, bundle.law
    scales = grid.step / grid.length
    weights = np.array([4.0, -3.0, 0.5, -2.0, 5.0, 1.0, 1.5, -4.0, 3.0, -3.0, 2.0, -1.0]).reshape(4, 3)
    shifts = np.array([0.1, 0.2, -0.3])
    row = on_grid(TABLE[:1], grid, 1, snap=True)[0][0]
    value = grid.low + grid.step * row
    runtime = OnnxRuntime(bundle)
    drawn = law.at(row).sample(bytes(range(16)), 0, 6_000)
    votes = runtime.noisy(given(drawn))[0]
    logits = (grid.low + grid.step * drawn) @ weights + shifts
    settled = np.sort(logits, axis=1)[:, -1] - np.sort(logits, axis=1)[:, -2] > 1e-3
    assert np.array_equal(votes[settled], logits.argmax(axis=1)[settled])
    plane, shift = weights[:, 0] - weights[:, 1], shifts[0] - shifts[1]
    length = np.sqrt(np.sum((plane * scales) ** 2))
    distance = (value @ plane + shift) / length
    share = np.mean(logits[:, 0] > logits[:, 1])
    exact = float(ndtr(distance / sigma))
    assert abs(share - exact) < 5 * math.sqrt(exact * (1 - exact) / 6_000) + 1e-3
    guarantee = law.at(row).guarantee
    reached = guarantee.radius(float(ndtr(-abs(distance) / sigma))).size
    assert reached == pytest.approx(abs(distance), rel=1e-6)
    assert reached <= abs(distance) * (1 + 1e-12)
    assert dict(guarantee.parameters) == {"sigma": pytest.approx(sigma), "norm": "scaled_l2"}
    assert rebuilt("gaussian", guarantee.parameters, guarantee.charge) == guarantee


def test_a_ball_of_columns_measures_each_in_its_own_scale(tmp_path):
    bundle = exported(tmp_path, TABLE, 0.1, columns=True)
    grid, guarantee = bundle.manifest.input, bundle.law.at(np.zeros(4, np.int32)).guarantee
    ball = guarantee.radius(float(ndtr(-1.0)))
    for column in range(4):
        moved = np.zeros(4, np.int32)
        moved[column] = math.floor(0.1 / grid.length)
        assert ball.contains(np.zeros(4, np.int32), moved)
        moved[column] += 1
        assert not ball.contains(np.zeros(4, np.int32), moved)
        assert moved[column] * grid.step[column] == pytest.approx(0.1 * grid.step[column] / grid.length, rel=1e-3)


def test_columns_are_named_where_a_value_lies_beyond_them():
    found = columns.found_in(TABLE, 0.1)
    numbers = {name: tuple(getattr(found, name).tolist()) for name in ("low", "step", "high")}
    grid = spec((4,), **numbers, step_length=found.length)
    wrong = TABLE[:3].copy()
    wrong[2, 1] = 1e6
    with pytest.raises(InvalidInput, match=r"row 2, column 1: values of 'x' must lie in"):
        on_grid(wrong, grid, 3, snap=True)
    beyond = np.zeros((1, 4), np.int32)
    beyond[0, 3] = grid.tops[3] + 1
    with pytest.raises(InvalidInput, match="row 0, column 3: grid integers"):
        on_grid(beyond, grid, 1, snap=False)
    rows, notes = on_grid(TABLE[:2], grid, 2, snap=True)
    off = (TABLE[0] - (grid.low + grid.step * rows[0])) / (grid.step / grid.length)
    assert notes[0].snap_distance == pytest.approx(np.sqrt(np.sum(off**2)), rel=1e-6)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"step": (1.0, 1.0)}, "--step: expected a number above 0 for each of 4 columns; got 2"),
        ({"step": (1.0, 1.0, 0.0, 1.0)}, "--step: expected"),
        ({"columns": True, "step": 0.1}, "leave --step out"),
        ({"low": (0.0, 0.0, 0.0, 0.0)}, "--low and --high: one for each column goes with --columns"),
        ({"columns": True, "low": (0.0, 0.0)}, "expected one number, or one for each of 4 columns"),
        ({"columns": True, "low": 50.0}, "beyond the grid|steps of"),
        ({"step": (1e-9, 1.0, 1.0, 1.0), "sigma": 64.0}, "column 0: .* steps of 1e-09; expected 1 to"),
    ],
)
def test_what_is_said_of_columns_is_refused_by_its_flag(tmp_path, more, said):
    with pytest.raises((GridError, SourceError), match=said):
        exported(tmp_path, TABLE, more.pop("sigma", 0.1), **more)


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        ({"step": (1.0, 1.0), "high": (9.0, 9.0)}, "step_length goes with"),
        ({"step_length": 1.0}, "step_length goes with"),
        ({"low": (0.0, 0.0)}, "one number for all, or one for each column"),
        (
            {"step": (1.0, 1.0), "low": (0.0, 0.0, 0.0), "step_length": 1.0},
            "one number for all, or one for each column",
        ),
        ({"step": (1.0, 1.0), "high": (9.0, 9.5), "step_length": 1.0}, "whole number of steps"),
        ({"step": (1.0, 1.0), "high": (9.0, 9.0), "step_length": 1.0}, "steps for 2 columns, and a row has the shape"),
        ({"step": (1.0, -1.0), "step_length": 1.0}, "step"),
    ],
)
def test_a_grid_of_columns_that_contradicts_itself_is_refused(grid, said):
    with pytest.raises(ValueError, match=said):
        spec((3,), **grid)
