from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from certify.bounds import binomial
from export.build.outside import auroc, far_at_tpr_ood95, miss_at_tpr_id95, outside_sets
from export.evaluation.evaluate import ALPHA, BOUNDING, RADII, certify_rows, evaluate, markdown
from tests.half_space import SIGMA, true_radius, write_half_space

CUT = 127


def noisy(lattice):
    return (lattice[:, 0] > CUT).astype(np.int64), lattice[:, 0].astype(np.float32)


def base(lattice):
    return np.stack([lattice[:, 0] <= CUT, lattice[:, 0] > CUT], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def images():
    return np.concatenate([np.linspace(0, 255, 400).astype(int)[:, None], np.zeros((400, 3), int)], axis=1)


@pytest.fixture(scope="module")
def figures(bundle, images):
    labels = (images[:, 0] > CUT).astype(int)
    labels[40] = 1 - labels[40]  # one of the certified rows is labelled wrongly
    return evaluate(bundle, noisy, base, images, labels, {"above": images + 300, "same": images}, every=8, quiet=True)


def test_radii_approach_the_exact_ones_from_below(bundle, images):
    certificates, _ = certify_rows(bundle, noisy, images[::8], quiet=True)
    ceiling = SIGMA * binomial.quantile_of_complement_below(
        binomial.clopper_pearson_complement(BOUNDING, BOUNDING, ALPHA)
    )
    for certificate, image in zip(certificates, images[::8], strict=True):
        label, radius = true_radius(image)
        if certificate.class_index is not None:
            assert certificate.class_index == label
            assert certificate.radius <= min(radius, ceiling) + 1e-9
        assert certificate.radius >= min(0.8 * radius - 0.3 * SIGMA, 0.9 * ceiling)


def test_the_figures_are_those_of_the_half_space(figures, bundle, images):
    row = figures.smoothed
    assert figures.base_accuracy == 399 / 400
    assert figures.robust_accuracy == 399 / 400
    assert figures.certified_pictures == 50
    assert row.accuracy == pytest.approx(0.98, abs=0.021)
    assert row.certified[0] == pytest.approx(0.98 - row.abstained, abs=1e-9)  # all but the wrong label
    assert row.certified == tuple(sorted(row.certified, reverse=True))
    assert len(row.certified) == len(RADII)
    certificates, _ = certify_rows(bundle, noisy, images[::8], quiet=True)
    radii = [0.0 if place == 5 else each.radius for place, each in enumerate(certificates)]  # a wrong label counts as 0
    assert row.mean_radius == pytest.approx(np.mean(radii))
    assert certificates[5].radius > 0
    assert figures.one_draw_accuracy == pytest.approx(np.mean(ndtr(np.abs(images[:, 0] - 127.5) / SIGMA)), abs=0.02)


def test_the_mixture_gives_radius_for_accuracy(figures):
    assert figures.robust_weight == 0.9
    assert figures.mixed.accuracy >= figures.smoothed.accuracy
    assert figures.mixed.mean_radius < figures.smoothed.mean_radius


def test_outside_sets_and_alarms(figures, images, bundle):
    above, same = figures.outside["above"], figures.outside["same"]
    assert above.auroc == 1.0
    assert above.flagged == 1.0
    assert same.auroc == pytest.approx(0.5, abs=0.03)
    assert figures.false_alarms == pytest.approx(np.mean(images[:, 0] > bundle.manifest.ood.threshold), abs=0.02)
    assert figures.claimed_alarms == pytest.approx(0.05)


def test_a_bundle_without_a_score_is_refused(bundle, images):
    bare = dataclasses.replace(bundle, detector=None)
    with pytest.raises(ValueError, match="no out-of-distribution score"):
        evaluate(bare, noisy, base, images, images[:, 0], {})


def test_markdown_holds_every_figure(figures):
    text = markdown(figures)
    assert f"| smoothed | {figures.smoothed.accuracy:.3f} |" in text
    assert f"| above | 400 | {1:.3f} | {1:.3f} |" in text
    assert f"{figures.false_alarms:.4f} beyond the threshold (claimed: at most 0.05)" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    for table in tables:
        assert len({line.replace("\\|", "").count("|") for line in table.splitlines()}) == 1


def test_auroc_counts_pairs():
    generator = np.random.default_rng(0)
    inside, outside = generator.integers(0, 8, 60).astype(float), generator.integers(2, 12, 40).astype(float)
    pairs = (outside[:, None] > inside) + 0.5 * (outside[:, None] == inside)
    assert auroc(inside, outside) == pytest.approx(pairs.mean())
    assert auroc(np.array([1.0]), np.array([np.inf])) == 1.0


def test_outside_sets_are_seeded_and_what_they_say():
    pictures = np.random.default_rng(1).integers(0, 256, (30, 1, 28, 28), dtype=np.uint8)
    sets, again = outside_sets(pictures, 4), outside_sets(pictures, 4)
    assert all(np.array_equal(sets[name], again[name]) for name in sets)
    assert all(each.shape == pictures.shape and each.dtype == np.uint8 for each in sets.values())
    assert np.array_equal(sets["upside down"][3, 0, 0], pictures[3, 0, -1])
    assert np.array_equal(np.rot90(sets["rotated 90 degrees"][3, 0], -1), pictures[3, 0])
    assert np.array_equal(255 - sets["inverted"], pictures)
    shuffled = sets["pixels shuffled"].reshape(30, -1)
    assert np.array_equal(np.sort(shuffled), np.sort(pictures.reshape(30, -1)))
    assert not np.array_equal(np.argsort(shuffled[0]), np.argsort(shuffled[1]))
    assert np.ptp(sets["constant"], axis=(2, 3)).max() == 0
    smooth = sets["smooth noise"].astype(float)
    assert np.abs(np.diff(smooth, axis=3)).mean() < 0.5 * np.abs(np.diff(sets["uniform noise"].astype(float))).mean()


def test_the_two_polarities_of_fpr95_by_hand():
    """One name is the false alarms when 95 % of OOD is caught, the other the misses when 95 % of ID is kept."""
    inside, outside = np.arange(100.0), np.arange(60.0, 100.0)
    assert far_at_tpr_ood95(inside, outside) == 0.38  # 38 of 40 outside scores are 62 or more
    assert miss_at_tpr_id95(inside, outside) == 0.875  # 94 keeps 95 of 100; 35 of 40 outside scores are not above
    assert (far_at_tpr_ood95(inside, inside + 100), miss_at_tpr_id95(inside, inside + 100)) == (0.0, 0.0)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.lists(st.integers(0, 9), min_size=1, max_size=60))
def test_both_polarities_keep_their_95_percent_with_ties(inside, outside):
    id_scores, ood_scores = np.array(inside, dtype=float), np.array(outside, dtype=float)
    caught = max(t for t in np.append(ood_scores, -1) if np.mean(ood_scores >= t) >= 0.95)
    kept = min(t for t in np.append(id_scores, 10) if np.mean(id_scores <= t) >= 0.95)
    assert far_at_tpr_ood95(id_scores, ood_scores) == np.mean(id_scores >= caught)
    assert miss_at_tpr_id95(id_scores, ood_scores) == np.mean(ood_scores <= kept)
