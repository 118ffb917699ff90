from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.inference import open_inference_pb2 as pb
from serving.config import Limits
from serving.errors import InvalidInput
from serving.wires.open_inference import datatypes, oip_json, oip_models, oip_proto
from tests.serving.wires.fake_gateway import answer, model

SMALL = model(shape=(2, 2, 1), layout="HWC")
VALUES = [1, 2, 3, 4]
LIMITS = Limits(max_rows=4, max_body_bytes=1000)
TensorIn, Wanted = pb.ModelInferRequest.InferInputTensor, pb.ModelInferRequest.InferRequestedOutputTensor


def tensor(datatype="INT32", shape=(1, 2, 2, 1), name="image", **contents):
    return TensorIn(
        name=name,
        datatype=datatype,
        shape=shape,
        contents=pb.InferTensorContents(**contents) if contents else None,
    )


def raw(data=None, datatype="INT32", **changes):
    data = np.array(VALUES, dtype="<i4").tobytes() if data is None else data
    return pb.ModelInferRequest(inputs=[tensor(datatype)], raw_input_contents=[data], **changes)


def decode(message, left=None):
    return oip_proto.decode(message, SMALL, LIMITS, left)


@pytest.mark.parametrize("datatype", sorted(set(oip_proto._FIELDS) & set(datatypes.NUMPY) - {"BOOL"}))
def test_every_number_is_read_typed_and_raw(datatype):
    array = np.array(VALUES, dtype=datatypes.NUMPY[datatype]).reshape(1, 2, 2, 1)
    typed = decode(pb.ModelInferRequest(inputs=[tensor(datatype, **{oip_proto._FIELDS[datatype]: VALUES})]))
    for call in (typed, decode(raw(array.tobytes(), datatype))):
        assert call.request.inputs.dtype == array.dtype
        assert np.array_equal(call.request.inputs, array)


def test_half_precision_and_truth_are_values_exactly():
    half = np.array(VALUES, dtype=np.float16).reshape(1, 2, 2, 1)
    found = decode(raw(half.tobytes(), "FP16"))
    assert np.array_equal(found.request.inputs.astype(np.float64), half.astype(np.float64))
    truth = np.array([True, False, False, True])
    for call in (
        decode(raw(truth.tobytes(), "BOOL")),
        decode(pb.ModelInferRequest(inputs=[tensor("BOOL", bool_contents=truth.tolist())])),
    ):
        assert call.request.inputs.dtype == np.float64
        assert call.request.inputs.ravel().tolist() == [1.0, 0.0, 0.0, 1.0]


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (pb.ModelInferRequest(), r"expected one input named 'image', got \[\]"),
        (pb.ModelInferRequest(inputs=[tensor()], raw_input_contents=[b"", b""]), "2 elements for 1 inputs"),
        (
            pb.ModelInferRequest(inputs=[tensor(int_contents=VALUES)], raw_input_contents=[b"\0" * 16]),
            "contents field must not be specified when using raw_input_contents for 'image' for model ''",
        ),
        (  # whichever it is, and whatever else is wrong
            pb.ModelInferRequest(
                model_name="m",
                inputs=[tensor(name="a"), tensor(name="b", bytes_contents=[b""]), tensor(name="c", int_contents=[])],
                raw_input_contents=[b""],
            ),
            "contents field must not be specified when using raw_input_contents for 'b' for model 'm'",
        ),
        (pb.ModelInferRequest(inputs=[tensor(fp32_contents=VALUES)]), "is INT32 and has fp32_contents; expected int"),
        (pb.ModelInferRequest(inputs=[tensor()]), "has 0 elements; its shape says 4"),
        (pb.ModelInferRequest(inputs=[tensor("UINT8", uint_contents=[1, 2, 3, 256])]), "out of the range of UINT8"),
        (pb.ModelInferRequest(inputs=[tensor("FP32", fp32_contents=[1, 2, 3, float("nan")])]), "out of the range"),
        (pb.ModelInferRequest(inputs=[tensor("BF16")], raw_input_contents=[b"\0" * 8]), "datatype 'BF16'"),
        (
            pb.ModelInferRequest(inputs=[tensor("FP16", fp32_contents=VALUES)]),
            "no typed field; send raw_input_contents",
        ),
        (pb.ModelInferRequest(inputs=[tensor("FP16")], raw_input_contents=[b"\0" * 7]), "has 7 bytes; expected 8"),
        (pb.ModelInferRequest(inputs=[tensor("BOOL", uint_contents=[1] * 4)]), "is BOOL and has uint_contents"),
        (pb.ModelInferRequest(inputs=[tensor(shape=[4, 2**62])], raw_input_contents=[b""]), "beyond the limit"),
        (raw(b"\0" * 15), "has 15 bytes; expected 16"),
        (raw(parameters={"certserve.x": pb.InferParameter(bool_param=True)}), "unknown parameter"),
        (raw(parameters={"alpha": pb.InferParameter()}), "may send text"),
        (raw(parameters={"sequence_id": pb.InferParameter(bool_param=True)}), "sequence_id is True"),
        (raw(parameters={"sequence_start": pb.InferParameter(int64_param=1)}), "sequence_start is 1"),
        (raw(parameters={"priority": pb.InferParameter(int64_param=-1)}), "priority is -1"),
        (raw(parameters={"binary_data_output": pb.InferParameter(int64_param=0)}), "binary_data_output is 0"),
        (raw(parameters={"triton_x": pb.InferParameter(bool_param=True)}), "reserved for Triton usage and should not"),
        (raw(outputs=[Wanted(name="y")]), "unknown output 'y'"),
        (
            raw(
                outputs=[Wanted(name="label", parameters={"shared_memory_region": pb.InferParameter(string_param="r")})]
            ),
            "not offered",
        ),
    ],
)
def test_what_is_wrong_is_said(message, said):
    with pytest.raises(InvalidInput, match=said):
        decode(message)


@pytest.mark.parametrize(
    "parameter",
    [
        pb.InferParameter(double_param=0.25),
        pb.InferParameter(string_param="0.25"),
        pb.InferParameter(string_param="25e-2"),
    ],
)
def test_a_float_may_come_as_text(parameter):
    call = decode(
        raw(parameters={"certserve.target_radius": parameter, "certify": pb.InferParameter(string_param="target")})
    )
    assert call.request.options.target_radius == 0.25


def test_the_strictest_deadline_counts():
    timeout = {"timeout": pb.InferParameter(uint64_param=2_000_000)}
    said = {"deadline_ms": pb.InferParameter(int64_param=500)}
    assert decode(raw(parameters=timeout), 60.0).request.options.deadline_ms == 2000
    assert decode(raw(parameters=timeout), 1.0).request.options.deadline_ms == 1000
    assert decode(raw(parameters={**timeout, **said}), 1.0).request.options.deadline_ms == 500


def test_both_wires_of_the_protocol_carry_the_same_tensors():
    message = raw(id="7", parameters={"certify": pb.InferParameter(string_param="best")})
    call = decode(message)
    found = oip_proto.encode(call, answer(), SMALL)
    body, length = oip_json.encode(oip_json.JsonCall(call=call, binary=True), answer(), SMALL)
    document = json.loads(body[:length])
    assert (found.model_name, found.model_version, found.id) == ("pictures", "1", "7")
    assert [each.name for each in found.outputs] == [each["name"] for each in document["outputs"]]
    assert [list(each.shape) for each in found.outputs] == [each["shape"] for each in document["outputs"]]
    assert b"".join(found.raw_output_contents) == body[length:]
    assert not any(each.HasField("contents") for each in found.outputs)
    kinds = {each.WhichOneof("parameter_choice") for each in found.parameters.values()}
    assert kinds == {"int64_param", "string_param"}


def test_typed_contents_come_where_they_are_asked_for_and_say_the_same():
    certify = {"certify": pb.InferParameter(string_param="best")}
    asked = {**certify, "binary_data_output": pb.InferParameter(bool_param=False)}
    reserved = {"triton_enable_empty_final_response": pb.InferParameter(bool_param=True)}
    typed = oip_proto.encode(decode(raw(parameters={**asked, **reserved})), answer(), SMALL)
    for said in (certify, {**certify, "binary_data_output": pb.InferParameter(bool_param=True)}):
        plain = oip_proto.encode(decode(raw(parameters=said)), answer(), SMALL)
        assert not any(each.HasField("contents") for each in plain.outputs)
        assert [each.name for each in plain.outputs] == [each.name for each in typed.outputs]
    assert not typed.raw_output_contents
    for each, data in zip(typed.outputs, plain.raw_output_contents, strict=True):
        ((field, values),) = each.contents.ListFields()
        assert field.name == oip_proto._FIELDS[each.datatype]
        dtype = object if each.datatype == "BYTES" else datatypes.NUMPY[each.datatype]
        assert datatypes.to_bytes(np.array(list(values), dtype=dtype)) == data


def test_metadata_and_configuration_are_those_of_http():
    metadata = oip_models.metadata(SMALL, [SMALL, model(version="12"), model(version="9"), model(name="other")])
    assert metadata["versions"] == ["1", "9", "12"]
    assert [each["name"] for each in metadata["outputs"]] == ["probabilities"]
    message = oip_proto.metadata(metadata)
    assert list(message.inputs[0].shape) == [-1, 2, 2, 1]
    config = oip_proto.config(oip_models.config(SMALL, 16)).config
    assert (config.max_batch_size, config.input[0].format) == (16, pb.ModelInput.FORMAT_NHWC)
    assert config.output[0].data_type == pb.TYPE_FP32
    described = json.loads(config.parameters["certserve.outputs"].string_value)
    assert {"name": "certificate_radius", "datatype": "FP64", "shape": [-1]} in described


@given(st.binary(max_size=60), st.integers(0, 200), st.integers(0, 255))
@settings(max_examples=300)
def test_no_bytes_raise_anything_else(junk, place, value):
    whole = bytearray(raw(id="7", parameters={"alpha": pb.InferParameter(double_param=0.1)}).SerializeToString())
    whole[place % len(whole)] = value
    for data in (junk, bytes(whole), bytes(whole) + junk):
        try:
            message = pb.ModelInferRequest.FromString(data)
        except DecodeError:
            continue
        with contextlib.suppress(InvalidInput):
            decode(message)
