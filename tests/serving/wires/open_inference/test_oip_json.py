from __future__ import annotations

import base64
import contextlib
import json
import struct
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from export.bundle import claims
from serving import strict_json
from serving.config import Limits
from serving.errors import InvalidInput
from serving.inputs import image
from serving.messages import Options
from serving.wires.open_inference import datatypes, oip_json
from serving.wires.open_inference.tensors import ALARM, RECEIPT, TENSORS
from tests.serving.wires.fake_gateway import CONFIDENT, JOINT, ROWS, answer, manifest, model, prediction
from tests.serving.wires.pictures import encoded, grey

SMALL = model(shape=(2, 2, 1), layout="HWC")
WITH_JOINT = model(
    shape=(2, 2, 1),
    layout="HWC",
    claims=claims(
        of_class=0.3, upper=0.2, threshold=0.1, interval=0.2, joint=0.1, confidence=0.1, thresholds=(0.5, 0.75)
    ),
)
PLAIN = model(shape=(2, 2, 1), layout="HWC", ood=None, mixture=None)
VALUES = [1, 2, 3, 4]
LIMITS = Limits(max_rows=4, max_body_bytes=1000)
INPUT = {"name": "image", "shape": [1, 2, 2, 1], "datatype": "INT32", "data": VALUES}


def request(**changes):
    """A request of one input; changes of the input are in `input`, None takes a key out."""
    tensor = {**INPUT, **changes.pop("input", {})}
    document = {"inputs": [{key: value for key, value in tensor.items() if value is not None}], **changes}
    return json.dumps(document).encode()


def binary(data, datatype="INT32", shape=(1, 2, 2, 1), said=None, **changes):
    """A request whose input follows its JSON, and the length of that."""
    parameters = {"binary_data_size": len(data) if said is None else said}
    changes = {"input": {"data": None, "datatype": datatype, "shape": list(shape), "parameters": parameters}, **changes}
    head = request(**changes)
    return head + data, len(head)


def decode(body, length=None, of=SMALL):
    return oip_json.decode(body, length, of, LIMITS)


@pytest.mark.parametrize("datatype", [name for name in datatypes.NUMPY if name != "BOOL"])
def test_every_number_is_read_in_json_and_in_bytes(datatype):
    array = np.array(VALUES, dtype=datatypes.NUMPY[datatype]).reshape(1, 2, 2, 1)
    flat = decode(request(input={"datatype": datatype})).call.request.inputs
    nested = decode(request(input={"datatype": datatype, "data": array.tolist()})).call.request.inputs
    raw = decode(*binary(array.tobytes(), datatype)).call.request.inputs
    for found in (flat, nested, raw):
        assert found.dtype == array.dtype
        assert np.array_equal(found, array)


def test_truth_is_read_as_the_values_0_and_1():
    truth = np.array([True, False, False, True])
    for call in (
        decode(request(input={"datatype": "BOOL", "data": truth.tolist()})),
        decode(*binary(truth.tobytes(), "BOOL")),
    ):
        assert call.call.request.inputs.dtype == np.float64
        assert call.call.request.inputs.ravel().tolist() == [1.0, 0.0, 0.0, 1.0]


def test_pictures_are_read_as_bytes():
    pictures = model()
    files = [encoded(grey(1)), encoded(grey(2), "JPEG")]
    rows = np.stack(
        [
            image.decode(files[0], "image/png", pictures.manifest.input),
            image.decode(files[1], "image/jpeg", pictures.manifest.input),
        ]
    )
    data = b"".join(struct.pack("<I", len(file)) + file for file in files)
    raw = decode(*binary(data, "BYTES", [2]), of=pictures)
    text = [base64.b64encode(file).decode() for file in files]
    changes = {"datatype": "BYTES", "shape": [2, 1], "data": text, "parameters": {"content_type": "base64"}}
    coded = decode(request(input=changes), of=pictures)
    assert np.array_equal(raw.call.request.inputs, rows)
    assert np.array_equal(coded.call.request.inputs, rows)
    with pytest.raises(InvalidInput, match="row 1: the bytes are no PNG"):
        decode(*binary(data[: 4 + len(files[0])] + struct.pack("<I", 3) + b"abc", "BYTES", [2]), of=pictures)


def test_a_raw_body_is_the_one_input_and_all_outputs_are_binary():
    call = decode(bytes(VALUES), 0)
    assert call.binary
    assert call.call.request.inputs.tolist() == [[[[1], [2]], [[3], [4]]]]
    assert call.call.request.inputs.dtype == np.uint8


def test_plain_clients_stay_plain():
    call = decode(request(model_name="whatever", foreign=[1], parameters={"other": {"x": 1}, "priority": 3})).call
    assert [each.name for each in call.outputs] == ["probabilities"]
    assert call.request.plain
    assert call.request.options == Options(outputs=("probabilities",))


@pytest.mark.parametrize("outputs", [[], None])
def test_certify_brings_every_tensor_that_the_model_has(outputs):
    changes = {} if outputs is None else {"outputs": outputs}
    call = decode(request(parameters={"certify": "best"}, **changes)).call
    declared = [name for name in TENSORS if name not in (RECEIPT, ALARM, "scores")]
    joint = decode(request(parameters={"certify": "best"}, **changes), of=WITH_JOINT).call
    assert [each.name for each in joint.outputs] == declared
    own = [name for name in declared if not name.startswith(("joint", "confidence"))]
    assert [each.name for each in call.outputs] == own
    plain = decode(request(parameters={"certserve.certify": "best"}), of=PLAIN).call
    assert not any(each.name.startswith(("ood", "mixture")) for each in plain.outputs)
    assert decode(request(parameters={"certify": "off"})).call.outputs == decode(request()).call.outputs


@pytest.mark.parametrize(
    ("names", "certify", "parts"),
    [
        (["certificate_radius"], "target", ("certificate",)),
        (["mixture_label", "label"], "target", ("mixture",)),
        (["ood_score"], None, ("ood",)),
        (["label", "draws"], None, ()),
        (["probabilities", "p_a_lower"], "target", ("probabilities", "certificate")),
    ],
)
def test_naming_a_tensor_asks_for_what_it_needs(names, certify, parts):
    call = decode(request(outputs=[{"name": name} for name in names])).call
    assert [each.name for each in call.outputs] == names
    assert call.request.options == Options(certify=certify, outputs=parts)


@pytest.mark.parametrize(
    ("asked", "names"),
    [
        ({"outputs": [{"name": "ood_score"}, {"name": "receipt"}]}, ["ood_score", "receipt"]),
        ({"outputs": [{"name": "ood_score"}], "parameters": {"certserve.receipt": True}}, ["ood_score", "receipt"]),
        ({"parameters": {"certserve.receipt": "true"}}, ["probabilities", "receipt"]),
    ],
)
def test_a_receipt_is_asked_for_by_name_or_by_parameter(asked, names):
    call = decode(request(**asked)).call
    assert [each.name for each in call.outputs] == names
    assert call.request.options.receipt


def test_no_receipt_comes_unasked():
    call = decode(request(parameters={"certify": "target"})).call
    assert "receipt" not in [each.name for each in call.outputs]
    assert not call.request.options.receipt


@pytest.mark.parametrize(
    ("timeout", "expected"), [(2_500_000, 2500), ("2500000", 2500), (0, None), (1, 1), (10**15, None), (None, None)]
)
def test_the_protocols_timeout_is_in_microseconds(timeout, expected):
    assert decode(request(parameters={"timeout": timeout})).call.request.options.deadline_ms == expected


BAD_INPUTS = [
    ({"name": "x"}, "expected one input named 'image', got \\['x'\\]"),
    ({"datatype": "BF16"}, "datatype 'BF16'; expected one of"),
    ({"datatype": "FP16", "data": [1, 2, 3, 70000]}, "out of the range of FP16"),
    ({"datatype": None}, "datatype None"),
    ({"datatype": "BOOL", "data": [1, 0, 1, 0]}, "is BOOL and holds 1"),
    ({"shape": [2, 2, 1]}, r"shape \[2, 2, 1\], expected \[-1, 2, 2, 1\]: the number of rows comes first"),
    ({"shape": [1, 4]}, r"expected \[-1, 2, 2, 1\]"),
    ({"shape": [0, 2, 2, 1], "data": []}, "has no rows"),
    ({"shape": [-1, 2, 2, 1]}, "cannot be negative"),
    ({"shape": [5, 2, 2, 1]}, "has 5 rows, over the limit of 4"),
    ({"shape": [1, 2**63, 2**63, 1]}, "beyond the limit of 1000 elements"),
    ({"shape": [0, 2**63, 2**63]}, "elements"),
    ({"shape": [1.0, 2, 2, 1]}, "expected an array of integers"),
    ({"shape": "x"}, "expected an array of integers"),
    ({"shape": None}, "expected an array of integers"),
    ({"shape": [1] * 20}, "20 dimensions, beyond the limit of 16"),
    ({"shape": [1] * 15_000}, "15000 dimensions"),
    ({"shape": [10**4000] * 10}, "over the limit of 4"),
    ({"shape": [1, *[10**4000] * 10]}, "elements"),
    ({"shape": [2, 499, 1], "datatype": "BYTES"}, "is BYTES of 998 elements; expected one file a row"),
    ({"data": None}, "needs either data or parameter binary_data_size"),
    ({"parameters": {"binary_data_size": 16}}, "one of them only"),
    ({"data": [1, 2, 3]}, "has 3 elements; its shape says 4"),
    ({"data": [[1, 2], [3, 4]]}, "data of input 'image' has 2 elements, expected 1"),
    ({"data": "abcd"}, "is a JSON string"),
    ({"data": [1, 2, 3, "4"]}, "is INT32 and holds '4'"),
    ({"data": [1, 2, 3, True]}, "is INT32 and holds True"),
    ({"data": [1, 2, 3, 4.0]}, "is INT32 and holds 4.0"),
    ({"data": [1, 2, 3, None]}, "holds None"),
    ({"data": [1, 2, 3, 2**31]}, "out of the range of INT32"),
    ({"datatype": "UINT8", "data": [1, 2, 3, -1]}, "out of the range of UINT8"),
    ({"datatype": "FP32", "data": [1, 2, 3, 1e300]}, "out of the range of FP32"),
    ({"datatype": "FP64", "data": [1, 2, 3, 10**400]}, "out of the range of FP64"),
    ({"datatype": "BYTES", "shape": [1], "data": ["x"]}, "row 0: "),
    ({"datatype": "BYTES", "shape": [1], "data": ["x"], "parameters": {"content_type": "base64"}}, "not base64"),
    ({"datatype": "BYTES", "shape": [1], "data": ["\ud800"]}, "row 0: "),
    ({"parameters": {"shared_memory_region": "r"}}, "shared_memory_region, which is not offered"),
    ({"parameters": 5}, "parameters is a JSON number"),
]


@pytest.mark.parametrize(("changes", "said"), BAD_INPUTS)
def test_what_is_wrong_with_an_input_is_said(changes, said):
    with pytest.raises(InvalidInput, match=said):
        decode(request(input=changes))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"inputs": []}, r"expected one input named 'image', got \[\]"),
        ({"inputs": 7}, "inputs is 7; expected an array of objects"),
        ({"inputs": [INPUT, INPUT]}, "expected one input"),
        ({"id": 5}, "id is 5; expected a string"),
        ({"parameters": []}, "parameters is a JSON array"),
        ({"parameters": {"certserve.colour": 1}}, "unknown parameter 'certserve.colour'; known are certserve.certify"),
        ({"parameters": {"certserve.alpha": None}}, "may send text"),
        ({"parameters": {"sequence_id": -7}}, "sequence_id is -7; expected a number from 0, or text"),
        ({"parameters": {"sequence_id": True}}, "sequence_id is True"),
        ({"parameters": {"sequence_start": 1}}, "sequence_start is 1; expected true or false"),
        ({"parameters": {"sequence_end": "yes"}}, "sequence_end is 'yes'"),
        ({"parameters": {"priority": -1}}, "priority is -1; expected a number from 0"),
        ({"parameters": {"priority": 1.5}}, "priority is 1.5"),
        ({"parameters": {"triton_x": 1}}, "starting with 'triton_' are reserved for Triton usage and should not"),
        ({"parameters": {"triton_enable_empty_final_response": True}}, "reserved for Triton usage"),
        ({"parameters": {"timeout": -1}}, "microseconds"),
        ({"parameters": {"timeout": 1.5}}, "microseconds"),
        ({"parameters": {"binary_data_output": 1}}, "binary_data_output is 1; expected true or false"),
        ({"outputs": [{"name": "y"}]}, "unknown output 'y'; this model has probabilities, label"),
        ({"outputs": [{"name": "label"}, {"name": "label"}]}, "asked for twice"),
        ({"outputs": [{"name": "label", "parameters": {"classification": 2}}]}, "has no classes"),
        ({"outputs": [{"name": "probabilities", "parameters": {"classification": -1}}]}, "expected an integer from 0"),
        ({"outputs": [{"name": "label", "parameters": {"shared_memory_region": "r"}}]}, "not offered"),
        ({"outputs": [{"name": "p_a_lower"}], "parameters": {"certify": "off"}}, "certify is off"),
    ],
)
def test_what_is_wrong_with_a_request_is_said(changes, said):
    with pytest.raises(InvalidInput, match=said):
        decode(request(**changes))


@pytest.mark.parametrize(
    ("body", "length", "said"),
    [
        (b"", None, "the body is empty"),
        (b"{}", 3, "says 3, and the body has 2 bytes"),
        (b"{}", -1, "says -1"),
        (b"abc", 0, "has 3 bytes; expected 4"),
        (*binary(b"\0" * 15), "has 15 bytes; expected 16"),
        (*binary(b"\0" * 16, said=20), "says 20 bytes, and only 16 are left"),
        (*binary(b"\0" * 17, said=16), "1 bytes follow the last input"),
        (*binary(b"\0" * 16, said=True), "binary_data_size of input 'image' is True"),
        (*binary(b"\0" * 16, said=-1), "is -1"),
        (*binary(b"\1\2\1\0", "BOOL"), "a byte other than 0 and 1"),
        (*binary(b"\5\0\0\0ab", "BYTES", [1]), "each after its length"),
        (*binary(b"\0\0\0\0\0", "BYTES", [1]), "each after its length"),
        (*binary(b"", "BYTES", [1]), "each after its length"),
    ],
)
def test_what_is_wrong_with_the_bytes_is_said(body, length, said):
    with pytest.raises(InvalidInput, match=said):
        decode(body, length)


def test_a_tensor_of_a_part_that_the_model_lacks_is_unknown():
    with pytest.raises(InvalidInput, match="unknown output 'ood_score'"):
        decode(request(outputs=[{"name": "ood_score"}]), of=PLAIN)


@pytest.mark.parametrize("depth", [10, 300, 900, 10**5])
def test_depth_is_no_way_in(depth):
    deep = "[" * depth + "]" * depth
    for key in ("inputs", "outputs", "id", "parameters"):
        with pytest.raises(InvalidInput):
            decode(f'{{"{key}": {deep}}}'.encode())
    with pytest.raises(InvalidInput):
        decode(
            f'{{"inputs": [{{"name": "image", "shape": [1, 2, 2, 1], "datatype": "INT32", "data": {deep}}}]}}'.encode()
        )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text("ab\ud800é", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
    max_leaves=6,
)


@given(
    st.dictionaries(st.sampled_from(["name", "shape", "datatype", "data", "parameters"]), JSON, max_size=3),
    st.dictionaries(st.sampled_from(["id", "parameters", "outputs", "inputs"]), JSON, max_size=2),
    st.binary(max_size=20),
    st.none() | st.integers(-5, 200),
)
@settings(max_examples=300)
def test_no_body_raises_anything_else(tensor, document, junk, length):
    for body in (request(input=tensor), request(**document), junk, request() + junk):
        for declared in (None, length, len(body)):
            with contextlib.suppress(InvalidInput):
                decode(body, declared)


def test_json_and_bytes_say_the_same():
    text = oip_json.encode(decode(request(id="7", parameters={"certify": "best"})), answer(), SMALL)
    raw = oip_json.encode(decode(request(parameters={"certify": "best", "binary_data_output": True})), answer(), SMALL)
    assert text[1] is None
    document, head = json.loads(text[0]), json.loads(raw[0][: raw[1]])
    assert document["id"] == "7"
    assert "id" not in head
    place = raw[1]
    for one, other in zip(document["outputs"], head["outputs"], strict=True):
        size = other.pop("parameters")["binary_data_size"]
        data = raw[0][place : place + size]
        place += size
        values = one.pop("data")
        assert one == other
        if one["datatype"] == "BYTES":
            assert data == b"".join(struct.pack("<I", len(v)) + v.encode() for v in values)
        else:
            assert data == np.array(values, dtype=datatypes.NUMPY[one["datatype"]]).tobytes()
    assert place == len(raw[0])


def test_an_outputs_own_flag_wins_if_it_is_there():
    outputs = [{"name": "label", "parameters": {"binary_data": False}}, {"name": "draws", "parameters": {}}]
    body, length = oip_json.encode(
        decode(request(outputs=outputs, parameters={"binary_data_output": True})), answer(), SMALL
    )
    label, draws = json.loads(body[:length])["outputs"]
    assert label["data"] == [3, 3, 3]
    assert draws["parameters"] == {"binary_data_size": 24}


def test_the_best_classes_are_named():
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    body, _ = oip_json.encode(decode(request(outputs=outputs)), answer(ROWS[0]), SMALL)
    (output,) = json.loads(body)["outputs"]
    assert output == {
        "name": "probabilities",
        "datatype": "BYTES",
        "shape": [1, 2],
        "data": ["0.400000:3:class 3", "0.300000:2:class 2"],
    }


def test_no_best_classes_are_asked_for_by_0():
    call = decode(request(outputs=[{"name": "probabilities", "parameters": {"classification": 0}}]))
    assert call.call.outputs[0].classes == 0


def test_sequences_and_priorities_change_nothing_as_with_models_that_have_no_use_for_them():
    plain = decode(request()).call.request
    for parameters in (
        {"sequence_id": 7, "sequence_start": True, "sequence_end": True},
        {"sequence_id": "a name"},
        {"sequence_id": 0, "priority": 2**63, "timeout": 0},
    ):
        found = decode(request(parameters=parameters)).call.request
        assert (found.options, found.plain) == (plain.options, plain.plain)


def test_absence_claims_nothing_and_is_finite():
    call = decode(request(parameters={"certify": "best"}))
    document = json.loads(oip_json.encode(call, answer(), SMALL)[0])
    found = {each["name"]: each["data"] for each in document["outputs"]}
    largest = float(np.finfo(np.float64).max)
    assert found["certificate_label"] == [2, -1, -1]
    assert found["certificate_radius"][1:] == [0.0, 0.0]
    assert found["certificate_status"] == ["certified", "undecided", "undecided"]
    assert found["p_a_lower"][1:] == [0.0, 0.0]
    assert found["p_b_upper"] == [0.021, 0.7, 1.0]
    assert found["ood_score"] == [5.1, largest, largest]
    assert found["ood_p_value"] == [0.62, 0.001, 0.0]
    assert found["ood_in_distribution"] == [True, False, False]
    assert found["ood_verdict"] == ["in_distribution", "undetermined", "undetermined"]
    assert found["ood_certified_lower"] == [3.9, 3.9, -largest]
    assert found["ood_certified_upper"] == [6.8, largest, largest]
    assert found["ood_certified_radius"] == [8.0, 8.0, 0.0]
    assert found["mixture_label"] == [2, 2, -1]
    assert found["mixture_radius"] == [6.5, 6.5, 0.0]
    assert all(isinstance(value, str | int) for value in document["parameters"].values())
    assert document["parameters"]["certserve.procedure"] == "target"


def test_confidence_says_a_class_or_nothing():
    nothing = replace(CONFIDENT, class_index=None, ball=None, lower=None, lower_at_input=None)
    rows = [replace(prediction(), confidence=each) for each in (CONFIDENT, nothing, None)]
    call = decode(request(parameters={"certify": "best"}), of=WITH_JOINT)
    document = json.loads(oip_json.encode(call, answer(*rows), WITH_JOINT)[0])
    found = {each["name"]: each["data"] for each in document["outputs"]}
    assert found["confidence_label"] == [2, -1, -1]
    assert found["confidence_lower"] == [0.4375, 0.0, 0.0]
    assert found["confidence_lower_at_input"] == [0.875, 0.0, 0.0]
    assert found["confidence_radius"] == [7.5, 0.0, 0.0]


def test_joint_labels_say_a_class_or_out_or_nothing():
    out = replace(JOINT, bound=replace(JOINT.bound, class_index=JOINT.classes))
    rows = [replace(prediction(), joint=each) for each in (JOINT, out, replace(JOINT, bound=None), None)]
    call = decode(request(parameters={"certify": "best"}), of=WITH_JOINT)
    document = json.loads(oip_json.encode(call, answer(*rows), WITH_JOINT)[0])
    found = {each["name"]: each["data"] for each in document["outputs"]}
    nothing = "undetermined"
    assert found["joint_label"] == [2, -1, -1, -1]
    assert found["joint_verdict"] == ["in_distribution", "out_of_distribution", nothing, nothing]
    assert found["joint_p_lower"] == [JOINT.p_lower, JOINT.p_lower, 0.0, 0.0]
    assert found["joint_radius"] == [JOINT.radius, JOINT.radius, 0.0, 0.0]


def test_how_far_each_row_was_moved_is_a_parameter_of_every_answer():
    named = [{"name": "certificate_radius"}]
    for asked in ({}, {"parameters": {"certify": "best"}}, {"parameters": {"certify": "off"}}, {"outputs": named}):
        document = json.loads(oip_json.encode(decode(request(**asked)), answer(), SMALL)[0])
        assert json.loads(document["parameters"]["certserve.snap_distances"]) == [0.0, 0.25, 0.0]
        assert document["parameters"]["certserve.step"] == "1.0"


def test_what_was_not_moved_says_nothing_of_it():
    document = json.loads(oip_json.encode(decode(request()), answer(ROWS[0]), SMALL)[0])
    assert "certserve.snap_distances" not in document["parameters"]


def test_the_input_may_have_any_name():
    named = model(input=manifest().input.model_copy(update={"name": "x.y"}))
    body = strict_json.dumps(
        {"inputs": [{"name": "x.y", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [7] * 784}]}
    )
    assert decode(body, of=named).call.request.inputs.shape == (1, 1, 28, 28)
