"""What is found of a foreign model by reading and running it, and what is refused with its reason and the mend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from export.own_model import inspect
from export.sources.source import SourceError
from tests.export.foreign import LOGITS, ONE_LOGIT, ONE_SIGMOID, ROWS, SIGMOID, SOFTMAX, written

ONE = "float[n, 1] y"


@pytest.mark.parametrize(
    ("body", "outputs", "kind", "labels", "features"),
    [
        (LOGITS, "float[n, 3] y", "logits", 3, "h"),
        (SOFTMAX, "float[n, 3] y", "softmax", 3, "h"),
        (SIGMOID, "float[n, 3] y", "sigmoid", 3, "h"),
        (ONE_SIGMOID, ONE, "sigmoid", 2, None),
        (ONE_LOGIT, ONE, "logits", 2, None),
        (SOFTMAX.replace("y = Softmax<axis = 1>(z)", "y = LogSoftmax<axis = 1>(z)"), "float[n, 3] y", "logits", 3, "h"),
        (LOGITS + " e = Exp(h) t = ReduceSum(e, one)", "float[n, 3] y", "logits", 3, "h"),
    ],
)
def test_outputs_are_told_by_running_the_model(tmp_path, body, outputs, kind, labels, features):
    found = inspect(written(tmp_path, body, outputs), samples=ROWS)
    assert (found.output.kind, found.output.labels, found.structure.features) == (kind, labels, features)


@pytest.mark.parametrize(
    ("given", "batch"), [("float[n, 4] x", None), ("float[?, 4] x", None), ("float[1, 4] x", 1), ("float[3, 4] x", 3)]
)
def test_a_batch_axis_may_be_named_unnamed_or_fixed(tmp_path, given, batch):
    found = inspect(written(tmp_path, LOGITS, "float[?, 3] y", given), samples=ROWS)
    assert (found.given.batch, found.shape) == (batch, (4,))


def test_among_several_outputs_the_one_of_probabilities_is_taken_and_the_others_are_named(tmp_path):
    path = written(
        tmp_path,
        SOFTMAX + " box = MatMul(h, sq) best = ArgMax<axis = 1>(z)",
        "float[n, 4] box, float[n, 3] y, int64[n, 1] best",
    )
    found = inspect(path, samples=ROWS)
    assert found.output.name == "y"
    assert [each.name for each in found.outputs] == ["box", "y", "best"]
    assert [each.name for each in found.model.graph.output] == ["y"]
    assert inspect(path, samples=ROWS, output="box").output.kind == "logits"


def test_free_sizes_are_settled_by_samples_or_a_shape(tmp_path):
    body = "m = GlobalAveragePool(x) f = Flatten(m) y = Identity(f)"
    path = written(tmp_path, body, "float[n, 3] y", "float[n, 3, h, w] x")
    assert inspect(path, shape=(3, 5, 5)).shape == (3, 5, 5)
    with pytest.raises(SourceError, match=r"axes 2 \(h\), 3 \(w\) free.*--shape"):
        inspect(path)


def test_normalisation_at_the_entrance_is_seen(tmp_path):
    path = written(
        tmp_path, "c = Sub(x, m) d = Div(c, t) y = Gemm(d, w, b)", constants=", float m = {0.5}, float t = {2.0}"
    )
    assert inspect(path, samples=ROWS).structure.normalisation == "Sub, Div"


TWO = "float[n, 4] x, float[n, 4] other"
REFUSED = {
    "several inputs": (
        ("s = Add(x, other) y = Gemm(s, w, b)", "float[n, 3] y", TWO),
        "several inputs (x, other).*constants",
    ),
    "a state": (
        ("s = Add(x, state) y = Gemm(s, w, b)", "float[n, 3] y", "float[n, 4] x, float[n, 4] state"),
        "state is a state.*whole input",
    ),
    "tokens": (
        ("e = Gather(w, x) y = ReduceSum<keepdims = 0>(e, one)", "float[n, 3] y", "int64[n, 4] x"),
        "indices.*tokens",
    ),
    "bytes, cast first": (
        ("i = Cast<to = 7>(x) e = Gather(w, i) y = ReduceSum<keepdims = 0>(e, one)", "float[n, 3] y", "int32[n, 4] x"),
        "int32.*indices.*bytes",
    ),
    "categories": (
        ("q = Equal(x, c) f = Cast<to = 1>(q) y = Gemm(f, w, b)", "float[n, 3] y", "int64[n, 4] x", ", int64 c = {2}"),
        "categories",
    ),
    "bytes, compared with each value": (
        (
            "u = Unsqueeze(x, two) e = Expand(u, wide) q = Equal(e, values) f = Cast<to = 1>(q)"
            " y = ReduceSum<keepdims = 0>(f, one)",
            "float[n, 3] y",
            "int32[n, 4] x",
            ", int64[1] two = {2}, int64[3] wide = {1, 1, 3}, int32[3] values = {0, 1, 2}",
        ),
        "indices.*bytes",
    ),
    "tokens, shifted first": (
        (
            "s = Sub(x, low) m = Max(s, nought) e = Gather(w, m) y = ReduceSum<keepdims = 0>(e, one)",
            "float[n, 3] y",
            "int64[n, 4] x",
            ", int64 low = {1}, int64 nought = {0}",
        ),
        "indices.*tokens",
    ),
    "integers": (
        ("t = Mul(x, x) f = Cast<to = 1>(t) y = Gemm(f, w, b)", "float[n, 3] y", "int32[n, 4] x"),
        "int32.*float inputs",
    ),
    "labels alone": (
        ("z = Gemm(x, w, b) y = ArgMax<axis = 1>(z)", "int64[n, 1] y"),
        "none of them is a tensor of floats",
    ),
    "a map": (
        ("y = Relu(x)", "float[n, 3, 5, 5] y", "float[n, 3, 5, 5] x"),
        "a map of .*no classifier of whole inputs",
    ),
    "two that may classify": (
        ("y = Gemm(x, w, b) z = MatMul(x, sq)", "float[n, 3] y, float[n, 4] z"),
        "several outputs that may classify.*--output",
    ),
    "one number over all rows": (("y = ReduceMean<keepdims = 0>(x)", "float y"), "no row of numbers"),
    "rows joined": (
        ("m = ReduceMean<axes = [0]>(x) s = Sub(x, m) y = Gemm(s, w, b)", "float[n, 3] y"),
        "reduces over the rows",
    ),
    "no rows": (("y = Relu(x)", "float[4] y", "float[4] x"), "an axis of rows"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_served_is_refused_with_its_reason(tmp_path, case):
    """In one line that names the file, never a trace of a library."""
    (body, outputs, *more), reason = REFUSED[case]
    given, constants = (more + ["float[n, 4] x", ""][len(more) :])[:2]
    with pytest.raises(SourceError, match="(?s)" + reason.replace("(", r"\(").replace(")", r"\)")) as error:
        inspect(written(tmp_path, body, outputs, given, constants))
    assert str(error.value).startswith("model.onnx")
    assert "\n" not in str(error.value)


def test_a_model_that_gives_dictionaries_is_refused_with_the_mend():
    """The one that comes with the runtime."""
    path = Path(onnxruntime.__file__).parent / "datasets" / "logreg_iris.onnx"
    with pytest.raises(SourceError, match="a sequence of maps.*zipmap=False"):
        inspect(path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x04\x95junk", "pickle"),
        (b"PK\x03\x04archive", "never loaded"),
        (b"\xff\xfenonsense", "no ONNX file"),
        (b"", "no ONNX graph"),
    ],
)
def test_other_files_are_refused(tmp_path, data, reason):
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=reason):
        inspect(path)


def test_a_file_cut_short_is_refused(tmp_path):
    path = written(tmp_path, LOGITS)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"model\.onnx"):
        inspect(path)


def test_made_up_inputs_tell_the_same_as_samples(tmp_path):
    for body in (LOGITS, SOFTMAX, SIGMOID):
        path = written(tmp_path, body)
        assert inspect(path).output.kind == inspect(path, samples=np.asarray(ROWS)).output.kind
