"""A noisy graph in 8 bits: the same integers on every processor, a bundle of its own, and refusals with their reason."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper, numpy_helper
from torch import nn

import export
from export import own_model
from export.build.quantised import quantised
from export.bundle import BundleError, load
from export.sources.running import open_graph
from export.sources.source import SourceError
from export.sources.torch_module import to_onnx
from serving.commands import answers, check
from tests.export.three_layers import COLUMNS, SIGMA, rows_of

BUNDLED = Path(__file__).resolve().parents[2] / "models" / "fashion-mnist" / "1"


@pytest.fixture(scope="module")
def bundled():
    return load(BUNDLED)


@pytest.fixture(scope="module")
def made(bundled):
    return quantised(bundled.noisy, [bundled.golden.noisy_input])


def of(graph):
    model = onnx.load_from_string(graph)
    return model, {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}


def test_all_layers_but_the_head_are_integers_of_onnxs_own_operators(made, bundled):
    model, weights = of(made.graph)
    assert made.layers == 6
    assert {each.domain for each in model.opset_import} == {""}
    kinds = [each.op_type for each in model.graph.node]
    assert kinds.count("QLinearConv") == 5
    assert kinds.count("QLinearMatMul") == 1
    assert "DynamicQuantizeLinear" not in kinds
    _, first = of(bundled.noisy)
    for name in ("score.whitening", "score.means"):
        assert np.array_equal(weights[name], first[name])
    assert any(np.array_equal(each, first["network.head.weight"].T) for each in weights.values())


def test_the_same_votes_but_near_ties_and_scores_close(made, bundled):
    vote, score = open_graph(made.graph, "it")(bundled.golden.noisy_input).values()
    np.testing.assert_array_equal(vote, bundled.golden.votes)  # golden rows lie far from ties
    np.testing.assert_allclose(score, bundled.golden.scores, rtol=0.2)


def test_weights_keep_to_7_bits_whatever_the_kernel(made):
    """Two products of a byte and such a weight fit into 16 bits, which is what a processor without VNNI adds them in."""
    model, weights = of(made.graph)
    places = {"QLinearConv": (3, 5), "QLinearMatMul": (3, 5)}
    for node in model.graph.node:
        if node.op_type in places:
            weight, zero = (weights[node.input[place]] for place in places[node.op_type])
            assert weight.dtype == np.int8
            assert 2 * 255 * np.abs(weight.astype(int)).max() < 2**15
            assert not zero.any()


@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
def test_the_runtime_gives_the_exact_integers_at_their_extremes(operator):
    """Against Python's own integers: rows of the largest bytes against the largest weights, where sums overflow first."""
    chance, inner = np.random.default_rng(0), 576
    rows = np.concatenate([np.full((4, inner), 255), chance.integers(0, 256, (12, inner))]).astype(np.uint8)
    weight = np.concatenate(
        [np.full((inner, 2), 63), np.full((inner, 2), -64), chance.integers(-64, 64, (inner, 12))], axis=1
    ).astype(np.int8)
    weight[::2, 3] = 63  # sums that overflow on the way and come back
    scale = np.float32(1 / 40_000)
    exact = rows.astype(object) @ weight.astype(object)
    wanted = np.clip(np.rint(exact.astype(np.float32) * scale) + 128, 0, 255)
    constants = {"sx": np.float32(1), "zx": np.uint8(0), "sw": np.ones(16, np.float32), "zw": np.zeros(16, np.int8)}
    constants |= {"sy": np.float32(1) / scale, "zy": np.uint8(128), "w": weight}
    if operator == "QLinearConv":
        constants["w"], given = weight.T.reshape(16, 64, 3, 3).copy(), rows.reshape(16, 64, 3, 3)
    else:
        given = rows
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"]
    graph = helper.make_graph(
        [helper.make_node(operator, names, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.UINT8, given.shape)],
        [helper.make_tensor_value_info("y", onnx.TensorProto.UINT8, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"x": given})
    np.testing.assert_array_equal(found.reshape(16, 16), wanted.astype(np.uint8))


def exported(model, out, faults=lambda folder: []):
    rows, _ = rows_of(60, 3)
    return own_model.export(model, name="net", samples=rows, sigma=SIGMA, low=0.0, high=1.0, out=out, faults=faults)


@pytest.fixture(scope="module")
def whole(source, tmp_path_factory):
    """A bundle with every guarantee, and its version in 8 bits."""
    out = tmp_path_factory.mktemp("models")
    shutil.copytree(source / "models", out, dirs_exist_ok=True)
    found = export.quantize(
        out / "net" / "1",
        data=source / "data.npz",
        calibration=source / "held.npz",
        rows=20,
        draws=60,
        faults=check.faults,
    )
    return load(out / "net" / "1"), found


def test_the_version_in_8_bits_is_served_with_every_guarantee(whole):
    old, found = whole
    new = found.bundle
    assert new.key == "net/2"
    assert new.base == old.base
    assert new.manifest.files["original.onnx"] == old.manifest.files["original.onnx"]
    assert (new.manifest.mixture, new.law.sigma) == (old.manifest.mixture, old.law.sigma)
    with answers.from_engine(new, {"certify": "best", "max_draws": 256}) as ask:
        said = ask(new.golden.base_input[0])
    assert said["certificate"]["status"] == "certified"
    assert said["ood"]["in_distribution"]


def test_its_detector_is_calibrated_anew(whole):
    """Its scores are others: the threshold of the floats would be no longer what it says."""
    old, found = whole
    assert len(found.bundle.detector.calibration) == len(old.detector.calibration) == 250
    assert not np.array_equal(found.bundle.detector.calibration, old.detector.calibration)
    assert found.bundle.manifest.ood.threshold != old.manifest.ood.threshold


def test_the_table_has_every_precision(whole):
    _, found = whole
    floats, integers = found.precisions
    assert (floats.name, floats.flips, integers.name) == ("float32", 0.0, "int8")
    assert integers.flips < 0.2
    assert floats.draws_per_second > 0
    assert floats.certified[0].share > 0.8
    assert integers.certified[0].share > 0.8
    assert "| int8 |" in found.table


def test_one_graph_in_both_roles_is_parted_and_only_votes_are_quantised(source, tmp_path):
    exported(source / "net.onnx", tmp_path)
    found = export.quantize(
        tmp_path / "net" / "1", data=source / "data.npz", version=7, rows=5, draws=20, faults=check.faults
    )
    assert found.folder.name == "7"
    assert [each.name for each in onnx.load_from_string(found.bundle.base).graph.output] == ["probabilities"]
    assert [each.name for each in onnx.load_from_string(found.bundle.noisy).graph.output] == ["vote"]
    with pytest.raises(BundleError, match="7 exists, and nothing is written over; give another --version"):
        export.quantize(tmp_path / "net" / "1", data=source / "data.npz", version=7, rows=5, draws=20)


def test_a_network_of_one_layer_has_nothing_to_quantise(source, tmp_path):
    example = torch.zeros(2, COLUMNS)
    linear = tmp_path / "linear.onnx"
    linear.write_bytes(to_onnx(nn.Linear(COLUMNS, 3), (COLUMNS,), ("y",), names=("x",), example=example))
    exported(linear, tmp_path)
    with pytest.raises(SourceError, match="there is nothing to quantise"):
        export.quantize(tmp_path / "net" / "1", data=source / "data.npz")
    assert [each.name for each in (tmp_path / "net").iterdir()] == ["1"]


def test_a_version_that_could_not_be_served_is_not_written(source, tmp_path):
    exported(source / "net.onnx", tmp_path)
    with pytest.raises(SourceError, match="net/2 is not written, since it could not be served: for a reason"):
        export.quantize(
            tmp_path / "net" / "1", data=source / "data.npz", rows=5, draws=20, faults=lambda folder: ["for a reason"]
        )
    assert [each.name for each in (tmp_path / "net").iterdir()] == ["1"]


def test_dynamic_quantisation_is_refused_since_its_scales_depend_on_the_batch(source, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source / "net.onnx", tmp_path / "dynamic.onnx")
    with pytest.raises(ValueError, match=r"(?s)scale from the whole batch, which couples the rows; use static"):
        exported(tmp_path / "dynamic.onnx", tmp_path, check.faults)
