"""The recipe end to end, on a few hundred real pictures: everything but the figures is as in the real run."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest

from export.build.calibrate import CalibrationError
from export.bundle import load
from export.data.idx import IdxError
from export.recipes import fashion_mnist
from export.recipes.fashion_mnist import LABELS, Recipe, run
from export.recipes.training import TrainingPlan
from tests.export.runtime import open_graph

DATA = Path(__file__).parents[2] / "data"
TINY = Recipe(
    base=TrainingPlan(
        name="base", seed=1, epochs=2, shift=2, erase=True, label_smoothing=0.05, batch=64, averaging=0.8
    ),
    noisy=TrainingPlan(
        name="noisy", seed=2, epochs=2, sigma_steps=63.75, consistency=1.0, entropy=0.5, batch=64, averaging=0.8
    ),
    held_out=120,
    choosing=20,
    least_accuracy=0.15,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The first 600 committed pictures as a training set, the next 100 as a test set."""
    folder = tmp_path_factory.mktemp("idx")
    for split, rows in (("train", range(0, 600)), ("t10k", range(600, 700))):
        for kind, size in (("images-idx3", 784), ("labels-idx1", 1)):
            raw = gzip.decompress((DATA / f"fashion_mnist_test_1000-{kind}-ubyte.gz").read_bytes())
            start = 16 if size > 1 else 8
            body = raw[start + rows.start * size : start + rows.stop * size]
            (folder / f"{split}-{kind}-ubyte").write_bytes(raw[:4] + len(rows).to_bytes(4, "big") + raw[8:start] + body)
    return folder


@pytest.fixture(scope="module")
def made(data, tmp_path_factory):
    place = tmp_path_factory.mktemp("run")
    return place, run(data, place / "work", place / "models", open_graph, TINY)


def test_the_bundle_is_whole(made):
    place, bundle = made
    assert load(place / "models" / "fashion-mnist" / "1").digest == bundle.digest
    spec = bundle.manifest
    assert (spec.name, spec.version, spec.labels) == ("fashion-mnist", "1", LABELS)
    assert spec.input.top == 255
    assert [each.rows for each in spec.provenance.data] == [480, 120]
    assert bundle.detector.calibration.size == 120
    assert np.mean(bundle.detector.calibration > spec.ood.threshold) < 0.05
    assert np.isfinite(bundle.golden.scores).all()


def test_the_graphs_reproduce_the_golden_outputs(made):
    _, bundle = made
    votes, scores = open_graph(bundle.noisy)(bundle.golden.noisy_input)
    (probabilities,) = open_graph(bundle.base)(bundle.golden.base_input)
    assert np.array_equal(votes, bundle.golden.votes)
    np.testing.assert_allclose(scores, bundle.golden.scores, rtol=1e-4)
    np.testing.assert_allclose(probabilities, bundle.golden.base_probabilities, atol=1e-5)


def test_the_same_work_folder_gives_the_same_bundle(made, data, tmp_path):
    place, bundle = made
    shutil.copytree(place / "work", tmp_path / "work")
    assert run(data, tmp_path / "work", tmp_path / "models", open_graph, TINY).digest == bundle.digest


def test_a_network_that_learned_nothing_is_refused(made, data, tmp_path, monkeypatch):
    place, bundle = made
    for name, graph in (("base_to_onnx", bundle.base), ("noisy_to_onnx", bundle.noisy)):  # as the same networks give
        monkeypatch.setattr(fashion_mnist, name, lambda *_, graph=graph: graph)
    shutil.copytree(place / "work", tmp_path / "work")
    strict = Recipe(**{**vars(TINY), "least_accuracy": 0.99})
    with pytest.raises(CalibrationError, match=r"expected at least 99\.0%"):
        run(data, tmp_path / "work", tmp_path / "models", open_graph, strict)
    assert not (tmp_path / "models").exists()


def test_too_few_pictures_are_refused(data, tmp_path):
    with pytest.raises(ValueError, match="600 training pictures; 5000 are held out"):
        run(data, tmp_path / "work", tmp_path / "models", open_graph)


@pytest.mark.parametrize(("kind", "place", "value"), [("images-idx3", 11, 14), ("labels-idx1", 100, 10)])
def test_pictures_of_another_kind_are_refused(data, tmp_path, kind, place, value):
    shutil.copytree(data, tmp_path / "data")
    file = tmp_path / "data" / f"train-{kind}-ubyte"
    raw = bytearray(file.read_bytes())
    raw[place] = value
    if kind == "images-idx3":  # half as high: as many pictures, half the bytes
        raw = raw[: 16 + 600 * 14 * 28]
    file.write_bytes(raw)
    with pytest.raises(IdxError, match=r"this recipe expects \(28, 28\) and the 10 labels 0 to 9"):
        run(tmp_path / "data", tmp_path / "work", tmp_path / "models", open_graph, TINY)
