"""Graphs that are damaged, foreign or other than the manifest says: each is refused in one line, by bundle and file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from export.bundle import load
from export.graphs.prepared import check
from export.graphs.reading import GraphError
from serving.models.proof import ProofError, prove
from serving.runtimes.onnx_runtime import OnnxRuntime
from tests.graphs import bundle_of, graph, noisy
from tests.half_space import write_half_space
from tests.servers import ROOT

FILES = {"base.onnx": "base", "noisy.onnx": "noisy"}
KEEP = "inner = Identity (values)"


def altered(change):
    def altering(data):
        model = onnx.load_from_string(data)
        change(model)
        return model.SerializeToString()

    return altering


def in_a_newer_opset(model):
    model.opset_import[0].version = 99


def in_a_newer_format(model):
    model.ir_version = 99


def with_another_input_name(model):
    model.graph.input[0].name = "input"
    for node in model.graph.node:
        node.input[:] = ["input" if name == "lattice" else name for name in node.input]


def with_floats(model):
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT


def with_a_fixed_batch(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 32


def with_a_fixed_batch_of_outputs(model):
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 32


def with_another_shape(model):
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 5


def with_another_rank(model):
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1


def with_a_second_input(model):
    model.graph.input.append(helper.make_tensor_value_info("state", TensorProto.FLOAT, [1]))


def with_another_output_name(model):
    name = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = ["answer" if each == name else each for each in node.output]
        node.input[:] = ["answer" if each == name else each for each in node.input]
    model.graph.output[0].name = "answer"


def without_an_output(model):
    del model.graph.output[:]


def with_an_output_more(model):
    model.graph.output.append(helper.make_tensor_value_info("column", TensorProto.FLOAT, None))


def with_an_unknown_operator(model):
    model.graph.node[1].op_type = "Frobnicate"


def with_outputs_of_another_type(model):
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.DOUBLE


def external(tensor):
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def with_a_damaged_tensor(model):
    model.graph.initializer[0].raw_data = b"abc"
    model.graph.initializer[0].ClearField("float_data")


def with_a_sparse_tensor(model):
    weights = model.graph.initializer[0]
    places = numpy_helper.from_array(np.arange(2), "places")
    values = numpy_helper.from_array(np.ones(2, np.float32), weights.name)
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, list(weights.dims)))
    del model.graph.initializer[0]


def without_an_attribute(model):
    for node in model.graph.node:
        del node.attribute[:]


def without_its_last_node(model):
    del model.graph.node[-1]


def with_an_old_opset(model):
    model.opset_import[0].version = 6


def with_external_weights(model):
    external(model.graph.initializer[0])


def with_an_external_attribute(model):
    (column,) = (node for node in model.graph.node if node.op_type == "MatMul" and node.input[1] == "first")
    column.input[1] = "outside"
    constant = helper.make_node("Constant", [], ["outside"], value=numpy_helper.from_array(column_weights(), "outside"))
    external(constant.attribute[0].t)
    model.graph.node.insert(0, constant)


def with_external_data_in_a_branch(model):
    tensor = numpy_helper.from_array(column_weights(), "hidden")
    external(tensor)
    outputs = [helper.make_tensor_value_info("hidden", TensorProto.FLOAT, [4, 1])]
    branch = helper.make_graph([], "branch", [], outputs, [tensor])
    model.graph.initializer.append(numpy_helper.from_array(column_weights()[0, 0] > 0, "yes"))
    model.graph.node.insert(0, helper.make_node("If", ["yes"], ["unused"], then_branch=branch, else_branch=branch))


def column_weights():
    return np.ones((4, 1), np.float32)


BAD = {
    "no protobuf": lambda data: b"this is no graph",
    "cut short": lambda data: data[: len(data) * 2 // 3],
    "empty": lambda data: b"",
    "zeros": lambda data: bytes(1000),
    "overwritten": lambda data: data[:40] + bytes(range(200)) * 2 + data[440:],
    **{
        change.__name__.replace("_", " "): altered(change)
        for change in (
            in_a_newer_opset,
            in_a_newer_format,
            with_another_input_name,
            with_floats,
            with_a_fixed_batch,
            with_a_fixed_batch_of_outputs,
            with_another_shape,
            with_another_rank,
            with_a_second_input,
            with_another_output_name,
            without_an_output,
            with_an_output_more,
            with_an_unknown_operator,
            with_outputs_of_another_type,
            with_a_damaged_tensor,
            with_a_sparse_tensor,
            without_an_attribute,
            without_its_last_node,
            with_an_old_opset,
            with_external_weights,
            with_an_external_attribute,
            with_external_data_in_a_branch,
        )
    },
}


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("kind", BAD)
def test_a_bad_graph_is_refused_in_one_line_that_names_bundle_and_file(kind, file, tmp_path):
    bundle = write_half_space(tmp_path)
    bad = replace(bundle, **{FILES[file]: BAD[kind](getattr(bundle, FILES[file]))})
    with pytest.raises(GraphError) as refusal:
        OnnxRuntime(bad)
    message = str(refusal.value)
    assert message.startswith(f"half-space/1: {file} ")
    assert "\n" not in message
    if "external" in kind:
        assert "no digest covers it" in message


@pytest.mark.parametrize("kind", ["empty", "with external weights"])
def test_a_bad_graph_is_refused_before_anything_runs_it(kind, tmp_path):
    """The root of the deployment on Ray asks this, before it starts any replica."""
    bundle = write_half_space(tmp_path)
    check(bundle)
    with pytest.raises(GraphError, match=r"half-space/1: noisy\.onnx"):
        check(replace(bundle, noisy=BAD[kind](bundle.noisy)))


def test_each_graph_in_the_place_of_the_other_is_refused(tmp_path):
    bundle = write_half_space(tmp_path)
    with pytest.raises(
        GraphError, match=r"half-space/1: base.onnx has the outputs vote, score; expected probabilities"
    ):
        OnnxRuntime(replace(bundle, base=bundle.noisy, noisy=bundle.base))
    both = r"half-space/1: base.onnx \(and noisy.onnx, the same graph\) has the outputs vote, score"
    with pytest.raises(GraphError, match=both):
        OnnxRuntime(replace(bundle, base=bundle.noisy))


def test_one_graph_may_have_both_roles(tmp_path):
    both = noisy(
        f"""{KEEP} two_of = Concat <axis = 1> (values, values)  s = Softmax (two_of)
        probabilities = MatMul (s, halves)""",
        "int64[n] vote, float[n] score, float[n, 2] probabilities",
        constants=", float[8,2] halves = {1.0,0.0,0.0,1.0,1.0,0.0,0.0,1.0,1.0,0.0,0.0,1.0,1.0,0.0,0.0,1.0}",
    )
    bundle = bundle_of(tmp_path, both, both)
    prove(bundle, OnnxRuntime(bundle), 8)


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        (
            "int64[n] vote, float[n] score",
            "v = Cast <to = 6> (above)  vote = Identity (v)  score = Squeeze (column, one)",
        ),
        ("int64[n] vote, float[n] score", "vote = Cast <to = 7> (above)  score = Identity (column)"),
        ("int64 vote, float[n] score", "vote = Cast <to = 7> (above)  score = Squeeze (column, one)"),
        (
            "int64[n] vote, float[n] score",
            "w = Cast <to = 7> (above)  vote = Unsqueeze (w, zero)  score = Squeeze (column, one)",
        ),
    ],
    ids=["a vote of 32 bits", "a score for each column", "a vote for all", "votes along the second axis"],
)
def test_outputs_of_another_type_or_shape_than_declared_are_refused(outputs, body, tmp_path):
    start = "values = Cast <to = 1> (lattice)  column = MatMul (values, first)  s = Squeeze (column, one)"
    bad = graph(f"{start}  above = Greater (s, cut)  {body}", outputs)
    with pytest.raises(GraphError, match=r"half-space/1: noisy\.onnx"):
        OnnxRuntime(bundle_of(tmp_path, noisy=bad))


def test_a_graph_that_opens_and_cannot_run_is_refused(tmp_path):
    """Its indices are computed, and beyond the table."""
    bad = noisy(
        "a = ArgMax <axis = 1> (values)  i = Add (a, far)  g = Gather (weights, i)  inner = Add (values, g)",
        constants=", int64 far = {9}",
    )
    with pytest.raises(GraphError, match=r"half-space/1: noisy\.onnx cannot be run"):
        OnnxRuntime(bundle_of(tmp_path, noisy=bad))


@pytest.mark.parametrize(
    ("score", "refusal"),
    [("score = Squeeze (same, one)", GraphError), ("z = Mul (column, none)  score = Squeeze (z, one)", ProofError)],
    ids=["a constant", "nothing but zeros"],
)
def test_a_declared_score_that_is_none_is_refused(score, refusal, tmp_path):
    bad = graph(
        f"""values = Cast <to = 1> (lattice)  column = MatMul (values, first)  s = Squeeze (column, one)
        n = Shape (column)  same = Expand (cut, n)  above = Greater (s, cut)  vote = Cast <to = 7> (above)  {score}""",
        "int64[n] vote, float[n] score",
        constants=", float none = {0.0}",
    )
    bundle = bundle_of(tmp_path, noisy=bad)
    with pytest.raises(refusal, match=r"half-space/1: .*score"):
        prove(bundle, OnnxRuntime(bundle), 8)


@pytest.mark.parametrize("end", ["Sigmoid (two_of)", "Relu (two_of)", "Mul (two_of, weights2)"])
def test_probabilities_that_do_not_sum_to_one_are_refused(end, tmp_path):
    bad = graph(
        f"values = Cast <to = 1> (lattice)  two_of = MatMul (values, halves)  probabilities = {end}",
        "float[n, 2] probabilities",
        constants=", float[4,2] halves = {0.01,0.0,0.0,0.01,0.0,0.0,0.0,0.01}, float[2] weights2 = {0.001, 0.002}",
    )
    bundle = bundle_of(tmp_path, base=bad)
    with pytest.raises(ProofError, match="half-space/1: .* probabilities"):
        prove(bundle, OnnxRuntime(bundle), 1)


def test_external_data_is_not_read_from_the_working_directory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.bin").write_bytes(column_weights().tobytes())
    bundle = write_half_space(tmp_path / "models")
    with pytest.raises(GraphError, match="outside of itself"):
        OnnxRuntime(replace(bundle, noisy=altered(with_external_weights)(bundle.noisy)))


def test_the_bundled_model_is_served_as_it_is_on_disk():
    """Only outputs are added to what is opened."""
    bundle = load(ROOT / "models" / "fashion-mnist" / "1")
    runtime = OnnxRuntime(bundle)
    lattice = bundle.golden.noisy_input
    assert set(runtime.noisy_evidence(lattice)) == {"vote", "score", "linear_1", "add_160"}
    assert set(runtime.base_evidence(lattice)) == {"probabilities"}
