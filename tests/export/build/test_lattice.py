from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from export import data
from export.build.lattice import label_places, lattices, with_places
from tests.declared import spec

GENERATOR = np.random.default_rng(3)


def stored(tmp_path, inputs, labels=None):
    np.savez(tmp_path / "d.npz", x=inputs, y=np.zeros(len(inputs), int) if labels is None else labels)
    return data.open(tmp_path / "d.npz")


def rows_of(dataset, declared):
    return np.concatenate([lattice for lattice, _ in lattices(dataset, declared, 2)])


PIXELS = GENERATOR.integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("inputs", "declared", "expected"),
    [
        (PIXELS, spec((4, 3, 3), "HWC"), PIXELS),
        (PIXELS, spec((3, 4, 3), "CHW"), PIXELS.transpose(0, 3, 1, 2)),
        (PIXELS.transpose(0, 3, 1, 2).copy(), spec((3, 4, 3), "CHW"), PIXELS.transpose(0, 3, 1, 2)),
        (PIXELS[..., 0].copy(), spec((1, 4, 3), "CHW"), PIXELS[:, None, :, :, 0]),
        (PIXELS[..., 0].copy(), spec((4, 3, 1), "HWC"), PIXELS[..., :1]),
        (PIXELS.reshape(5, -1), spec((36,)), PIXELS.reshape(5, -1)),
        (PIXELS[..., 0].reshape(5, -1), spec((1, 4, 3), "CHW"), PIXELS[:, None, :, :, 0]),
        (PIXELS.astype(np.float32) / 255, spec((4, 3, 3), "HWC", 0.0, 1 / 255, 1.0), PIXELS),
        (np.array([[-1.0, 0.26], [1.0, -0.24]]), spec((2,), low=-1.0, step=0.5, high=1.0), [[0, 3], [4, 2]]),
    ],
)
def test_rows_become_grid_integers_in_the_models_shape(tmp_path, inputs, declared, expected):
    found = rows_of(stored(tmp_path, inputs), declared)
    assert found.dtype == np.int32
    assert np.array_equal(found, expected)


def test_pictures_of_a_folder_fit_either_layout(tmp_path):
    from PIL import Image

    (tmp_path / "cat").mkdir()
    Image.fromarray(PIXELS[0, :3]).save(tmp_path / "cat" / "a.png")  # three by three pixels of three channels
    folder = data.open(tmp_path)
    assert np.array_equal(rows_of(folder, spec((3, 3, 3), "HWC"))[0], PIXELS[0, :3])
    assert np.array_equal(rows_of(folder, spec((3, 3, 3), "CHW"))[0], PIXELS[0, :3].transpose(2, 0, 1))


@pytest.mark.parametrize(
    ("inputs", "declared", "words"),
    [
        (PIXELS, spec((3, 4, 4), "CHW"), "shape \\[4, 3, 3\\]; the model takes \\[3, 4, 4\\] \\(CHW\\)"),
        (np.ones((3, 2)), spec((3,)), "shape \\[2\\]; the model takes \\[3\\]"),
        (np.array([[1], [0], [-1]]), spec((1,)), "row 2: -1 is outside .* grid integers from 0 to 255"),
        (np.array([[1.0], [2.5]]), spec((1,), high=2.0), "row 1: 2.5 is outside .* from 0 to 2; leave the row out"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_row(tmp_path, inputs, declared, words):
    with pytest.raises(data.DataError, match=words):
        rows_of(stored(tmp_path, inputs), declared)


def test_labels_are_matched_by_name_or_else_by_number(tmp_path):
    named = stored(tmp_path, np.ones((3, 1)), np.array(["dog", "cat", "dog"]))
    places = label_places(named, ("bird", "cat", "dog"))
    (batch,) = named.batches(9)
    assert with_places(batch.labels, places).tolist() == [2, 1, 2]
    numbered = stored(tmp_path, np.ones((3, 1)), np.array([2, 0, 1]))
    assert label_places(numbered, ("bird", "cat", "dog")).tolist() == [0, 1, 2]
    assert label_places(numbered, ("2", "1", "0")).tolist() == [2, 1, 0]  # names that are numbers are names
    bare = data.open(tmp_path / "d.npz", labelled=False)
    assert with_places(next(bare.batches(9)).labels, label_places(bare, ("a", "b"))).tolist() == [-1, -1, -1]


def test_a_label_that_the_model_has_not_is_named(tmp_path):
    named = stored(tmp_path, np.ones((2, 1)), np.array(["dog", "cow"]))
    with pytest.raises(data.DataError, match="label 'cow', which the model has not; it has 2: cat, dog"):
        label_places(named, ("cat", "dog"))
    with pytest.raises(data.DataError, match="label '7'"):
        label_places(stored(tmp_path, np.ones((2, 1)), np.array([0, 7])), ("cat", "dog"))


def test_pictures_come_in_the_order_of_colours_that_the_bundle_declares(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 3), np.uint8)
    for index, each in enumerate(pixels):
        (tmp_path / "cat").mkdir(exist_ok=True)
        Image.fromarray(each).save(tmp_path / "cat" / f"{index}.png")
    dataset = data.open(tmp_path)
    for layout, mode, expected in (
        ("CHW", "RGB", pixels),
        ("CHW", "BGR", pixels[..., ::-1]),
        ("HWC", "BGR", pixels[..., ::-1]),
    ):
        shape = (3, 4, 5) if layout == "CHW" else (4, 5, 3)
        ((rows, _),) = lattices(dataset, spec(shape, layout, mode=mode), 8)
        assert np.array_equal(rows, expected.transpose(0, 3, 1, 2) if layout == "CHW" else expected)
