"""Confidence claimed of a foreign model: votes with grades by its own numbers, thresholds that suit it, refusals."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

import export
from certify.claims.confidence import check_thresholds, grades_of, labels_of
from export import own_model
from export.build.grades import chosen
from export.bundle import load
from export.graphs.reading import NOISY, GraphError, read
from export.sources.source import SourceError
from serving.commands import answers
from serving.commands.check import faults
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import given
from tests.export import three_layers
from tests.export.foreign import LOGITS, ONE_LOGIT, ONE_SIGMOID, ROWS, SIGMOID, SOFTMAX, written

ONE = "float[n, 1] y"


def exported(path, tmp_path, samples=ROWS, proofs=lambda folder: [], **declared):
    """`proofs`: those that serving runs where they are the point, for they take a second."""
    settings = {"also": ["confidence"], "sigma": 0.2, "out": tmp_path / "models", "faults": proofs} | declared
    return own_model.export(path, name="parts", samples=samples, **settings)


@pytest.mark.parametrize(
    ("body", "outputs", "opset"),
    [(LOGITS, "float[n, 3] y", 17), (SOFTMAX, "float[n, 3] y", 9), (ONE_SIGMOID, ONE, 13), (ONE_LOGIT, ONE, 20)],
    ids=["logits", "softmax of an old opset", "one sigmoid", "one logit"],
)
def test_a_vote_has_the_grade_of_the_networks_own_number(tmp_path, body, outputs, opset):
    said = {"output_kind": "logits"} if body == ONE_LOGIT else {}
    bundle = exported(written(tmp_path, body, outputs, opset=opset), tmp_path, **said)
    thresholds, labels = bundle.manifest.thresholds, len(bundle.manifest.labels)
    check_thresholds(thresholds)
    split = bundle.manifest.alpha_split
    assert (split.of_class, split.of_upper, split.of_confidence) == (0.7, 0.2, 0.1)
    rows = np.random.default_rng(1).integers(-50, 300, (400, 4)).astype(np.int32)
    runtime = OnnxRuntime(bundle)
    numbers, votes = runtime.base(rows), runtime.noisy(given(rows))[0]
    voted = labels_of(votes, labels)
    assert np.array_equal(voted, numbers.argmax(axis=1))
    own = numbers[np.arange(len(rows)), voted]
    # ONNX Runtime may round a row of another batch otherwise.
    sure = np.min(np.abs(own[:, None] - np.array(thresholds)), axis=1) > 1e-6
    assert np.array_equal(grades_of(votes, labels)[sure], np.searchsorted(thresholds, own[sure], side="left"))
    assert len(set(grades_of(votes, labels).tolist())) > 2
    assert bundle.golden.votes.max() > labels


def test_it_is_proven_served_and_said(tmp_path):
    bundle = exported(written(tmp_path, SOFTMAX), tmp_path, proofs=faults, sigma=0.05)
    with answers.from_engine(bundle, {"certify": "best", "max_draws": 512}) as ask:
        found = ask(bundle.golden.base_input[0])
    said = found["confidence"]
    assert (said["label"], said["radius"]) == (found["certificate"]["label"], found["certificate"]["radius"])
    assert 0 < said["lower"] < said["lower_at_input"] < 1


def test_a_vote_for_none_has_no_grade(tmp_path):
    bundle = exported(written(tmp_path, "l = Log(x) y = Gemm(l, w, b)"), tmp_path, ROWS + 1, sigma=0.05)
    spec = bundle.manifest.input
    below = np.full((1, 4), round((-1 - spec.low) / spec.step), np.int32)
    assert OnnxRuntime(bundle).noisy(given(below))[0].tolist() == [3]


def test_numbers_that_do_not_sum_to_one_are_refused(tmp_path):
    path = written(tmp_path, SIGMOID)
    with pytest.raises(
        SourceError, match="--also confidence needs probabilities, and .* gives sigmoid numbers, which do"
    ):
        exported(path, tmp_path)
    assert not (tmp_path / "models").exists()
    with pytest.raises(SourceError, match=r"--also: expected some of .*confidence, each once; got 'confidence'"):
        exported(path, tmp_path, also=["confidence", "confidence"])


BEYOND = """f = MatMul(x, first) over = Sub(f, whole) r = Relu(over) k = Mul(r, steep) p = Add(f, k) q = Sub(whole, p)
    y = Concat<axis = 1>(q, p)"""
FIRST = ", float[4,1] first = {1.0, 0.0, 0.0, 0.0}, float[1] whole = {1.0}, float[1] steep = {300.0}"


@pytest.mark.parametrize(
    ("body", "outputs", "said"),
    [(BEYOND, "float[n, 2] y", {}), ("y = MatMul(x, first)", ONE, {"output_kind": "sigmoid"})],
    ids=["two labels", "one number"],
)
def test_numbers_that_noise_takes_below_0_are_refused(tmp_path, body, outputs, said):
    """They are probabilities everywhere on the grid. Beyond it, the mean of one of them may be less than any sum of what
    exceeds thresholds."""
    path = written(tmp_path, body, outputs, constants=FIRST)
    with pytest.raises(SourceError, match="--also confidence needs probabilities, and under noise .* gives a label -"):
        exported(path, tmp_path, low=0.0, high=1.0, **said)
    assert not (tmp_path / "models").exists()


def test_a_graph_that_compares_with_other_thresholds_than_are_declared_is_refused(tmp_path):
    bundle = exported(written(tmp_path, LOGITS), tmp_path)
    model = onnx.load_from_string(bundle.noisy)
    assert read(bundle, NOISY).graph.node == model.graph.node
    (place,) = (each for each in model.graph.initializer if each.name == "confidence/thresholds")
    place.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(place) * np.float32(0.5), place.name))
    for name in ("base", "noisy"):  # one graph in both roles
        object.__setattr__(bundle, name, model.SerializeToString())
    with pytest.raises(
        GraphError, match=r"compares no number \(Greater\) with the thresholds that the manifest declares"
    ):
        read(bundle, NOISY)


def lower_sum(thresholds, numbers):
    shares = [np.mean(numbers > each) for each in thresholds]
    return float(np.diff([0.0, *thresholds]) @ shares)


@pytest.mark.parametrize("shape", [(8, 2), (0.5, 0.5), (1, 30), (400, 1), (1, 1)])
def test_the_thresholds_leave_little_of_the_mean(shape):
    """Of confidences however they are spread; no set of equal steps does better, nor does any of the same few values."""
    numbers = np.random.default_rng(5).beta(*shape, 4_000).astype(np.float32)
    found = chosen(numbers)
    check_thresholds(found)
    assert 0.8 * numbers.mean() < lower_sum(found, numbers) < numbers.mean()
    assert lower_sum(found, numbers) > lower_sum(np.arange(1, 9) / 9, numbers) - 0.01
    few = np.repeat([0.25, 0.5, 0.625, 0.75, 0.875], 20)
    best = max(
        lower_sum([each - 1e-3 for each in two], few) for two in combinations([0.25, 0.5, 0.625, 0.75, 0.875], 2)
    )
    assert lower_sum(chosen(few, 2), few) == pytest.approx(best, abs=2e-3)


@pytest.mark.parametrize("number", [0.25, 0.5, 0.75, 1.0])
def test_no_threshold_lies_so_near_to_a_number_that_rounding_may_pass_it(number):
    """Such as the shares of trees, summed in any order."""
    steps = (np.arange(-4, 5) * np.spacing(np.float32(number))).astype(np.float32)
    numbers = np.minimum(np.float32(1), np.repeat(np.float32(number) + steps, 9))
    (threshold,) = chosen(numbers)
    assert number * (1 - 3e-3) < threshold < number * (1 - 1e-4)


def test_of_few_values_there_are_few_thresholds_and_of_none_there_is_no_claim():
    assert chosen(np.array([0.75] * 9)) == pytest.approx((0.75,), abs=1e-3)
    assert chosen(np.array([1.0] * 9 + [0.0]))[0] < 1
    with pytest.raises(SourceError, match="votes for no label with any confidence"):
        chosen(np.zeros(9))


def test_in_8_bits_the_grades_are_those_of_the_integers(tmp_path):
    """The scales are of other numbers, so that the grades are, too; labels are compared where precisions are."""
    three_layers.written(tmp_path)
    rows, _ = three_layers.rows_of(60, 3)
    grid = {"sigma": three_layers.SIGMA, "low": 0.0, "high": 1.0}
    bundle = exported(tmp_path / "net.onnx", tmp_path, rows, **grid)
    assert bundle.manifest.thresholds
    source, data = tmp_path / "models" / "parts" / "1", tmp_path / "data.npz"
    made = export.quantize(source, data=data, rows=5, draws=20, faults=lambda folder: [])
    quantised = load(made.folder)
    assert quantised.manifest.thresholds == bundle.manifest.thresholds
    float_figures, byte_figures = made.precisions
    assert (float_figures.flips, byte_figures.flips < 0.5) == (0.0, True)
    session = onnxruntime.InferenceSession(quantised.noisy)
    votes = session.run(["vote"], {"lattice": quantised.golden.noisy_input})[0]
    assert np.array_equal(votes, quantised.golden.votes)
    assert votes.max() > len(bundle.manifest.labels)
