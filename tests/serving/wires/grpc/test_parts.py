"""A message that takes long to parse is refused before it is; what is quick to parse is not, however long it is."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.errors import TooLarge
from serving.wires.grpc import parts
from serving.wires.open_inference import datatypes
from serving.wires.typed import certserve_proto
from tests.declared import spec
from tests.serving.wires.grpc.test_grpc_calls import error_of, refused, serving
from tests.serving.wires.grpc.test_grpc_server import infer as infer_picture

MIB = 2**20
NUMBERS = MIB
TENSOR = oip.ModelInferRequest.InferInputTensor
Contents = oip.InferTensorContents
Parameter = oip.InferParameter


def infer(**tensor):
    return oip.ModelInferRequest(model_name="pictures", inputs=[TENSOR(name="image", **tensor)])


COUNT = 60_000


def named():
    return {str(place): Parameter() for place in range(COUNT)}


# Large messages are made when they are asked for, not whenever tests are collected.
MANY = {
    "inputs": lambda: oip.ModelInferRequest(inputs=[TENSOR()] * COUNT),
    "outputs": lambda: oip.ModelInferRequest(outputs=[oip.ModelInferRequest.InferRequestedOutputTensor()] * COUNT),
    "raw": lambda: oip.ModelInferRequest(raw_input_contents=[b""] * COUNT),
    "parameters": lambda: oip.ModelInferRequest(parameters=named()),
    "deep": lambda: infer(parameters=named()),
    "bytes": lambda: infer(contents=Contents(bytes_contents=[b""] * COUNT)),
}
"""Messages of few bytes and many fields, wherever a client can put them."""


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_a_message_of_very_many_fields_is_refused(make):
    message = make()
    with pytest.raises(TooLarge, match="fields"):
        parts.check(message.SerializeToString() + b"\x08\x00" * 2**15, message.DESCRIPTOR, NUMBERS)


async def test_it_is_refused_as_every_other_and_the_connection_goes_on():
    async with serving() as channel:
        inference = oip_grpc.GRPCInferenceServiceStub(channel)
        error = await refused(inference.ModelInfer(oip.ModelInferRequest(inputs=[TENSOR()] * 60_000)))
        assert error_of(error)[:2] == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
        assert (await inference.ModelInfer(infer_picture())).id == "7"


def test_fields_that_nobody_knows_count():
    with pytest.raises(TooLarge, match="fields"):
        parts.check(b"\xfa\x7f\x00" * 30_000, oip.ModelInferRequest.DESCRIPTOR, NUMBERS)


def contents_of(name, values):
    return infer(contents=Contents(**{f"{name}_contents": values}))


NUMBERED = {
    **{name: partial(contents_of, name) for name in ("bool", "int", "int64", "uint", "uint64")},
    "grid": lambda values: pb.PredictRequest(grid=pb.GridTensor(data=values)),
    "shape": lambda values: infer(shape=values),
}


@pytest.mark.parametrize("make", NUMBERED.values(), ids=NUMBERED)
def test_numbers_that_are_read_one_by_one_are_bounded(make):
    message = make([1] * (NUMBERS + 1))
    data = message.SerializeToString()
    with pytest.raises(TooLarge, match="one by one"):
        parts.check(data, message.DESCRIPTOR, NUMBERS)
    parts.check(data, message.DESCRIPTOR, NUMBERS + 1)


QUICK = {
    "raw": lambda: oip.ModelInferRequest(raw_input_contents=[bytes(8 * MIB)]),
    "floats": lambda: contents_of("fp32", [0.5] * MIB),
    "doubles": lambda: contents_of("fp64", [0.5] * MIB),
    "files": lambda: contents_of("bytes", [b"x" * 1000] * 1024),
    "a picture": lambda: pb.PredictRequest(image=pb.Image(content=bytes(8 * MIB))),
    "values": lambda: pb.PredictRequest(values=pb.ValueTensor(data=[0.5] * MIB)),
    "a small one": lambda: infer(datatype="UINT8"),
}


@pytest.mark.parametrize("make", QUICK.values(), ids=QUICK)
def test_what_is_quick_to_parse_is_taken(make):
    message = make()
    parts.check(message.SerializeToString(), message.DESCRIPTOR, NUMBERS)


def test_what_is_no_message_is_left_to_the_parser():
    chance = random.Random(7)
    kinds = (oip.ModelInferRequest.DESCRIPTOR, pb.PredictRequest.DESCRIPTOR)
    whole = infer(contents=Contents(fp32_contents=[0.5] * MIB)).SerializeToString()
    for cut in (2**17, len(whole) - 1):
        parts.check(whole[:cut], kinds[0], NUMBERS)
    for _ in range(50):
        data = chance.randbytes(16) * 2**13
        for kind in kinds:
            try:
                parts.check(data, kind, NUMBERS)
            except TooLarge:
                continue
    parts.check(b"\xff" * 2**20, kinds[0], NUMBERS)


class Seen(list):
    """Notes how many of its elements are taken at a time."""

    most = 0

    def __getitem__(self, place):
        found = super().__getitem__(place)
        self.most = max(self.most, len(found) if isinstance(place, slice) else 1)
        return found


@pytest.mark.parametrize("count", [0, 1, 8192, 8193, 50_000])
def test_numbers_are_read_some_at_a_time(count):
    values = Seen(place % 256 for place in range(count))
    found = datatypes.from_values("x", "UINT8", count, values)
    assert found.dtype == np.uint8
    assert (found == np.arange(count) % 256).all()
    assert values.most <= 8192


def test_a_grid_is_read_some_at_a_time(monkeypatch):
    monkeypatch.setattr(certserve_proto, "_AT_ONCE", 7)
    message = pb.PredictRequest(grid=pb.GridTensor(shape=[3, 1, 2, 4], data=range(24)))
    found = certserve_proto._inputs(message, spec((1, 2, 4), "CHW", high=255.0, name="image"))
    assert found.dtype == np.int32
    assert (found == np.arange(24).reshape(3, 1, 2, 4)).all()
