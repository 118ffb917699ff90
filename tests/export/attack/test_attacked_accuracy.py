"""The search against a network without noise: it finds what there is to find, and nothing outside its ball."""

from __future__ import annotations

import numpy as np
import pytest

from export import data
from export.attack.accuracy import attacked, found
from export.attack.ball import GridBall
from tests.half_space import CUT, write_half_space


def base(lattice):
    """A half-space of the first coordinate, surer the farther from its cut."""
    logits = np.stack([CUT - lattice[:, 0], lattice[:, 0] - CUT], axis=1) * 0.05
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


def written(folder, firsts, labels):
    inputs = np.stack([np.array([first, 20, 30, 40]) for first in firsts])
    np.savez(folder / "d.npz", x=inputs, y=np.array(labels))
    return data.open(folder / "d.npz")


def test_rows_nearer_than_the_radius_fall_and_all_others_stand(bundle, tmp_path):
    firsts = [100, 110, 120, 126, 129, 135, 145, 160, 200, 90]
    labels = [0, 0, 0, 0, 1, 1, 1, 1, 1, 1]  # the last is wrong as it is
    result = attacked(bundle, base, written(tmp_path, firsts, labels), 10, 20.0, quiet=True)
    stand = sum(abs(first - CUT - (label == 0)) > 20 for first, label in zip(firsts[:-1], labels[:-1], strict=True))
    assert (result.rows, result.clean) == (10, 0.9)
    assert result.accuracy.share == stand / 10


def test_with_no_radius_nothing_falls(bundle, tmp_path):
    result = attacked(bundle, base, written(tmp_path, [126, 129], [0, 1]), 2, 0.0, quiet=True)
    assert result.accuracy.share == result.clean == 1.0


def test_some_of_the_rows_are_evenly_spaced(bundle, tmp_path):
    dataset = written(tmp_path, np.arange(20, 120, 2), [0] * 50)
    assert attacked(bundle, base, dataset, 5, 0.0, quiet=True).rows == 5


def test_what_is_found_lies_in_the_ball_and_is_labelled_otherwise_also_by_patches_alone():
    """A picture without any other one to walk towards: a corner has to be pushed over a limit."""

    def by_corner(lattice):
        over = lattice[:, 0, :3, :3].mean(axis=(1, 2)) / 255
        return np.stack([1 - over, over], axis=1).astype(np.float32)

    centre = np.full((1, 9, 9), 110)
    ball = GridBall.of(centre, 80.0, 1.0, 255)
    none = np.empty((0, 1, 9, 9), np.int32)
    point = found(ball, 0, by_corner, none, np.random.default_rng(0))
    assert point is not None
    assert ball.holds(point)
    assert by_corner(point[None])[0].argmax() == 1
    assert found(GridBall.of(centre, 40.0, 1.0, 255), 0, by_corner, none, np.random.default_rng(0)) is None
