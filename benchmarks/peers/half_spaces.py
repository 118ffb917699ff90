"""The half-space of the tests behind the names and shapes of models that the suites of peers ask for."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.build.noise_table import rounded_gaussian_tails
from export.bundle import write
from tests.declared import spec
from tests.half_space import SIGMA, write_half_space

MODELS: tuple[tuple[str, str, str, tuple[int, ...], str], ...] = (
    ("simple", "1", "INPUT0", (16,), "features"),
    ("simple_int8", "1", "INPUT0", (16,), "features"),
    ("custom_identity_int32", "1", "INPUT0", (16,), "features"),
    ("densenet_onnx", "1", "data_0", (3, 16, 16), "CHW"),
    ("sum-model", "1", "input-0", (3,), "features"),
    ("TestModel", "1", "input-0", (2,), "features"),
)
"""Name, version, input, shape and layout."""


def write_all(folder: Path, scratch: Path) -> None:
    """Write a bundle of each to `folder`; `scratch` takes the half-space that they are made of."""
    plain = write_half_space(scratch)
    for name, version, given, shape, layout in MODELS:
        size = prod(shape)
        manifest = {"name": name, "version": version, "input": spec(shape, layout, name=given)}
        golden = plain.golden
        write(
            folder / name / version,
            plain.manifest.model_copy(update=manifest),
            base=_of_shape(plain.base, shape),
            noisy=_of_shape(plain.noisy, shape),
            noise={"tails": rounded_gaussian_tails(SIGMA)},
            golden=replace(
                golden,
                base_input=_widened(golden.base_input, size).reshape(-1, *shape),
                noisy_input=_widened(golden.noisy_input, size).reshape(-1, *shape),
            ),
            calibration=plain.detector.calibration if plain.detector else None,
        )


def _widened(rows: NDArray[np.int32], size: int) -> NDArray[np.int32]:
    found = np.zeros((len(rows), size), dtype=np.int32)
    found[:, 0] = rows[:, 0]  # no other one matters
    return found


def _of_shape(model: bytes, shape: tuple[int, ...]) -> bytes:
    loaded = onnx.load_from_string(model)
    graph, size = loaded.graph, prod(shape)
    for node in graph.node:
        node.input[:] = ["flat" if name == "lattice" else name for name in node.input]
    graph.node.insert(0, helper.make_node("Reshape", ["lattice", "row"], ["flat"]))
    graph.initializer.append(helper.make_tensor("row", TensorProto.INT64, [2], [-1, size]))
    (first,) = (each for each in graph.initializer if each.name == "first")
    weights = np.zeros((size, 1), dtype=np.float32)
    weights[0] = 1
    first.CopyFrom(numpy_helper.from_array(weights, "first"))
    graph.input[0].CopyFrom(helper.make_tensor_value_info("lattice", TensorProto.INT32, ["n", *shape]))
    return bytes(loaded.SerializeToString())
