"""Labelled data with a foreign model: detector and mixture beside the certificates, from rows that share nothing."""

from __future__ import annotations

import re
from dataclasses import asdict
from unittest.mock import create_autospec

import numpy as np
import onnx
import pytest
import torch
from onnx import parser
from PIL import Image
from scipy.special import logsumexp

from certify.claims.confidence import grades_of, labels_of
from export import data, own_model
from export.build.calibrate import CalibrationError
from export.build.learn import parted
from export.build.taken import arranged, samples, shape_for
from export.build.two_sides import PAYS
from export.bundle import load
from export.data import DataError
from export.data.in_memory import of_arrays
from export.sources.source import SourceError
from serving.commands import answers
from serving.commands.check import faults
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import given
from tests.export.data.test_idx import DATA

PIXELS = np.arange(1568.0).reshape(2, 1, 28, 28)
CLOTHES = DATA / "fashion_mnist_test_1000"
WIDE = 96


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A small classifier of clothes: features by chance, and the last layer by least squares. The file and its weights."""
    rows = data.open(CLOTHES)
    batch = next(rows.batches(len(rows)))
    pixels = batch.inputs.reshape(-1, 784).astype(np.float32)
    first = (np.random.default_rng(0).standard_normal((784, WIDE)) / 2_000).astype(np.float32)
    hidden = np.maximum(pixels @ first, 0)
    last = (10 * np.linalg.lstsq(hidden, np.eye(10)[batch.labels], rcond=None)[0]).astype(np.float32)
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> graph (float[n, 1, 28, 28] x) => (float[n, 10] y)
        <int64[2] flat = {0, -1}> { f = Reshape(x, flat) s = MatMul(f, first) h = Relu(s) y = MatMul(h, last) }"""
    )
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(each, name) for name, each in (("first", first), ("last", last))
    )
    path = tmp_path_factory.mktemp("network") / "clothes.onnx"
    path.write_bytes(model.SerializeToString())
    return path, first, last


def stored(path, rows):
    """Rows of the clothes as NPZ, without the axis of colours."""
    batch = next(data.open(CLOTHES).batches(1_000))
    np.savez(path, x=batch.inputs[rows, :, :, 0], y=batch.labels[rows])
    return path


@pytest.fixture(scope="module")
def whole(network, tmp_path_factory):
    """Everything from one data set, proven as serving would."""
    out = tmp_path_factory.mktemp("models")
    return out, own_model.export(network[0], name="clothes", data=CLOTHES, sigma=12.0, out=out, faults=faults)


def test_a_model_with_data_is_served_with_every_guarantee(whole):
    out, bundle = whole
    assert faults(out / "clothes" / "1") == []
    with answers.from_engine(bundle, {"certify": "best", "max_draws": 256}) as ask:
        found, noise = (ask(rows) for rows in (bundle.golden.base_input[0], np.full((1, 28, 28), 255)))
    assert found["certificate"]["status"] == "certified"
    assert found["ood"]["in_distribution"]
    assert not noise["ood"]["in_distribution"]
    assert found["ood"]["certified"]["score_lower"] <= found["ood"]["score"] <= found["ood"]["certified"]["score_upper"]
    assert found["mixture"]["radius"] > 0


def test_what_the_bundle_says_of_its_data(whole):
    _, bundle = whole
    notes, data = bundle.manifest.provenance.notes, bundle.manifest.provenance.data
    assert (bundle.manifest.labels, notes["features"]) == (tuple(map(str, range(10))), "h")
    assert notes["held_out_rows"] == "drawn from the data"
    assert [(each.purpose, each.rows) for each in data] == [("fit", 467), ("choice", 200), ("held out", 333)]
    assert len(bundle.detector.calibration) == 333
    assert bundle.manifest.alpha_split.of_threshold > 0


def test_a_named_score_with_rows_held_out_by_the_user(network, tmp_path):
    """The score is the registry's own formula on the network's logits; names come from the data."""
    path, first, last = network
    rows = np.arange(1_000)
    bundle = own_model.export(
        path,
        name="clothes",
        data=stored(tmp_path / "fit.npz", rows[:800]),
        calibration=stored(tmp_path / "held.npz", rows[800:]),
        score="energy",
        foresee=True,
        also=("joint", "two_sided", "alarm", "confidence"),
        sigma=12.0,
        out=tmp_path,
        work=tmp_path / "work",
        faults=lambda folder: [],
    )
    split = bundle.manifest.alpha_split
    shares = split.of_class, split.of_joint, split.of_confidence, split.of_upper
    assert shares == (0.3, 0.1, 0.1, 0.2)  # .5 without the joint label and confidence
    assert bundle.manifest.two_sided
    assert (bundle.manifest.ood.alarm.radius, bundle.detector.alarm.far) == (6.0, 0.05)
    assert sum(asdict(split).values()) == pytest.approx(1.0)
    assert len(bundle.prior.cells) == len(bundle.prior.margin_edges) + 1 > 1
    assert sorted(each.name for each in (tmp_path / "work").iterdir()) == ["calibration.safetensors", "fit.safetensors"]
    lattice = bundle.golden.noisy_input
    logits = np.maximum(lattice.reshape(-1, 784).astype(np.float64) @ first, 0) @ last
    votes, scores = OnnxRuntime(bundle).noisy(given(lattice))
    assert scores == pytest.approx(-logsumexp(logits, axis=1), rel=1e-4, abs=1e-4)
    assert labels_of(votes, 10).tolist() == logits.argmax(axis=1).tolist()
    sure = np.exp(logits.max(axis=1) - logsumexp(logits, axis=1))
    grades = [np.searchsorted(bundle.manifest.thresholds, sure + shift) for shift in (-1e-5, 1e-5)]
    assert np.all((grades_of(votes, 10) >= grades[0]) & (grades_of(votes, 10) <= grades[1]))
    assert (bundle.manifest.ood.name, len(bundle.detector.calibration)) == ("energy", 200)


def test_a_sigma_that_is_not_said_is_measured_and_foreign_rows_take_part_in_the_choice_of_the_score(
    network, tmp_path, capsys
):
    np.savez(tmp_path / "noise.npz", x=np.random.default_rng(1).integers(0, 256, (60, 28, 28), np.uint8))
    bundle = own_model.export(
        network[0],
        name="clothes",
        data=stored(tmp_path / "fit.npz", np.arange(1_000)),
        outside=[tmp_path / "noise.npz"],
        out=tmp_path,
        faults=lambda folder: [],
    )
    said = capsys.readouterr().err
    rows = [line.split("|") for line in said.splitlines() if line.startswith("| ") and line[2].isdigit()]
    table = {float(row[1]): float(row[-2]) for row in rows}
    assert len(table) == 6
    assert bundle.manifest.law.sigma == max(table, key=table.get)
    assert f"sigma: {bundle.manifest.law.sigma:g}, of the largest mean radius" in said
    assert "noise.npz |" in next(line for line in said.splitlines() if line.startswith("| score"))
    assert [(each.purpose, each.rows) for each in bundle.manifest.provenance.data][-1] == ("outside", 60)


def test_votes_are_foreseen_from_held_out_rows_alone(network, tmp_path):
    rows = np.zeros((8, 1, 28, 28))
    with pytest.raises(SourceError, match="--foresee goes with --data"):
        own_model.export(network[0], name="clothes", samples=rows, foresee=True, sigma=12.0, out=tmp_path)


def test_a_prior_that_saves_no_draws_and_two_sides_that_reach_no_farther_are_left_out_and_said(
    network, tmp_path, capsys
):
    rows = np.arange(1_000)
    own_model.export(
        network[0],
        name="clothes",
        data=stored(tmp_path / "fit.npz", rows),
        score="energy",
        sigma=12.0,
        out=tmp_path,
        faults=lambda folder: [],
    )
    said = capsys.readouterr().err
    found = re.search(r"prior of the votes: (\d\.\d+) of the draws .* on 100 held-out rows; (declared|left out)", said)
    assert (float(found[1]) <= PAYS) or found[2] == "left out"
    bundle = load(tmp_path / "clothes" / "1")
    assert (bundle.prior is not None) == (found[2] == "declared")
    assert re.search(r"two-sided bounds: .* on 64 held-out rows; left out, for they reach no farther to speak of", said)
    assert not bundle.manifest.two_sided


def hundred(folder):
    """A network of a hundred labels, each a column of its own, and rows: noise makes any of them of each."""
    labels = 100
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> graph (float[n, {labels}] x) => (float[n, {labels}] y)
        {{ y = MatMul(x, w) }}"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(10 * np.eye(labels, dtype=np.float32), "w"))
    (folder / "hundred.onnx").write_bytes(model.SerializeToString())
    truth = np.arange(900) % labels
    rows = np.random.default_rng(4).random((900, labels)) * 0.2 + 0.8 * np.eye(labels)[truth]
    np.savez(folder / "hundred.npz", x=rows.astype(np.float32), y=truth)
    return folder / "hundred.onnx", folder / "hundred.npz"


def test_two_sided_bounds_are_declared_where_misses_spread_over_many_labels(tmp_path, capsys):
    model, rows = hundred(tmp_path)
    given = {"name": "hundred", "data": rows, "sigma": 0.3, "score": "energy", "out": tmp_path}
    bundle = own_model.export(model, faults=lambda folder: [], **given)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("two-sided bounds: "))
    assert float(line.split()[2]) > 1.5
    assert line.endswith("on 64 held-out rows; declared, for they reach farther")
    assert bundle.manifest.two_sided


def test_held_out_rows_that_all_give_the_same_are_refused(network, tmp_path):
    """Pictures that are too dark for the network to see anything, say."""
    model = onnx.load(network[0])
    for each in model.graph.node:
        if each.op_type == "MatMul" and each.input[0] == "f":
            each.input[0] = "bright"
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(50), "fifty"))
    seen = parser.parse_graph("g (float[n, 784] f) => (float[n, 784] bright) { d = Sub(f, fifty) bright = Relu(d) }")
    model.graph.node.extend(seen.node)
    model.graph.node.sort(key=lambda each: ["f", "d", "bright", "s", "h", "y"].index(each.output[0]))
    (tmp_path / "bright.onnx").write_bytes(model.SerializeToString())
    dark = np.random.default_rng(0).integers(0, 50, (300, 28, 28), np.uint8)
    np.savez(tmp_path / "dark.npz", x=dark, y=np.arange(300) % 10)
    with pytest.raises(SourceError, match="the same numbers for all 32 held-out rows"):
        own_model.export(
            tmp_path / "bright.onnx",
            name="x",
            data=CLOTHES,
            calibration=tmp_path / "dark.npz",
            sigma=12.0,
            out=tmp_path,
        )


class Brightest(torch.nn.Module):
    """Tells by which half of a small picture is brighter; it takes any size."""

    def forward(self, x):
        halves = torch.stack([x[..., :, :4].mean((1, 2, 3)), x[..., :, 4:].mean((1, 2, 3))], dim=1)
        return halves / 8


def photos(folder, count=30):
    """Pictures of many sizes, brighter on the left or on the right."""
    chance = np.random.default_rng(2)
    for place in range(count):
        height, width = chance.integers(9, 20, 2)
        pixels = chance.integers(0, 100, (height, width, 3), np.uint8)
        side = place % 2
        pixels[:, width // 2 * side : width // 2 * (side + 1)] += 100
        path = folder / ("left", "right")[side] / f"{place}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


def test_photos_of_many_sizes_go_into_a_torch_module_of_any_size(tmp_path):
    given = {"name": "sides", "data": photos(tmp_path / "photos"), "sigma": 4.0, "out": tmp_path / "models"}
    factory = f"{__name__}:Brightest"
    with pytest.raises(SourceError, match="--resize with --data: .*--shape"):
        own_model.export(factory, resize="bilinear", **given)
    with pytest.raises(DataError, match="--resize"):
        own_model.export(factory, shape=(3, 8, 8), **given)
    bundle = own_model.export(factory, resize="bilinear", shape=(3, 8, 8), faults=lambda folder: [], **given)
    assert (bundle.manifest.input.shape, bundle.manifest.labels) == ((3, 8, 8), ("left", "right"))
    assert bundle.manifest.input.kind.resize.method == "bilinear"


def test_a_file_is_opened_once(network, tmp_path, monkeypatch):
    opened = create_autospec(own_model.opened, side_effect=own_model.opened)
    monkeypatch.setattr(own_model, "opened", opened)
    with pytest.raises(SourceError, match="--score"):
        own_model.export(network[0], name="x", data=CLOTHES, resize="nearest", score="guess", sigma=12.0, out=tmp_path)
    opened.assert_called_once()


def test_too_few_rows_give_no_detector_and_say_so(network, tmp_path, capsys):
    bundle = own_model.export(
        network[0],
        name="clothes",
        data=stored(tmp_path / "few.npz", np.arange(200)),
        sigma=12.0,
        out=tmp_path,
        faults=lambda folder: [],
    )
    assert (bundle.manifest.ood, bundle.manifest.mixture.robust_weight) == (None, 0.9)
    assert "no detector, since 66 held-out rows are too few" in capsys.readouterr().err
    few = {"data": tmp_path / "few.npz", "sigma": 12.0, "out": tmp_path}
    with pytest.raises(
        SourceError, match="--also joint needs the threshold of a detector, and there is no detector, since"
    ):
        own_model.export(network[0], name="x", also=["joint"], **few)
    with answers.from_engine(bundle, {"certify": "best", "max_draws": 256}) as ask:
        found = ask(bundle.golden.base_input[0])
    assert (found["ood"], found["certificate"]["status"], found["mixture"]["radius"] > 0) == (None, "certified", True)


@pytest.mark.parametrize(
    "order",
    [
        np.roll(np.arange(10), 1),  # none is right
        [0, 8, 2, 3, 4, 5, 6, 7, 1, 9],  # two are swapped, and eight of ten are right
        [0, 8, 2, 3, 4, 5, 6, 7, 9, 1],  # three in a circle
    ],
)
def test_labels_in_another_order_than_the_networks_are_refused(network, tmp_path, order):
    """Else a certificate would be of the wrong name."""
    batch = next(data.open(CLOTHES).batches(1_000))
    np.savez(tmp_path / "turned.npz", x=batch.inputs[..., 0], y=np.asarray(order)[batch.labels])
    with pytest.raises((SourceError, CalibrationError), match="another order; give them .* --labels|wrong labels"):
        own_model.export(network[0], name="x", data=tmp_path / "turned.npz", sigma=12.0, out=tmp_path)
    assert not list(tmp_path.rglob("*.onnx"))


def test_rows_that_the_network_tells_no_better_than_by_chance_are_refused(network, tmp_path):
    batch = next(data.open(CLOTHES).batches(1_000))
    labels = (batch.labels + np.random.default_rng(0).integers(1, 10, 1_000)) % 10
    np.savez(tmp_path / "chance.npz", x=batch.inputs[..., 0], y=labels)
    with pytest.raises(CalibrationError, match="wrong labels"):
        own_model.export(network[0], name="x", data=tmp_path / "chance.npz", sigma=12.0, score="energy", out=tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data": None}, "--samples"),
        ({"samples": "x.npy"}, "--samples"),
        ({"score": "guess"}, "--score"),
        (
            {"data": None, "samples": np.arange(1568.0).reshape(2, 1, 28, 28), "sigma": None},
            "--sigma: give it, in the units of the samples",
        ),
        ({"data": None, "samples": np.zeros((2, 1, 28, 28)), "outside": ["x"]}, "--outside"),
        ({"mode": "BGR"}, "--mode BGR goes with --samples"),
        ({"calibration": CLOTHES}, "--calibration names the rows of --data"),
        ({"score": "vim"}, "vim cannot be fitted"),
        ({"data": None, "samples": np.zeros((2, 1, 28, 28)), "calibration": "x"}, "--calibration"),
        ({"data": None, "samples": np.zeros((2, 1, 28, 28)), "also": ["joint"]}, "--also joint goes with --data"),
        ({"data": None, "samples": np.zeros((2, 1, 28, 28)), "also": ["alarm"]}, "--also alarm goes with --data"),
        ({"also": ["joint", "joint"]}, "--also: expected some of .*joint.*, each once; got 'joint'"),
        ({"also": ["bets"]}, "--also: expected some of .*; got 'bets'"),
    ],
)
def test_wrong_arguments_are_refused_by_the_flag(network, tmp_path, change, reason):
    with pytest.raises(SourceError, match=reason):
        own_model.export(network[0], **({"name": "x", "data": CLOTHES, "sigma": 12.0, "out": tmp_path} | change))


@pytest.mark.parametrize("own", [False, True])
def test_fit_choice_and_threshold_share_no_row(own):
    """And nothing is lost."""
    rows = of_arrays(np.arange(1_000.0)[:, None], np.arange(1_000) % 3, "x", named=False)
    held = of_arrays(-np.arange(1.0, 101.0)[:, None], np.zeros(100, int), "held", named=False) if own else None
    found = parted(rows, held)
    parts = (found.fit, found.choice, found.held_out)
    sets = [{float(row) for batch in each.batches(7) for row in batch.inputs[:, 0]} for each in parts]
    assert sum(map(len, sets)) == len(set.union(*sets)) == (1_100 if own else 1_000)
    assert min(map(len, sets)) >= 100


def test_some_rows_of_a_data_set_are_the_same_from_any_start():
    rows = of_arrays(np.arange(50.0)[:, None], np.arange(50) % 3, "x", named=False)
    chosen = np.array([0, 3, 4, 17, 40, 49])
    some = rows.only(chosen)
    for start in range(6):
        assert (
            np.concatenate([each.inputs[:, 0] for each in some.batches(2, start)]).tolist() == chosen[start:].tolist()
        )
    assert np.concatenate([each.inputs[:, 0] for each in some.only(np.array([1, 5])).batches(9)]).tolist() == [3, 49]
    assert len({rows.digest, some.digest, rows.only(chosen - chosen % 2).digest}) == 3


def test_pictures_are_brought_into_the_order_of_the_model(network):
    rows = data.open(CLOTHES)
    assert shape_for(rows, None) == shape_for(rows, None, ("n", "n", "n")) == (1, 28, 28)
    assert shape_for(rows, "HWC", (28, 28, 1)) == shape_for(rows, None, (28, 28, 1)) == (28, 28, 1)
    stored_rows = next(rows.batches(3)).inputs
    for shape in ((1, 28, 28), (28, 28), (784,)):
        turned = next(arranged(rows, shape, on_grid=False).batches(3)).inputs
        assert turned.tolist() == stored_rows.reshape(3, *shape).tolist()
    with pytest.raises(DataError, match="bring the data to this shape"):
        arranged(rows, (3, 28, 28), on_grid=False)


def test_samples_reach_as_far_as_the_data():
    values = np.random.default_rng(0).standard_normal((5_000, 2))
    found = samples(of_arrays(values, np.zeros(5_000, int), "x", named=False), None, None)
    assert len(found) < 700
    assert (found.min(), found.max()) == (values.min(), values.max())
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in values.tolist()}


def test_labels_in_memory_are_names_or_indices():
    rows = np.zeros((3, 2))
    assert of_arrays(rows, ["b", "a", "b"], "x", named=True).names == ("a", "b")
    assert of_arrays(rows, np.array([4, 7, 4]), "x", named=True).names == ("4", "7")
    assert of_arrays(rows, np.array([0, 2, 0]), "x", named=False).names == ("0", "1", "2")
    for wrong in ([1, 2], [0, -1, 0]):
        with pytest.raises(DataError):
            of_arrays(rows, wrong, "x", named=False)
