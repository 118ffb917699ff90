"""Figures from records: by hand, by brute force, and for the half-space whose answers are known exactly."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from certify.bounds import binomial
from export import data
from export.build.outside import aupr, auroc, far_at_tpr_ood95, miss_at_tpr_id95, outside_sets
from export.evaluation import band, figures, plots, report, sigma
from export.evaluation.evaluate import FigureOptions, evaluate, of_test, summary
from export.evaluation.records import EvaluationError, Record, Store, record
from tests.half_space import CUT, LABELS, SIGMA, THRESHOLD, true_radius, write_half_space


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def rows():
    """Inputs along the line that crosses the cut, and one of them labelled wrongly."""
    inputs = np.concatenate([np.linspace(0, 255, 40).astype(int)[:, None], np.zeros((40, 3), int)], axis=1)
    labels = (inputs[:, 0] > CUT).astype(int)
    labels[5] = 1 - labels[5]
    return inputs, labels


@pytest.fixture(scope="module")
def test_set(rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "d.npz"
    np.savez(path, x=rows[0], y=rows[1])
    return data.open(path)


class Exactly:
    """Answers with what is true of the half-space, as a server with endless draws would; abstains near the cut."""

    def __init__(self, after=math.inf):
        self.asked, self.left = 0, after

    def __call__(self, lattice):
        self.left -= len(lattice)
        if self.left < 0:
            raise KeyboardInterrupt
        self.asked += len(lattice)
        return [self.answer(row) for row in lattice]

    def answer(self, row):
        label, radius = true_radius(row)
        score = float(row[0])
        share = 0.9 if radius > 20 else 0.6
        return {
            "class_index": int(row[0] > CUT),
            "probabilities": [share, 1 - share][:: 1 if row[0] <= CUT else -1],
            "certificate": {"label": LABELS[label], "radius": radius}
            if radius > 10
            else {"label": None, "radius": 0.0},
            "mixture": {"label": LABELS[label], "radius": max(0.0, radius - 30), "probabilities": [0.5, 0.5]},
            "ood": {
                "score": score,
                "p_value": 0.01 if score > THRESHOLD else 0.5,
                "in_distribution": score <= THRESHOLD,
                "certified": {"verdict": "undetermined", "score_lower": score - 8, "score_upper": score + 8},
            },
            "draws": 96,
            "lost_draws": 0,
        }


def measured(bundle, test_set, answering=None, store=None, **options):
    return evaluate(
        bundle.manifest, test_set, [], answering or Exactly(), store or Store(None, {}), run={}, quiet=True, **options
    )


def test_the_figures_are_those_of_the_half_space(bundle, test_set, rows):
    found = measured(bundle, test_set, wanted=FigureOptions(radii=(0.0, 15.0, 60.0)))
    inputs, labels = rows
    true = [true_radius(row) for row in inputs]
    right = np.array([label for label, _ in true]) == labels
    radii = np.array([radius for _, radius in true])
    assert (found.rows, found.accuracy.share) == (40, 39 / 40)
    shares = [each.share for each in found.smoothed.certified]
    assert shares == [np.mean(right & (radii > max(10, radius - 1e-9))) for radius in (0.0, 15.0, 60.0)]
    assert found.smoothed.abstained.share == np.mean(radii <= 10)
    assert found.smoothed.mean_radius == pytest.approx(np.mean(radii * right * (radii > 10)))
    assert found.mixed.certified[0].share == np.mean(right & (radii > 30))
    assert [each.rows for each in found.labels] == [int(np.sum(labels == 0)), int(np.sum(labels == 1))]
    assert found.detection.false_alarms.share == np.mean(inputs[:, 0] > THRESHOLD)
    assert {each.name for each in found.detection.outside} >= {"inverted", "uniform", "columns shuffled"}
    assert found.mean_draws == 96
    assert any("bound certified accuracy" in each for each in found.warnings)


def test_radii_are_in_sigmas_unless_others_are_asked_for(bundle, test_set):
    assert measured(bundle, test_set).radii[:3] == [0.0, SIGMA / 2, SIGMA]


def test_broken_off_and_begun_again_only_the_rest_is_asked(bundle, test_set, tmp_path):
    whole = measured(bundle, test_set)
    path = tmp_path / "a" / "records"
    broken = Exactly(after=70)
    with pytest.raises(KeyboardInterrupt):
        measured(bundle, test_set, broken, Store(path, {"seed": 1}))
    with path.open("a") as stream:
        stream.write('{"of": "test", "row"')  # what a full disk or a plug leaves
    again = Exactly()
    assert measured(bundle, test_set, again, Store(path, {"seed": 1})) == whole
    assert broken.asked + again.asked == 40 + 40 * len(whole.detection.outside)
    last = Exactly(after=0)
    assert measured(bundle, test_set, last, Store(path, {"seed": 1})) == whole


def test_a_row_that_has_changed_is_asked_again(bundle, test_set, rows, tmp_path):
    store = Store(tmp_path / "records", {})
    list(of_test(bundle.manifest, test_set, Exactly(), store, quiet=True))
    changed = rows[0].copy()
    changed[7, 3] += 1
    np.savez(tmp_path / "d.npz", x=changed, y=rows[1])
    again = Exactly()
    list(of_test(bundle.manifest, data.open(tmp_path / "d.npz"), again, store, quiet=True))
    assert again.asked == 1


def test_parts_of_a_test_set_are_its_records(bundle, test_set):
    whole = list(of_test(bundle.manifest, test_set, Exactly(), Store(None, {}), quiet=True))
    parts = [
        each
        for start in range(0, 40, 7)
        for each in of_test(
            bundle.manifest, test_set, Exactly(), Store(None, {}), part=(start, min(40, start + 7)), quiet=True
        )
    ]
    assert parts == whole
    store = Store(None, {})
    store.add(whole[:9] + whole[12:])
    assert (store.complete("test"), store.complete("other")) == (9, 0)


@pytest.mark.parametrize("content", ["", "nonsense\n", "[]\n", '{"run": {"seed": 1}}\n{"of": "test"}\n'])
def test_a_file_of_other_records_is_refused_or_begun(tmp_path, content):
    path = tmp_path / "records"
    path.write_text(content)
    if not content:
        assert Store(path, {"seed": 1}).of("test") == []
        return
    with pytest.raises(EvaluationError, match="holds no records of an evaluation.*remove it"):
        Store(path, {"seed": 1})


def test_records_of_another_run_are_refused_by_what_differs(tmp_path):
    Store(tmp_path / "records", {"seed": 1, "bundle": "a"})
    with pytest.raises(EvaluationError, match="another run: bundle, seed differ"):
        Store(tmp_path / "records", {"seed": 2, "bundle": "b"})


def test_an_answer_that_overload_cut_short_is_no_record(bundle, test_set):
    class Busy(Exactly):
        def answer(self, row):
            return super().answer(row) | {"granted_draws": 64}

    with pytest.raises(EvaluationError, match="row 0 of test was granted fewer draws"):
        measured(bundle, test_set, Busy())


def test_a_bundle_without_detector_or_mixture_has_neither(tmp_path, test_set):
    bare = write_half_space(tmp_path, class_alone=True)

    class Bare(Exactly):
        def answer(self, row):
            return super().answer(row) | {"ood": None, "mixture": None, "probabilities": None}

    found = measured(bare, test_set, Bare())
    assert (found.detection, found.mixed, found.mixture_accuracy) == (None, None, None)
    assert (found.base_calibration, found.mixture_calibration) == (None, None)
    assert "| mixture |" not in report.markdown(found)


def records(**columns):
    """One record a row, of a test set unless it is said otherwise."""
    length = len(next(iter(columns.values())))
    base = {"of": ["test"] * length, "label": [0] * length, "base": [0] * length} | columns
    return [Record(row=row, digest="", **{name: values[row] for name, values in base.items()}) for row in range(length)]


def figured(some, **options):
    settings = {"run": {}, "sigma": 1.0, "radii": [0.0, 1.0], "confidence": 0.9, "target_tpr": 0.95} | options
    return figures.figures(some, ["a", "b"], **settings)


def test_what_is_proven_of_confidence_is_averaged_over_certified_rows_and_never_rounded_up():
    found = figured(records(sure=[0.3999, 0.5999, None], sure_at_input=[0.7999, 0.9999, None]), target_tpr=None)
    assert found.sure.rows == 2
    assert (found.sure.in_ball, found.sure.at_input) == pytest.approx((0.4999, 0.8999))
    said = report.markdown(found)
    assert "it 0.499 or more under noise everywhere in its ball, and 0.899 or more at the input" in said
    assert "Confidence:" not in report.markdown(figured(records(sure=[None]), target_tpr=None))


def test_calibration_error_by_hand():
    """Two bins: .9 said and 1/2 right, .31 said and all right; both weigh by their rows."""
    found = figured(records(base=[0, 1, 0, 0], confidence=[0.9, 0.9, 0.31, 0.31])).base_calibration
    assert found.error == pytest.approx(0.5 * 0.4 + 0.5 * 0.69)
    assert (found.confidence, found.accuracy) == (pytest.approx(0.605), 0.75)
    certain = figured(records(base=[0, 0], confidence=[1.0, 1.0])).base_calibration
    assert certain.error == 0.0


def test_certified_detection_by_hand():
    """A lower bound takes the place of the foreign score; where it is trivial, nothing stays above any ordinary one."""
    some = records(
        of=["test"] * 2 + ["far"] * 4,
        score=[1.0, 2.0, 3.0, 3.0, 3.0, None],
        flagged=[False, False, True, True, False, True],
        score_lower=[0.0, 0.0, 2.5, 1.5, None, None],
        verdict=["in_distribution", "undetermined", "out_of_distribution", *["undetermined"] * 3],
        label=[0, 0, -1, -1, -1, -1],
    )
    (far,) = figured(some).detection.outside
    assert (far.auroc, far.certified_auroc) == (1.0, (1 + 0.5 + 0 + 0) / 4)
    assert (far.flagged.share, far.certified_out, figured(some).detection.certified_in) == (0.75, 0.25, 0.5)


def test_a_wrong_label_counts_at_no_radius_and_a_right_one_up_to_its_own():
    some = records(label=[0, 0, 1, 1], certified=[0, 1, 1, -1], radius=[1.0, 5.0, 0.5, 0.0])
    found = figured(some)
    assert [each.share for each in found.smoothed.certified] == [0.5, 0.25]
    assert figures.worth(some).tolist() == [1.0, -1.0, 0.5, -1.0]
    assert [[each.share for each in of.smoothed.certified] for of in found.labels] == [[0.5, 0.5], [0.5, 0.0]]


def test_a_joint_label_counts_where_its_class_is_right_and_out_is_neither_right_nor_abstained():
    verdicts = ["in_distribution", "in_distribution", "out_of_distribution", "undetermined"]
    some = records(joint_verdict=verdicts, joint=[0, 1, -1, -1], joint_radius=[1.5, 3.0, 2.0, 0.0])
    found = figured(some)
    assert [each.share for each in found.joint.smoothed.certified] == [0.25, 0.25]
    same = figured(records(certified=[0, 1, 1, -1], radius=[1.5, 3.0, 2.0, 0.0]))
    assert found.joint.smoothed.certified == same.smoothed.certified
    assert (found.joint.out.share, found.joint.smoothed.abstained.share) == (0.25, 0.25)
    assert "| joint label |" in report.markdown(found)
    assert figured(records(certified=[0])).joint is None
    assert "oint label" not in report.markdown(figured(records(certified=[0])))


@pytest.mark.parametrize(("verdict", "label"), [("in_distribution", "above"), ("out_of_distribution", None)])
def test_an_answer_s_joint_label_is_kept_in_its_record(verdict, label):
    answer = Exactly().answer(np.array([144, 0, 0, 0]))
    kept = record(
        answer | {"joint": {"verdict": verdict, "label": label, "radius": 4.5}},
        {name: place for place, name in enumerate(LABELS)},
        "test",
        0,
        np.zeros(4, np.int32),
        1,
    )
    assert (kept.joint_verdict, kept.joint, kept.joint_radius) == (verdict, -1 if label is None else 1, 4.5)


def test_confidence_is_the_mean_of_what_is_proven_of_rows_with_a_certified_label():
    found = figured(records(certified=[0, 1, 1, -1], sure=[0.25, 0.5, 0.0, None], sure_at_input=[0.75, 1.0, 0.5, None]))
    assert (found.sure.rows, found.sure.in_ball, found.sure.at_input) == (3, 0.25, 0.75)
    assert "Confidence: of 3 rows" in report.markdown(found)
    assert "It is not how often that label is right." in report.markdown(found)
    without = figured(records(certified=[0]))
    assert (without.sure, "Confidence:" in report.markdown(without)) == (None, False)


@pytest.mark.parametrize("numbers", [(0.25, 0.75), (None, None)])
def test_an_answer_s_confidence_is_kept_in_its_record(numbers):
    said = dict(zip(("lower", "lower_at_input"), numbers, strict=True))
    answer = Exactly().answer(np.array([144, 0, 0, 0])) | {"confidence": {"label": "above", "radius": 4.5, **said}}
    places = {name: place for place, name in enumerate(LABELS)}
    kept = record(answer, places, "test", 0, np.zeros(4, np.int32), 1)
    assert (kept.sure, kept.sure_at_input) == numbers


def test_the_band_covers_the_whole_curve_and_pointwise_intervals_do_not():
    """The oracle: radii from a known law with atoms; a thousand test sets of sixty rows."""
    places, chances = np.array([-1.0, 0.0, 0.25, 0.4, 0.5, 0.75]), np.array([0.2, 0.05, 0.15, 0.2, 0.25, 0.15])
    true = np.array([chances[places >= each].sum() for each in places])
    drawn = np.random.default_rng(0).choice(places, (1_000, 60), p=chances)
    missed = mutant = 0
    for values in drawn:
        found = band.curve(values, places, 0.9)
        missed += any(not each.lower <= p <= each.upper for each, p in zip(found, true, strict=True))
        each = [band.share(int(np.sum(values >= place)), 60, 0.9) for place in places[1:]]
        mutant += any(not one.lower <= p <= one.upper for one, p in zip(each, true[1:], strict=True))
    assert missed <= 100 + 3 * math.sqrt(90)
    assert mutant > 150  # intervals of their own hold one at a time
    assert band.half_width(1_000, 0.95) == pytest.approx(math.sqrt(math.log(40) / 2_000))


def test_intervals_of_a_share_are_exact():
    """The ends are where a tail of half the level begins; all of n, none of n, and no rows at all."""
    from scipy.stats import binom

    found = band.share(7, 20, 0.95)
    assert binom.sf(6, 20, found.lower) == pytest.approx(0.025, rel=1e-6)
    assert binom.cdf(7, 20, found.upper) == pytest.approx(0.025, rel=1e-6)
    assert (band.share(0, 9, 0.95).lower, band.share(9, 9, 0.95).upper) == (0.0, 1.0)
    assert band.share(0, 0, 0.95) == band.Between(0.0, 0.0, 1.0)


def test_what_cannot_be_asked_for_is_refused():
    for wrong in ({"confidence": 1.0}, {"confidence": 0.0}, {"radii": (-1.0,)}, {"radii": (math.nan,)}):
        with pytest.raises(EvaluationError, match="expected a confidence between 0 and 1 and radii from 0"):
            FigureOptions(**wrong)


def test_the_report_holds_every_figure_and_its_tables_are_square(bundle, test_set):
    found = measured(
        bundle, test_set, attacked=figures.Attacked(radius=2.0, rows=9, clean=1.0, accuracy=band.share(8, 9, 0.95))
    )
    text = report.markdown(found)
    assert f"| accurate network | {found.accuracy} |" in text
    assert "attacked within 2 (9 rows, 1.000 unattacked)" in text
    assert f"{found.base_calibration.error:.3f}" in text
    for each in found.detection.outside:
        assert f"| {each.name} | {each.rows} | {each.auroc:.3f} | {each.certified_auroc:.3f} |" in text
    tables = [block for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 3
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    assert json.loads(json.dumps(report.document(found)))["smoothed"]["certified"][0]["share"] == (
        found.smoothed.certified[0].share
    )
    assert summary(bundle.manifest, records(base=[0]), run={}).rows == 1


def noisy(lattice):
    return (lattice[:, 0] > CUT).astype(np.int64), lattice[:, 0].astype(np.float32)


def test_sigma_is_suggested_by_what_is_certified(bundle, test_set, rows):
    """Of a half-space the radius is the distance whatever sigma, but draws reach only so many sigmas."""
    found = sigma.sweep(bundle.manifest, test_set, noisy, [64.0, 4.0], (5.0, 40.0), 200, alpha=0.01, quiet=True)
    assert [each.sigma for each in found.rows] == [4.0, 64.0]
    reach = 4.0 * binomial.quantile_below(1 - binomial.clopper_pearson_complement(200, 200, 0.01))
    assert 5.0 < reach < 40.0
    small, large = ([each.share for each in at.certified] for at in found.rows)
    distance, right = np.abs(rows[0][:, 0] - CUT - 0.5), np.array([row != 5 for row in range(40)])
    assert small[0] == pytest.approx(np.mean(right & (distance >= 5)), abs=0.1)
    assert small[1] == 0.0
    assert large[1] == pytest.approx(np.mean(right & (distance >= 40)), abs=0.15)
    assert sigma.best(found, 1).sigma == 64.0
    assert "radius 40: sigma 64" in sigma.advice(found)
    assert sigma.markdown(found).count("\n| ") == 3
    assert found.line(1) == [0.0, large[1]]
    assert json.dumps(asdict(found))


@pytest.mark.parametrize("wrong", [[], [0.0], [1.0, -2.0]])
def test_sigmas_that_are_none_are_refused(bundle, test_set, wrong):
    with pytest.raises(EvaluationError, match="sigmas above 0"):
        sigma.sweep(bundle.manifest, test_set, noisy, wrong, quiet=True)


@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_curves_are_drawn(bundle, test_set, tmp_path, ending):
    pytest.importorskip("matplotlib")
    values = np.array([-1.0, 0.2, 0.5])
    plots.check(tmp_path / f"a{ending}")
    plots.certified_curve(tmp_path / f"a{ending}", {"smoothed": values, "none": np.full(3, -1.0)}, "units", 0.95)
    plots.against_sigma(tmp_path / f"b{ending}", [0.1, 0.2], {"radius 1": [0.5, 0.6]}, "units")
    plots.clean_against_certified(tmp_path / f"c{ending}", {"fixed, at 1": [(0.9, 0.8), (0.8, 0.85)]})
    for name in ("a", "b", "c"):
        found = (tmp_path / f"{name}{ending}").read_bytes()
        assert b"<svg" in found[:1000] if ending == ".svg" else found.startswith(b"\x89PNG")


def test_a_picture_that_cannot_be_drawn_is_refused_before_anything_is_measured(tmp_path, monkeypatch):
    with pytest.raises(EvaluationError, match=r"curve\.gif names no picture.*\.svg"):
        plots.check(tmp_path / "curve.gif")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(EvaluationError, match="certserve\\[plot\\]"):
        plots.check(tmp_path / "curve.svg")


@given(st.lists(st.integers(0, 6), min_size=1, max_size=30), st.lists(st.integers(0, 6), min_size=1, max_size=30))
def test_average_precision_is_that_of_its_definition(inside, outside):
    ordinary, foreign = np.array(inside, float), np.array(outside, float)
    area = before = 0.0
    for threshold in sorted({*inside, *outside}, reverse=True):
        caught, flagged = np.sum(foreign >= threshold), np.sum(foreign >= threshold) + np.sum(ordinary >= threshold)
        area += (caught / len(foreign) - before) * caught / flagged
        before = caught / len(foreign)
    assert aupr(ordinary, foreign) == pytest.approx(area)


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
