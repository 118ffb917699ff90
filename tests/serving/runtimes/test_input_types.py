"""Graphs that take their lattice as int16 or FP16: half the bytes, the same answers; refused where a number may not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from export.bundle.files import BASE, NOISY
from export.graphs import reading
from export.graphs.prepared import prepare
from export.graphs.reading import GraphError
from serving.models.proof import prove
from serving.runtimes import device_batch
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.runtimes.runtime import DrawRange
from tests.half_space import write_half_space
from tests.serving.runtimes.fake_runtime import onnx_on_fake_device, tensorrt_on_fake_device

KINDS = {"int16": TensorProto.INT16, "float16": TensorProto.FLOAT16}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


def taking(graph, kind):
    model = onnx.load_from_string(graph)
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model.SerializeToString()


def with_inputs(bundle, kind):
    return replace(bundle, noisy=taking(bundle.noisy, kind), base=taking(bundle.base, kind))


def reaching(bundle, top):
    """The same bundle on a grid of `top` steps."""
    grid = bundle.manifest.input.grid.model_copy(update={"high": float(top)})
    spec = bundle.manifest.input.model_copy(update={"grid": grid})
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"input": spec}))


def answers(bundle, runtime):
    draws = [DrawRange(bundle.law.at(row), bytes([at] * 16), 5, 60) for at, row in enumerate(bundle.golden.base_input)]
    return [each.tobytes() for each in (*runtime.noisy(draws), runtime.base(bundle.golden.base_input))]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("opener", [OnnxRuntime, onnx_on_fake_device, tensorrt_on_fake_device])
def test_smaller_inputs_are_proven_and_give_the_same_answers(bundle, kind, opener):
    small = with_inputs(bundle, KINDS[kind])
    runtime = opener(small, base_rows=8)
    prove(small, runtime, 8)
    assert answers(small, runtime) == answers(bundle, opener(bundle, base_rows=8))


@pytest.mark.parametrize(("kind", "size"), [("int32", 4), ("int16", 2), ("float16", 2)])
def test_the_device_writes_what_the_graph_takes(bundle, kind, size):
    runtime = onnx_on_fake_device(bundle if kind == "int32" else with_inputs(bundle, KINDS[kind]), base_rows=8)
    (binding, *_) = runtime._noisy._session.bindings
    _, _, found, shape, _ = binding.inputs["lattice"]
    assert found == np.dtype(kind)
    place = runtime._line._free[0]._noise.batch
    assert place.bytes.size == size * np.prod(shape)


@pytest.mark.parametrize(
    ("kind", "top", "refused"),
    [
        ("float16", 255, ()),
        ("float16", 1_950, (NOISY,)),
        ("float16", 2_048, (NOISY,)),
        ("float16", 2_049, (NOISY, BASE)),
        ("int16", 30_000, ()),
        ("int16", 32_700, (NOISY,)),
        ("int16", 40_000, (NOISY, BASE)),
    ],
)
def test_a_type_that_noise_may_leave_is_refused_by_file(bundle, kind, top, refused):
    """The base graph sees no noise, so that its range is the grid's."""
    wide = reaching(with_inputs(bundle, KINDS[kind]), top)
    for file in (NOISY, BASE):
        if file not in refused:
            assert prepare(wide, file).input_type == kind
            continue
        said = f"{file} takes 'lattice' as {kind}, which holds .*export it with int32"
        with pytest.raises(GraphError, match=said) as error:
            prepare(wide, file)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", [TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT64, TensorProto.BFLOAT16])
def test_any_other_type_is_refused(bundle, kind):
    with pytest.raises(GraphError, match="expected int32: export it so"):
        prepare(with_inputs(bundle, kind), NOISY)


def test_what_a_graph_may_take_is_what_the_kernels_write():
    assert (
        {kind.name for kind in device_batch._ELEMENTS}
        == set(reading.LATTICE_TYPES.values())
        == set(reading.EXACT_UP_TO)
    )
