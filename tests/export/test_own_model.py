"""A foreign model to a bundle: its own numbers kept, proven as served, or refused with nothing left behind."""

from __future__ import annotations

from argparse import ArgumentTypeError
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx.reference import ReferenceEvaluator
from safetensors.torch import save_file
from torch import nn

from export import own_model
from export.build.grid import MOST_STEPS, GridError, declared
from export.bundle import graphs, load
from export.graphs import prepared
from export.graphs.reading import GraphError
from export.options import labels
from export.sources.source import Source, SourceError
from serving.commands import answers
from serving.commands.check import faults
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import given
from tests.export.foreign import LOGITS, ONE_LOGIT, ONE_SIGMOID, ROWS, SIGMOID, SOFTMAX, written

ONE = "float[n, 1] y"


def exported(path, tmp_path, samples=ROWS, sigma=0.2, proofs=lambda folder: [], **declared):
    """`proofs`: those that serving runs where they are the point, for they take a second."""
    return own_model.export(
        path, name="parts", samples=samples, sigma=sigma, out=tmp_path / "models", faults=proofs, **declared
    )


def served(bundle, samples=ROWS):
    """The base graph's numbers and the noisy graph's votes, of the runtime that serves, for samples on the grid."""
    spec, runtime = bundle.manifest.input, OnnxRuntime(bundle)
    lattice = np.rint((samples - spec.low) / spec.step).astype(np.int32)
    return lattice, runtime.base(lattice), runtime.noisy(given(lattice))[0]


def original(path, values):
    return onnxruntime.InferenceSession(path).run(["y"], {"x": values})[0].reshape(len(values), -1)


@pytest.mark.parametrize(
    ("body", "outputs", "expected", "kind"),
    [
        (LOGITS, "float[n, 3] y", lambda y: np.exp(y) / np.exp(y).sum(axis=1, keepdims=True), "probabilities"),
        (SOFTMAX, "float[n, 3] y", lambda y: y, "probabilities"),
        (SIGMOID, "float[n, 3] y", lambda y: y, "scores"),
        (ONE_SIGMOID, ONE, lambda y: np.hstack([1 - y, y]), "probabilities"),
        (ONE_LOGIT, ONE, lambda y: np.hstack([1 - 1 / (1 + np.exp(-y)), 1 / (1 + np.exp(-y))]), "probabilities"),
    ],
)
def test_an_outputs_own_numbers_come_out(tmp_path, body, outputs, expected, kind):
    """Within 1e-5; a softmax is added to logits alone, and what does not sum to one is not called a probability."""
    path = written(tmp_path, body, outputs)
    said = {"output_kind": "logits"} if body == ONE_LOGIT else {}
    bundle = exported(path, tmp_path, proofs=faults, **said)
    lattice, numbers, votes = served(bundle)
    spec = bundle.manifest.input
    wanted = expected(original(path, (spec.low + spec.step * lattice).astype(np.float32)))
    np.testing.assert_allclose(numbers, wanted, atol=1e-5)
    assert bundle.manifest.base_output == kind
    assert np.array_equal(votes, wanted.argmax(axis=1))


def test_a_network_of_sigmoids_is_answered_with_a_certificate_and_scores(tmp_path):
    path = written(tmp_path, SIGMOID)
    bundle = exported(path, tmp_path, sigma=0.05)
    with answers.from_engine(bundle, {"certify": "best", "max_draws": 256}) as ask:
        found = ask(bundle.golden.base_input[0])
    assert (found["probabilities"], found["mixture"], found["ood"]) == (None, None, None)
    assert found["scores"] == pytest.approx(bundle.golden.base_probabilities[0].tolist(), abs=1e-5)
    assert found["certificate"]["label"] in bundle.manifest.labels


def test_the_file_as_it_came_travels_in_the_bundle_under_its_digest(tmp_path):
    path = written(tmp_path, SOFTMAX)
    exported(path, tmp_path)
    folder = tmp_path / "models" / "parts" / "1"
    assert (folder / "original.onnx").read_bytes() == path.read_bytes()
    assert "original.onnx" in load(folder).manifest.files


def test_a_version_is_never_written_over(tmp_path):
    path = written(tmp_path, SOFTMAX)
    assert [exported(path, tmp_path).manifest.version for _ in range(2)] == ["1", "2"]


MENDED = {
    "a fixed batch, reshaped by name": ("r = Reshape(x, flat) y = Gemm(r, w, b)", "float[1, 3] y", "float[1, 4] x"),
    "a fixed batch at the end": ("z = Gemm(x, w, b) y = Reshape(z, named)", "float[1, 3] y", "float[1, 4] x"),
    "a batch of three": ("y = Gemm(x, w, b)", "float[3, 3] y", "float[3, 4] x"),
    "doubles": ("f = Cast<to = 1>(x) z = Gemm(f, w, b) y = Cast<to = 11>(z)", "double[n, 3] y", "double[n, 4] x"),
    "bytes that become floats": ("f = Cast<to = 1>(x) y = Gemm(f, w, b)", "float[n, 3] y", "uint8[n, 4] x"),
    "maps of one number": (
        "r = Reshape(x, tall) c = Conv(r, k) y = Sigmoid(c)",
        "float[n, 3, 1, 1] y",
        "float[n, 4] x",
        ", int64[4] tall = {-1, 4, 1, 1}, float[3,4,1,1] k ="
        " {1.0, -2.0, 0.5, 0.3, 2.0, 0.1, -1.0, 0.7, -0.4, 1.2, 0.9, -1.0}",
    ),
}


@pytest.mark.parametrize("case", MENDED)
def test_what_can_be_mended_is(tmp_path, case):
    body, outputs, given, *constants = MENDED[case]
    samples = np.rint(ROWS * 255).astype(np.uint8) if "bytes" in case else ROWS
    sigma = 20 if "bytes" in case else 0.2
    bundle = exported(written(tmp_path, body, outputs, given, *constants), tmp_path, samples, sigma)
    assert len(bundle.manifest.labels) == 3


def test_a_dropout_of_old_with_its_mask(tmp_path):
    exported(written(tmp_path, "d, mask = Dropout(x) y = Gemm(d, w, b)", opset=9), tmp_path)


@pytest.mark.parametrize("opset", [7, 9, 11, 13, 20])
def test_opsets_old_and_new(tmp_path, opset):
    exported(written(tmp_path, SOFTMAX, opset=opset), tmp_path, proofs=faults if opset == 7 else lambda folder: [])


def test_data_beside_the_file_are_put_into_it(tmp_path):
    model = onnx.load(written(tmp_path, SOFTMAX))
    for each in model.graph.initializer:  # only raw bytes may lie outside
        each.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(each), each.name))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    bundle = exported(tmp_path / "model.onnx", tmp_path)
    (tmp_path / "weights.bin").unlink()
    assert load(tmp_path / "models" / "parts" / "1").digest == bundle.digest
    with pytest.raises(SourceError, match="bring both files"):
        exported(tmp_path / "model.onnx", tmp_path)


@pytest.mark.parametrize(
    ("node", "after"),
    [
        ("m = ReduceMean<axes = [1, 2, 3], keepdims = 1>(x) c = Sub(x, m)", "c"),
        ("m = ReduceMean<axes = [2, 3], keepdims = 0>(x) e = Unsqueeze(m, places) c = Sub(x, e)", "c"),
        ("c = InstanceNormalization(x, s, s)", "c"),
        ("m = ReduceSum<keepdims = 1>(x, places) c = Sub(x, m)", "c"),
    ],
)
def test_sums_that_depend_on_the_slot_are_rewritten_and_the_same(tmp_path, node, after):
    """A mean over 3x5x5 gives four bit patterns in 32 slots of ONNX Runtime; the bundle's proof would refuse it."""
    constants = ", int64[2] places = {2, 3}, float[3] s = {1.0, 2.0, 1.5}, int64[2] rows = {0, -1}, float[75, 3] k = {"
    constants += ", ".join(f"{each:.3f}" for each in np.random.default_rng(0).standard_normal(225)) + "}"
    path = written(
        tmp_path,
        f"{node} f = Reshape({after}, rows) y = Gemm(f, k, b)",
        given="float[n, 3, 5, 5] x",
        constants=constants,
    )
    pictures = np.random.default_rng(1).random((8, 3, 5, 5)).astype(np.float32)
    bundle = exported(path, tmp_path, pictures, proofs=faults)
    assert bundle.manifest.provenance.notes["rewritten_sums"] != "none"


def test_preprocessing_goes_into_the_graph(tmp_path):
    """Colours turned, mean and deviation: a picture in bytes as the caller has it."""
    body = "f = Reshape(x, rows) y = Gemm(f, k, b)"
    weights = ", ".join(f"{each:.3f}" for each in np.random.default_rng(0).standard_normal(36))
    constants = ", int64[2] rows = {0, -1}, float[12, 3] k = {" + weights + "}"
    path = written(tmp_path, body, given="float[n, 2, 2, 3] x", constants=constants)
    pictures = np.random.default_rng(1).integers(0, 256, (8, 2, 2, 3)).astype(np.uint8)
    bundle = exported(
        path, tmp_path, pictures, 25, mean=(104, 117, 123), std=(50,), channels="reversed", labels=("a", "b", "c")
    )
    z = original(path, ((pictures[..., ::-1].astype(np.float64) - (104, 117, 123)) / 50).astype(np.float32))
    np.testing.assert_allclose(served(bundle, pictures)[1], np.exp(z) / np.exp(z).sum(axis=1, keepdims=True), atol=1e-5)
    assert (bundle.manifest.input.layout, bundle.manifest.input.top, bundle.manifest.labels) == (
        "HWC",
        255,
        ("a", "b", "c"),
    )


def test_another_source_is_a_graph_and_what_its_own_framework_answers(tmp_path):
    """One that no module of the product knows is compared with its own answers."""
    data = written(tmp_path, SOFTMAX).read_bytes()
    own = ReferenceEvaluator(onnx.load_from_string(data))
    source = Source(
        name="theirs",
        original=data,
        model=onnx.load_from_string(data),
        reference=lambda values: {"y": own.run(None, {"x": values})[0]},
        labels=("a", "b", "c"),
    )
    given = {"name": "parts", "sigma": 0.2, "out": tmp_path, "faults": lambda folder: []}
    assert own_model.from_source(source, ROWS, **given).manifest.labels == ("a", "b", "c")
    wrong = replace(source, reference=lambda values: {"y": own.run(None, {"x": values})[0][:, ::-1]})
    with pytest.raises(SourceError, match="differs from the original"):
        own_model.from_source(wrong, ROWS, **given)


def test_a_model_that_does_not_give_what_its_original_gives_is_refused(tmp_path):
    """Exported in a wrong mode, or with another activation: nothing is left behind."""
    path = written(tmp_path, SIGMOID)
    z = original(written(tmp_path, SIGMOID.replace("y = Sigmoid(z)", "y = Identity(z)")), ROWS)
    path = written(tmp_path, SIGMOID)
    right, swapped = 1 / (1 + np.exp(-z)), np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    exported(path, tmp_path, expected=right)
    for wrong in (swapped, right + 1e-4, right[::-1]):
        with pytest.raises(SourceError, match="differs from the original"):
            exported(path, tmp_path, expected=wrong)
    assert [each.name for each in (tmp_path / "models" / "parts").iterdir()] == ["1"]


def test_a_vote_that_is_not_finite_is_for_none(tmp_path):
    path = written(tmp_path, "l = Log(x) y = Gemm(l, w, b)")
    bundle = exported(path, tmp_path, ROWS + 1, 0.05)
    spec = bundle.manifest.input
    below = np.full((1, 4), round((-1 - spec.low) / spec.step), np.int32)
    assert OnnxRuntime(bundle).noisy(given(below))[0].tolist() == [3]


@pytest.mark.parametrize(
    ("samples", "sigma", "grid"),
    [
        (np.array([[0, 255]], np.uint8), 16, (0, 1, 255)),
        (np.array([[0, 51, 255]]) / 255, 0.25, (0, 1 / 255, 1)),
        (np.array([[-3.0, 40.0]]), 2, (-3, 1, 40)),
        (np.array([[0.0, 200.0]]), 20, (0, 1, 255)),
    ],
)
def test_a_grid_is_seen_in_the_samples(samples, sigma, grid):
    found = declared(samples, sigma)
    assert [float(each) for each in (found.low, found.step, found.high)] == pytest.approx(grid, rel=1e-12)
    assert not found.made_up


@pytest.mark.parametrize("sigma", [0.25, 0.1, 1 / 3, 7e-3, 40.0, 0.5])
@pytest.mark.parametrize("step", [1 / 255, 0.01, 1 / 3, 1.0, 1e-4])
def test_sigma_in_steps_is_never_below_sigma(sigma, step):
    """Else radii would come out a hair short."""
    from fractions import Fraction

    if not sigma / step < MOST_STEPS:
        with pytest.raises(GridError, match="give --step"):
            declared(np.zeros((2, 1)), sigma, low=0, step=step, high=1000 * step)
        return
    found = declared(np.zeros((2, 1)), sigma, low=0, step=step, high=1000 * step)
    assert Fraction(found.sigma_steps) * Fraction(found.length) >= Fraction(sigma)
    assert abs(found.sigma - found.sigma_steps * found.length) <= 2.0**-50 * sigma


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": ROWS[:, :3]}, "shape 4"),
        ({"samples": ROWS[:1]}, "two or more that differ"),
        ({"samples": np.full((4, 4), np.nan, np.float32)}, "not a finite number, in 4 rows, the first of them 0"),
        ({"sigma": 0.0}, "--sigma"),
        ({"labels": ("a", "b")}, "2 labels were given"),
        ({"low": 0.5}, "--low"),
        ({"mean": (1.0, 2.0)}, "--mean"),
        ({"std": (0.0,)}, "--std"),
        ({"channels": "reversed"}, "--channels"),
        ({"layout": "CHW"}, "--layout"),
        ({"output": "z"}, "no output 'z'"),
        ({"output_kind": "guess"}, "--output-kind"),
        ({"output_kind": "softmax"}, "--output-kind softmax: .*beyond 0 to 1"),
        ({"labels": ("a", "b", "a")}, "'a' is there twice"),
        ({"labels": ("a", "b", "c\n")}, "no bundle can declare this: labels"),
        ({"units": "a\nb"}, "no bundle can declare this: units"),
        ({"shape": (4,)}, "--shape goes with --data"),
        ({"weights": "w.safetensors"}, "--weights"),
        ({"expected": ROWS[:2]}, "--expected"),
    ],
)
def test_wrong_arguments_are_refused_by_the_flag(tmp_path, change, reason):
    given = {"samples": ROWS, "sigma": 0.2} | change
    with pytest.raises((SourceError, GridError), match=reason):
        exported(written(tmp_path, LOGITS), tmp_path, **given)
    assert not list((tmp_path / "models").rglob("*.onnx"))


@pytest.mark.parametrize("name", ["a b", "", "../up", "stats", "n" * 200])
def test_a_name_that_no_server_can_have_is_refused_before_anything_is_done(tmp_path, name):
    out = tmp_path / "models"
    with pytest.raises(SourceError, match="no bundle can declare this: .*name"):
        own_model.export(written(tmp_path, LOGITS), name=name, samples=ROWS, sigma=0.2, out=out, faults=faults)
    assert not out.exists()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (ONE_LOGIT, {"output_kind": "logits"}),
        ("z = MatMul(x, v) y = Clip(z, low, high)", {"output_kind": "sigmoid"}),
        (ONE_SIGMOID, {}),
    ],
)
def test_one_number_a_row_is_no_label_before_the_user_says_so(tmp_path, body, said):
    """It may be a regression, but for what Sigmoid makes."""
    path = written(tmp_path, body, ONE, constants=", float low = {0.0}, float high = {1.0}")
    assert exported(path, tmp_path, **said).manifest.base_output == "probabilities"
    if said:
        with pytest.raises(SourceError, match=r"one number a row, 'y'.* a quantity.*--output-kind logits"):
            exported(path, tmp_path)


OTHER = ", float[4,1] u = {-3.0, 5.0, -4.0, 3.0}, float low = {0.0}, float high = {1.0}"
OTHER_LOGITS, OTHER_SOFTMAX = LOGITS.replace("Relu(s)", "Neg(s)"), SOFTMAX.replace("Relu(s)", "Neg(s)")
OTHER_LOGIT, OTHER_SIGMOID = "y = MatMul(x, u)", "z = MatMul(x, u) y = Sigmoid(z)"
OTHER_CLIP = "z = MatMul(x, u) y = Clip(z, low, high)"


def two_networks(tmp_path, first, robust):
    """The files of an accurate network and of one that votes, of other weights; each gives three numbers, or one."""
    for folder in ("first", "robust"):
        (tmp_path / folder).mkdir()
    outputs = [ONE if "Gemm" not in body else "float[n, 3] y" for body in (first, robust)]
    return (
        written(tmp_path / "first", first, outputs[0]),
        written(tmp_path / "robust", robust, outputs[1], constants=OTHER),
    )


@pytest.mark.parametrize(
    ("first", "robust", "said", "cut"),
    [
        (LOGITS, OTHER_SOFTMAX, None, None),
        (LOGITS, OTHER_SOFTMAX, "logits", None),
        (SOFTMAX, OTHER_LOGITS, "softmax", None),
        (ONE_LOGIT, OTHER_LOGIT, "logits", 0.0),
        (ONE_LOGIT, OTHER_SIGMOID, "logits", 0.5),
        (ONE_SIGMOID, OTHER_SIGMOID, None, 0.5),
        (ONE_SIGMOID, OTHER_LOGIT, "logits", 0.0),
        (ONE_SIGMOID, OTHER_CLIP, "sigmoid", 0.5),
    ],
)
def test_what_the_robust_network_gives_is_found_by_running_it(tmp_path, first, robust, said, cut):
    """And is as said where that is open, of whichever network. `cut`: where one number means the second label."""
    one, other = two_networks(tmp_path, first, robust)
    bundle = exported(one, tmp_path, robust=other, output_kind=said)
    lattice, numbers, votes = served(bundle)
    values = (bundle.manifest.input.low + bundle.manifest.input.step * lattice).astype(np.float32)
    given, voted = original(one, values), original(other, values)
    wanted = voted.argmax(axis=1) if cut is None else (voted[:, 0] > cut).astype(int)
    assert np.array_equal(votes, wanted)
    assert len(set(votes)) > 1
    expected = given if first == SOFTMAX else np.exp(given) / np.exp(given).sum(axis=1, keepdims=True)
    if cut is not None:
        second = given if first == ONE_SIGMOID else 1 / (1 + np.exp(-given))
        expected = np.hstack([1 - second, second])
    np.testing.assert_allclose(numbers, expected, atol=1e-5)
    assert bundle.manifest.base_output == "probabilities"


@pytest.mark.parametrize(
    ("first", "robust", "said", "reason"),
    [
        (
            ONE_SIGMOID,
            OTHER_LOGIT,
            None,
            r"robust\.onnx gives one number a row, 'y'.* a quantity.*--output-kind logits",
        ),
        (ONE_SIGMOID, OTHER_CLIP, None, r"robust\.onnx gives one number a row, 'y'.* a quantity.*--output-kind logits"),
        (ONE_LOGIT, OTHER_SIGMOID, None, r"model\.onnx gives one number a row, 'y'.* a quantity.*--output-kind logits"),
        (ONE_SIGMOID, OTHER_LOGIT, "sigmoid", r"--output-kind sigmoid: robust\.onnx gives numbers .*beyond 0 to 1"),
        (ONE_SIGMOID, OTHER_SIGMOID, "logits", r"--output-kind logits: model\.onnx gives what a Sigmoid has made"),
        (ONE_SIGMOID, OTHER_LOGITS, None, "--robust: robust.onnx tells 3 labels apart, and model.onnx 2"),
    ],
)
def test_a_robust_network_whose_output_may_be_anything_is_refused_by_the_flag(tmp_path, first, robust, said, reason):
    one, other = two_networks(tmp_path, first, robust)
    other = other.rename(other.with_name("robust.onnx"))
    with pytest.raises(SourceError, match=reason):
        exported(one, tmp_path, robust=other, output_kind=said)
    assert not (tmp_path / "models").exists()


def test_the_robust_networks_output_is_found_among_several_by_its_name(tmp_path):
    one, other = two_networks(tmp_path, LOGITS, OTHER_LOGITS)
    both = written(other.parent, OTHER_LOGITS, "float[n, 3] y, float[n, 4] s")
    with pytest.raises(SourceError, match="several outputs that may classify: y .*, s .*--output NAME"):
        exported(one, tmp_path, robust=both)
    bundle = exported(one, tmp_path, robust=both, output="y")
    assert len(bundle.manifest.labels) == 3


def test_one_number_beyond_0_to_1_is_no_probability_whatever_is_said(tmp_path):
    with pytest.raises(SourceError, match="--output-kind sigmoid: .*beyond 0 to 1"):
        exported(written(tmp_path, ONE_LOGIT, ONE), tmp_path, output_kind="sigmoid")


@pytest.mark.parametrize(
    "body",
    [
        "z = Gemm(x, w, b) y = Sub(z, z)",
        "n = Neg(x) h = Relu(n) y = Gemm(h, w, b)",  # dead for inputs from 0 to 1
        "z = Gemm(x, w, b) s = Mul(z, zero) p = Softmax(s) y = Identity(p)",
    ],
)
def test_a_network_that_gives_the_same_for_every_input_is_refused(tmp_path, body):
    """As the accurate network, and as the one that votes."""
    path = written(tmp_path, body, constants=", float zero = {0.0}")
    with pytest.raises(SourceError, match="the same numbers for all 24 samples"):
        exported(path, tmp_path)
    (tmp_path / "one").mkdir()
    with pytest.raises(SourceError, match="the same numbers for all 24 samples"):
        exported(written(tmp_path / "one", LOGITS), tmp_path, robust=path)


def test_a_robust_network_of_another_precision_is_declared_as_it_is(tmp_path):
    half = "h = Cast<to = 10>(x) g = Cast<to = 10>(w) m = MatMul(h, g) y = Cast<to = 1>(m)"
    (tmp_path / "half").mkdir()
    robust = written(tmp_path / "half", half)
    bundle = exported(written(tmp_path, LOGITS), tmp_path, robust=robust)
    assert (bundle.manifest.graphs.base.precision, bundle.manifest.graphs.noisy.precision) == ("float32", "float16")
    prepared.check(bundle)
    wrong = bundle.manifest.model_copy(update={"graphs": graphs(score=False)})
    with pytest.raises(GraphError, match=r"noisy.onnx computes in float16, and the manifest declares float32"):
        prepared.check(replace(bundle, manifest=wrong))


def test_labels_come_from_a_file_as_other_programs_write_it(tmp_path):
    file = tmp_path / "labels.txt"
    file.write_bytes("\ufeffäpfel, rot\r\nbirnen\r\n\r\n kirschen \r\n".encode())
    assert labels(str(file)) == ("äpfel, rot", "birnen", "kirschen")
    assert labels("a, b") == ("a", "b")
    for wrong in ("", "alone", str(tmp_path / "nowhere.txt")):
        with pytest.raises(ArgumentTypeError, match="two names or more"):
            labels(wrong)
    file.write_bytes(b"a\nb\xff\n")
    with pytest.raises(ArgumentTypeError, match="UTF-8"):
        labels(str(file))


class Dense(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.drop, self.last = (
            nn.Linear(4, 8),
            nn.BatchNorm1d(8),
            nn.Dropout(0.5),
            nn.Linear(8, 3),
        )

    def forward(self, x):
        return self.last(self.drop(torch.relu(self.norm(self.first(x)))))


def dense():
    torch.manual_seed(1)
    return Dense()


class Two(nn.Module):
    """A box and its probabilities, as R-Net of a detector of faces gives them."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.box, self.labels = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.box(x), self.labels(8 * x - 4).softmax(1)


def shallow():
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_factory_of_torch_modules_with_weights_that_hold_numbers_alone(tmp_path, suffix):
    trained = dense()
    with torch.no_grad():
        trained.last.weight.mul_(3)
    file = tmp_path / f"weights.{suffix}"
    save_file(trained.state_dict(), file) if suffix == "safetensors" else torch.save(trained.state_dict(), file)
    bundle = exported("tests.export.test_own_model:dense", tmp_path, weights=file)
    with torch.no_grad():
        spec = bundle.manifest.input
        lattice, numbers, _ = served(bundle)
        wanted = trained.eval()(torch.from_numpy((spec.low + spec.step * lattice).astype(np.float32))).softmax(1)
    np.testing.assert_allclose(numbers, wanted.numpy(), atol=1e-5)


def test_of_several_outputs_of_a_module_the_one_that_classifies_is_taken(tmp_path):
    """Its numbers come out as they are."""
    bundle = exported("tests.export.test_own_model:Two", tmp_path)
    lattice, numbers, _ = served(bundle)
    spec = bundle.manifest.input
    with torch.no_grad():
        wanted = Two()(torch.from_numpy((spec.low + spec.step * lattice).astype(np.float32)))[1]
    np.testing.assert_allclose(numbers, wanted.numpy(), atol=1e-5)
    assert bundle.manifest.labels == ("0", "1")


class Says(nn.Module):
    def forward(self, x):
        return "a label"


class Anything:
    pass


def test_weights_that_could_run_code_or_are_of_another_module_are_refused(tmp_path):
    for name, saved in (("object", Anything()), ("module", dense()), ("list", [1])):
        torch.save(saved, tmp_path / f"{name}.pt")
        with pytest.raises(SourceError, match="state dict"):
            exported("tests.export.test_own_model:dense", tmp_path, weights=tmp_path / f"{name}.pt")
    save_file(shallow().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(SourceError, match="does not hold the weights"):
        exported("tests.export.test_own_model:dense", tmp_path, weights=tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("tests.export.nowhere:dense", "cannot be imported"),
        ("tests.export.test_own_model:nothing", "cannot be imported"),
        ("tests.export.test_own_model:Anything", "expected a torch"),
        ("tests.export.test_own_model:Says", "it gives a str; expected a tensor, or a tuple or dictionary of tensors"),
    ],
)
def test_a_factory_that_is_none_is_refused(tmp_path, model, reason):
    with pytest.raises(SourceError, match=reason):
        exported(model, tmp_path)


def test_a_torch_module_in_training_mode_is_refused_and_keeps_its_mode(tmp_path):
    """Its own answers are those of dropout and of the batch, and no graph gives them."""
    module = dense()
    common = {"name": "dense", "sigma": 0.2, "out": tmp_path, "faults": faults}
    with pytest.raises(SourceError, match=r"training mode.*eval\(\)"):
        own_model.from_torch(module.train(), ROWS, **common)
    assert module.training
    assert own_model.from_torch(module.eval(), ROWS, **common).manifest.version == "1"


def test_a_scikit_learn_pipeline_with_its_scaler(tmp_path):
    from sklearn.datasets import load_wine
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    data = load_wine()
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(data.data, data.target_names[data.target])
    bundle = own_model.from_scikit_learn(
        pipeline, data.data, data.target, name="wine", sigma=0.5, out=tmp_path, faults=faults
    )
    spec = bundle.manifest.input
    lattice, numbers, _ = served(bundle, data.data)
    np.testing.assert_allclose(numbers, pipeline.predict_proba(spec.low + spec.step * lattice), atol=1e-5)
    assert bundle.manifest.labels == tuple(data.target_names)


def test_a_pipeline_whose_sums_depend_on_the_slot(tmp_path):
    """Naive Bayes adds up over its 5 columns, which ONNX Runtime does in another order from slot to slot."""
    from sklearn.naive_bayes import GaussianNB

    rows = np.random.default_rng(0).standard_normal((60, 5))
    model = GaussianNB().fit(rows, np.arange(60) % 3)
    bundle = own_model.from_scikit_learn(model, rows, name="bayes", sigma=0.5, out=tmp_path, faults=faults)
    assert bundle.manifest.provenance.notes["rewritten_sums"] != "none"


def test_a_classifier_without_probabilities_is_refused_with_the_mend(tmp_path):
    from sklearn.svm import LinearSVC

    model = LinearSVC().fit(ROWS, np.arange(len(ROWS)) % 3)
    with pytest.raises(SourceError, match="CalibratedClassifierCV"):
        own_model.from_scikit_learn(model, ROWS, name="x", sigma=0.2, out=tmp_path, faults=faults)


def test_what_is_no_fitted_classifier_is_refused(tmp_path):
    from sklearn.linear_model import LinearRegression, LogisticRegression

    for model in (LogisticRegression(), LinearRegression().fit(ROWS, ROWS[:, 0])):
        with pytest.raises(SourceError, match="fitted classifier"):
            own_model.from_scikit_learn(model, ROWS, name="x", sigma=0.2, out=tmp_path, faults=faults)


def test_samples_may_be_files_and_never_pickles(tmp_path):
    path = written(tmp_path, LOGITS)
    np.save(tmp_path / "x.npy", ROWS)
    np.savez(tmp_path / "x.npz", rows=ROWS)
    np.save(tmp_path / "objects.npy", np.array([[Anything()]]), allow_pickle=True)
    assert exported(path, tmp_path, tmp_path / "x.npy").digest == load(tmp_path / "models/parts/1").digest
    exported(path, tmp_path, tmp_path / "x.npz")
    with pytest.raises(SourceError, match="never loaded"):
        exported(path, tmp_path, tmp_path / "objects.npy")


def test_check_says_each_fault_on_a_line(tmp_path):
    exported(written(tmp_path, SOFTMAX), tmp_path)
    folder = Path(tmp_path / "models" / "parts" / "1")
    assert faults(folder) == own_model.check(folder) == []
    for name in ("noise.safetensors", "original.onnx"):
        (folder / name).write_bytes((folder / name).read_bytes() + b"x")
    found = faults(folder)
    assert sorted(name for line in found for name in ("noise", "original") if f"{name}." in line) == [
        "noise",
        "original",
    ]
    assert own_model.check(folder) == found
    assert len(faults(tmp_path)) == 1
    assert f"such as {folder}" in faults(tmp_path / "models")[0]
