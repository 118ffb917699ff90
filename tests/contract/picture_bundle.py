"""The half-space model behind a picture: four pixels of grey, of which the first decides."""

from __future__ import annotations

from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from export.build.noise_table import rounded_gaussian_tails
from export.bundle import write
from tests.declared import spec
from tests.half_space import COORDINATES, SIGMA, write_half_space

NAME, JOINT, CONFIDENT = "pixels", "pixels-joint", "pixels-confident"
SHAPE = (1, 2, 2)


def write_pixels(folder, scratch, name=NAME):
    """Write the bundle to `folder`; `scratch` takes the half-space that it is made of. `JOINT` declares joint labels,
    `CONFIDENT` the confidence in the class."""
    plain = write_half_space(scratch, name=name, joint=name == JOINT, confident=name == CONFIDENT)
    golden = plain.golden
    return write(
        folder / name / "1",
        plain.manifest.model_copy(update={"name": name, "input": spec(SHAPE, "CHW", name="image")}),
        base=_behind_a_picture(plain.base),
        noisy=_behind_a_picture(plain.noisy),
        noise={"tails": rounded_gaussian_tails(SIGMA)},
        golden=replace(
            golden,
            base_input=golden.base_input.reshape(-1, *SHAPE),
            noisy_input=golden.noisy_input.reshape(-1, *SHAPE),
        ),
        calibration=plain.detector.calibration,
    )


def _behind_a_picture(model):
    loaded = onnx.load_from_string(model)
    graph = loaded.graph
    for node in graph.node:
        node.input[:] = ["flat" if name == "lattice" else name for name in node.input]
    shape = helper.make_tensor("row", TensorProto.INT64, [2], [-1, COORDINATES])
    graph.node.insert(0, helper.make_node("Reshape", ["lattice", "row"], ["flat"]))
    graph.initializer.append(shape)
    graph.input[0].CopyFrom(helper.make_tensor_value_info("lattice", TensorProto.INT32, ["n", *SHAPE]))
    return loaded.SerializeToString()
