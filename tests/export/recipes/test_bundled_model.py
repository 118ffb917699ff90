"""The model that is committed: it does what the README says of it, on the pictures committed beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from export.build.outside import outside_sets
from export.build.passes import draw_rows
from export.bundle import load
from export.data.idx import read_split
from export.recipes.fashion_mnist import as_base_run, as_noisy_run
from tests.export.runtime import open_graph

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def bundle():
    return load(ROOT / "models" / "fashion-mnist" / "1")


@pytest.fixture(scope="module")
def noisy(bundle):
    return as_noisy_run(open_graph(bundle.noisy))


@pytest.fixture(scope="module")
def test_set():
    return read_split(ROOT / "tests" / "data", "fashion_mnist_test_1000")


def flagged(bundle, noisy, pictures, purpose):
    scores = draw_rows(pictures, bundle.law, noisy, purpose, 32, quiet=True).median_scores()
    return float(np.mean(scores > bundle.manifest.ood.threshold))


def test_the_accurate_network_is_accurate(bundle, test_set):
    probabilities = as_base_run(open_graph(bundle.base))(test_set.images[:, None].astype(np.int32))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.mean(probabilities.argmax(axis=1) == test_set.labels) > 0.91


def test_noisy_votes_are_mostly_right_and_ordinary_pictures_raise_few_alarms(bundle, noisy, test_set):
    drawn = draw_rows(test_set.images[:250, None], bundle.law, noisy, "bundled", 32, quiet=True)
    assert np.mean(drawn.votes == test_set.labels[:250, None]) > 0.84
    assert np.mean(drawn.median_scores() > bundle.manifest.ood.threshold) < 0.10  # 0.05 is claimed, 250 were drawn


def test_digits_and_uniform_noise_are_flagged(bundle, noisy, test_set):
    digits = read_split(ROOT / "tests" / "data", "digits_200").images[:, None]
    noise = outside_sets(test_set.images[:200, None], seed=1)["uniform noise"]
    assert flagged(bundle, noisy, digits, "digits") >= 0.9
    assert flagged(bundle, noisy, noise, "uniform") >= 0.9


def test_the_graphs_reproduce_the_golden_outputs(bundle, noisy):
    votes, scores = noisy(bundle.golden.noisy_input)
    assert np.array_equal(votes, bundle.golden.votes)
    np.testing.assert_allclose(scores, bundle.golden.scores, rtol=1e-3)
    assert len(np.unique(votes)) == 10
    probabilities = as_base_run(open_graph(bundle.base))(bundle.golden.base_input)
    np.testing.assert_allclose(probabilities, bundle.golden.base_probabilities, atol=1e-3)


def test_it_was_made_as_the_recipe_says(bundle):
    used = {each.purpose: each.rows for each in bundle.manifest.provenance.data}
    assert used == {"training and fit": 55_000, "calibration": 5_000}
    assert bundle.detector.calibration.size == 5_000
    assert bundle.manifest.law.sigma == 0.25
