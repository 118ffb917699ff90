from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import kstest

from certify.ood.conformal import pac_rank
from certify.ood.verdict import lower_median
from certify.smoothing.laws import gaussian_on_grid
from export.build.calibrate import CalibrationError, calibrate, golden_outputs
from export.build.noise_table import rounded_gaussian_tails
from export.build.passes import draw_rows, noisy_lattice, row_key

NOISE = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))


def first_coordinate(lattice):
    """A half-space that votes for and scores by the first coordinate, as the oracle's graph does."""
    return (lattice[:, 0] > 127).astype(np.int64), lattice[:, 0].astype(np.float32)


def clean(lattice):
    return np.stack([lattice[:, 0] <= 127, lattice[:, 0] > 127], axis=1).astype(np.float32)


def inputs(count, value=None):
    generator = np.random.default_rng(0)
    return (
        np.concatenate([generator.integers(0, 256, (count, 1)), np.zeros((count, 3), int)], axis=1)
        if value is None
        else (np.full((count, 4), value))
    )


def test_draws_are_those_of_the_served_law_keyed_by_row():
    images = inputs(5)
    drawn = draw_rows(images, NOISE, first_coordinate, "some purpose", 40, quiet=True)
    for row in range(5):
        lattice = NOISE.at(images[row]).sample(row_key("some purpose", row), 0, 40)
        assert np.array_equal(drawn.scores[row], lattice[:, 0].astype(np.float32))
    assert np.array_equal(drawn.counts(2).sum(axis=1), [40] * 5)
    assert drawn.median_scores()[2] == lower_median(drawn.scores[2])


@pytest.mark.parametrize("draws", [1, 7, 32, 300])
def test_more_draws_begin_with_fewer(draws):
    images = inputs(9)
    many = draw_rows(images, NOISE, first_coordinate, "p", 300, quiet=True)
    few = draw_rows(images, NOISE, first_coordinate, "p", draws, quiet=True)
    assert np.array_equal(few.votes, many.votes[:, :draws])


def test_equal_rows_and_other_purposes_are_drawn_independently():
    same = draw_rows(inputs(400, 100), NOISE, first_coordinate, "a", 1, quiet=True).scores[:, 0]
    other = draw_rows(inputs(400, 100), NOISE, first_coordinate, "b", 1, quiet=True).scores[:, 0]
    assert len(np.unique(same)) > 30
    assert abs(np.corrcoef(same, other)[0, 1]) < 0.25
    assert kstest((same - 100) / 16, "norm").pvalue > 1e-6


def test_calibration_scores_and_threshold():
    images = inputs(400)
    labels = (images[:, 0] > 127).astype(int)
    done = calibrate(images, labels, NOISE, first_coordinate, target_tpr=0.95, eta=0.01, least_accuracy=0.8, quiet=True)
    drawn = draw_rows(images, NOISE, first_coordinate, "calibration", 32, quiet=True)
    assert np.array_equal(done.scores, [lower_median(row) for row in drawn.scores])
    assert done.threshold == np.sort(done.scores)[pac_rank(400, 0.05, 0.01) - 1]
    assert done.accuracy == pytest.approx(np.mean(drawn.votes == labels[:, None]))


def test_a_graph_that_does_not_do_its_task_is_refused():
    images = inputs(400)
    with pytest.raises(CalibrationError, match="expected at least 80.0%"):
        calibrate(
            images,
            images[:, 0] < 127,
            NOISE,
            first_coordinate,
            target_tpr=0.95,
            eta=0.01,
            least_accuracy=0.8,
            quiet=True,
        )


def test_scores_that_are_not_finite_are_refused():
    def broken(lattice):
        return first_coordinate(lattice)[0], np.full(len(lattice), np.inf, np.float32)

    with pytest.raises(CalibrationError, match="100 calibration scores are not finite"):
        calibrate(inputs(100), np.zeros(100), NOISE, broken, target_tpr=0.95, eta=0.01, least_accuracy=0.0, quiet=True)


def test_golden_rows_lie_away_from_ties_and_cover_both_votes():
    golden = golden_outputs(inputs(64), NOISE, first_coordinate, clean, rows=12)
    assert np.abs(golden.noisy_input[:, 0] - 127.5).min() > 2
    assert sorted(np.bincount(golden.votes).tolist()) == [6, 6]
    assert np.array_equal(golden.votes, first_coordinate(golden.noisy_input)[0])
    assert np.array_equal(golden.base_probabilities, clean(golden.base_input))
    assert golden.noisy_input.dtype == np.int32


def test_no_golden_row_is_taken_at_a_tie():
    with pytest.raises(CalibrationError, match="steady vote"):
        golden_outputs(inputs(3, 127), NOISE, alternating, clean)


def alternating(lattice):
    return lattice[:, 0].astype(np.int64) % 2, lattice[:, 0].astype(np.float32)


def test_lattices_are_not_clipped():
    lattice = noisy_lattice(inputs(1, 0)[0], NOISE, row_key("p", 0), 0, 100)
    assert lattice.min() < 0
    assert lattice.dtype == np.int32
