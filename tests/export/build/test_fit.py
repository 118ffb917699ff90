"""Fitting in one walk: the same as with all features in memory, whatever the batches and interruptions."""

from __future__ import annotations

import numpy as np
import pytest

from certify.ood.mahalanobis import KINDS
from certify.ood.scores import fitted_scorers, scorers_of
from certify.smoothing.laws import gaussian_on_grid
from export import data
from export.build import calibrate as calibration
from export.build import enough, fit
from export.build.checkpoint import Checkpoint, CheckpointError
from export.build.choose import choose
from export.build.lattice import lattices
from export.build.noise_table import rounded_gaussian_tails
from export.build.outside import foreign_sets
from export.build.passes import noisy_lattice, row_key
from tests.declared import spec
from tests.export.data.test_idx import DATA

NOISE = gaussian_on_grid(16.0, rounded_gaussian_tails(16.0))
SPEC = spec((1, 28, 28), "CHW", step=1 / 255, high=1.0, units="pixel value")
LABELS = tuple(map(str, range(10)))
MIXING = np.random.default_rng(0).standard_normal((784, 12)) / 28
LAST = np.random.default_rng(1).standard_normal((10, 12)), np.zeros(10)


def features_of(lattice):
    features = np.maximum(lattice.reshape(len(lattice), -1) / 255 @ MIXING, 0)
    return features, features @ LAST[0].T + LAST[1]


@pytest.fixture(scope="module")
def digits():
    return data.open(DATA / "digits_200")


@pytest.fixture(scope="module")
def clothes():
    return data.open(DATA / "fashion_mnist_test_1000")


def gathered(dataset, **options):
    return fit.gather(dataset, SPEC, LABELS, NOISE, features_of, quiet=True, **options)


@pytest.fixture(scope="module")
def once(clothes):
    return gathered(clothes)


@pytest.fixture(scope="module")
def in_memory(clothes):
    """All noisy features, and labels."""
    rows = np.concatenate([each for each, _ in lattices(clothes, SPEC, 100)])
    noisy = [noisy_lattice(row, NOISE, row_key("fit", place), 0, 1) for place, row in enumerate(rows)]
    return features_of(np.concatenate(noisy))[0], np.concatenate([each for _, each in lattices(clothes, SPEC, 100)])


def test_the_moments_are_those_of_numpy(once, in_memory):
    features, labels = in_memory
    assert once.rows == 1_000
    for label in range(10):
        mean = once.plain.sums[label] / once.plain.counts[label] + once.plain.shift
        assert mean == pytest.approx(features[labels == label].mean(axis=0), rel=1e-12)
    means = np.stack([features[labels == label].mean(axis=0) for label in range(10)])[labels]
    centred = once.plain.sums / once.plain.counts[:, None]
    within = once.plain.scatter - (centred * once.plain.counts[:, None]).T @ centred
    assert within / 1_000 == pytest.approx(np.cov((features - means).T, bias=True), rel=1e-10, abs=1e-14)


def test_every_score_is_that_of_a_fit_with_all_features(once, in_memory):
    """All but `knn` where the data are more than the sample; here they are not."""
    features, labels = in_memory
    streamed = scorers_of(once.plain, once.units, once.sample, *LAST)
    whole = fitted_scorers(features, labels, *LAST)
    assert streamed.keys() == whole.keys() >= {kind + mark for kind in KINDS for mark in ("", "++")}
    some = features[::50]
    for name in whole:
        logits = some @ LAST[0].T
        assert streamed[name].scores(some, logits) == pytest.approx(whole[name].scores(some, logits), rel=1e-5), name


def test_broken_off_and_begun_again_it_ends_at_the_same_bits(clothes, once, tmp_path, monkeypatch):
    monkeypatch.setattr("export.build.checkpoint.EVERY_S", 0.0)
    calls = []

    def failing(lattice):
        calls.append(len(lattice))
        if len(calls) in (3, 6):
            raise KeyboardInterrupt
        return features_of(lattice)

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            fit.gather(
                clothes, SPEC, LABELS, NOISE, failing, checkpoint=tmp_path / "a" / "fit", identity="n", quiet=True
            )
    found = fit.gather(
        clothes, SPEC, LABELS, NOISE, failing, checkpoint=tmp_path / "a" / "fit", identity="n", quiet=True
    )
    assert sum(calls) == 1_000 + 2 * 128  # what was under way when it broke is done again, and nothing else
    for name, values in once.arrays().items():
        assert np.array_equal(values, found.arrays()[name]), name


def test_a_checkpoint_of_another_run_is_refused(clothes, digits, tmp_path):
    file = tmp_path / "fit"
    gathered(digits, checkpoint=file, identity="a")
    gathered(digits, checkpoint=file, identity="a")
    for other, identity in ((digits, "b"), (clothes, "a")):
        with pytest.raises(CheckpointError, match="another run: data, network or settings differ; remove it"):
            gathered(other, checkpoint=file, identity=identity)
    file.write_bytes(b"nonsense")
    with pytest.raises(CheckpointError, match="cannot be read"):
        Checkpoint(file, "a").load()


def test_the_sample_is_bounded_and_evenly_spaced(clothes, in_memory, monkeypatch):
    monkeypatch.setattr(fit, "BANK", 100)
    found = gathered(clothes)
    assert found.stride == 16
    assert found.sample == pytest.approx(in_memory[0][::16], rel=1e-6)


def test_a_label_without_a_row_is_named(digits):
    with pytest.raises(fit.FitError, match="no row of '10'"):
        fit.gather(digits, SPEC, (*LABELS, "10"), NOISE, features_of, quiet=True)


def test_the_score_that_tells_best_is_chosen_and_the_users_own_set_counts(once, clothes, digits):
    scorers = scorers_of(once.plain, once.units, once.sample)
    chosen = choose(scorers, clothes.every(4), SPEC, NOISE, features_of, [digits], quiet=True)
    means = {name: np.mean(list(each.values())) for name, each in chosen.aurocs.items()}
    assert chosen.name == max(means, key=means.get)
    assert digits.source in chosen.aurocs["md"]
    assert len(chosen.aurocs["md"]) == 8
    assert chosen.table().splitlines()[2].startswith(f"| {chosen.name} | {means[chosen.name]:.3f} |")


@pytest.mark.parametrize("layout", ["CHW", "HWC", "features"])
def test_foreign_sets_fit_the_models_input_and_are_no_ordinary_rows(layout):
    shape = {"CHW": (3, 4, 6), "HWC": (4, 6, 3), "features": (5,)}[layout]
    rows = np.random.default_rng(0).integers(0, 10, (30, *shape)).astype(np.int32)
    sets, again = (foreign_sets(rows, spec(shape, layout, high=9.0), seed=1) for _ in range(2))
    assert len(sets) >= 4
    for name, each in sets.items():
        assert (each.shape, each.dtype, each.min() >= 0, each.max() <= 9) == (rows.shape, np.int32, True, True), name
        assert not np.array_equal(each, rows)
        assert np.array_equal(each, again[name])
    if layout == "HWC":
        assert np.array_equal(sets["upside down"], rows[:, ::-1])


def noisy(lattice):
    features, logits = features_of(lattice)
    return logits.argmax(axis=1), features.sum(axis=1).astype(np.float32)


def calibrated(dataset, run=noisy, **options):
    return calibration.calibrate_on(
        dataset, SPEC, LABELS, NOISE, run, target_tpr=0.9, eta=0.05, least_accuracy=0.0, quiet=True, **options
    )


def test_calibration_in_parts_is_calibration_as_a_whole(digits, tmp_path, monkeypatch):
    monkeypatch.setattr("export.build.checkpoint.EVERY_S", 0.0)
    ((rows, labels),) = lattices(digits, SPEC, 999)
    whole = calibration.calibrate(rows, labels, NOISE, noisy, target_tpr=0.9, eta=0.05, least_accuracy=0.0, quiet=True)
    left = [40]

    def failing(lattice):
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt
        return noisy(lattice)

    with pytest.raises(KeyboardInterrupt):
        calibrated(digits, failing, checkpoint=tmp_path / "c", identity="n")
    found = calibrated(digits, failing, checkpoint=tmp_path / "c", identity="n")
    assert left[0] > -20  # fifty batches of 128 are the whole
    assert np.array_equal(found.scores, whole.scores)
    assert (found.threshold, found.accuracy) == (whole.threshold, pytest.approx(whole.accuracy))


@pytest.mark.parametrize(
    ("rows", "words"), [(100, ["1.0%", "1,000 rows give 3.0%"]), (50_000, []), (150, ["p-value below 0.0066"])]
)
def test_what_the_rows_are_too_few_for_is_said_with_how_many_are_enough(rows, words):
    said = " ".join(enough.calibration(rows, 0.95, 0.01))
    assert bool(said) == bool(words)
    assert [word for word in words if word not in said] == [], said


def test_without_enough_rows_for_any_threshold_the_number_is_said():
    with pytest.raises(ValueError, match="at least 90 are needed"):
        enough.calibration(89, 0.95, 0.01)


def test_expected_alarms_are_what_uniform_scores_give():
    generator = np.random.default_rng(0)
    beyond = [1 - calibration.pac_threshold(generator.random(200), 0.05, 0.01) for _ in range(2_000)]
    assert enough.expected_alarms(200, 0.05, 0.01) == pytest.approx(np.mean(beyond), abs=5e-4)


def test_a_network_that_is_no_better_than_a_guess_on_the_held_out_rows_is_warned_of():
    assert enough.right(0.9, 100, 2) == []
    for guessing in (0.5, 0.55):
        (said,) = enough.right(guessing, 100, 2)
        assert f"{guessing:.1%} of 100 held-out rows" in said
        assert "labels may be wrong" in said


def test_few_rows_of_a_label_or_for_the_features_are_said():
    assert enough.fit([100, 100], ["a", "b"], 50) == []
    (said,) = enough.fit([100, 3, 5], ["a", "b", "c"], 50)
    assert "'b' has 3 rows and 1 more labels" in said
    assert "130 features" in enough.fit([100, 100], ["a", "b"], 130)[0]


def test_a_wide_band_is_said():
    assert enough.certified_accuracy(738, 0.95) == []
    assert "738 do" in enough.certified_accuracy(700, 0.95)[0]
