from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from serving.config import Limits
from serving.errors import InvalidInput
from serving.wires.open_inference import generate, oip_json
from tests.serving.wires.fake_gateway import ROWS, answer, model
from tests.serving.wires.pictures import encoded, grey

SMALL = model(shape=(2, 2, 1), layout="HWC")
LIMITS = Limits(max_rows=4, max_body_bytes=1000)
ROW = [[[1], [2]], [[3], [4]]]


def decode(document, of=SMALL, limits=LIMITS):
    return generate.decode(json.dumps(document).encode(), of, limits)


@pytest.mark.parametrize(
    ("value", "rows"),
    [([1, 2, 3, 4], 1), (ROW, 1), ([ROW], 1), ([1, 2, 3, 4] * 3, 3), ([ROW] * 3, 3)],
)
def test_numbers_are_the_grids_flat_or_nested_of_a_row_or_more(value, rows):
    inputs = decode({"image": value}).request.inputs
    assert inputs.dtype == np.uint8
    assert np.array_equal(inputs, np.array([ROW] * rows))


@pytest.mark.parametrize("nested", ["flat", "row", "rows"])
def test_a_long_array_of_numbers_is_read_in_pieces_in_each_form(nested):
    large = model(shape=(200, 200, 1), layout="HWC")
    pixels = np.random.default_rng(1).integers(0, 256, (1, 200, 200, 1))
    value = {"flat": pixels.ravel(), "row": pixels[0], "rows": pixels}[nested].tolist()
    assert np.array_equal(decode({"image": value}, large, Limits()).request.inputs, pixels)


def test_a_picture_is_a_file_as_base64():
    pixels = grey()
    text = base64.b64encode(encoded(pixels)).decode()
    assert np.array_equal(decode({"image": text}, model(), Limits()).request.inputs, pixels[None, None])


def test_every_other_key_is_a_parameter_and_so_is_what_parameters_holds():
    call = decode({"image": ROW, "certify": "best", "id": "7", "parameters": {"max_draws": 320, "stream": False}})
    assert (call.id, call.request.options.certify, call.request.options.max_draws) == ("7", "best", 320)
    assert decode({"image": ROW, "colour": "red", "nested": {"x": 1}}).request.options.off is False


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, r"expected one input named 'image', got \[\]"),
        ({"image": [1, 2, 3]}, "input 'image' has 3 numbers; expected 4 for each row, or a file as base64"),
        ({"image": []}, "has 0 numbers"),
        ({"image": [[1, 2], [3, 4]]}, "instances|data of input 'image'"),
        ({"image": [1, 2, 3, 4] * 5}, "has 5 rows, over the limit of 4"),
        ({"image": [1, 2, 3, 0.5]}, "is UINT8 and holds 0.5"),
        ({"image": [1, 2, 3, 256]}, "out of the range of UINT8"),
        ({"image": None}, "has 1 numbers"),
        ({"image": "no base64"}, "is not base64"),
        ({"image": ROW, "parameters": []}, "parameters is a JSON array; expected an object"),
        ({"image": ROW, "id": 5}, "id is 5; expected a string"),
        ({"image": ROW, "alpha": 0.1, "parameters": {"alpha": 0.2}}, "'alpha' is given twice"),
        ({"image": ROW, "certserve.colour": 1}, "unknown parameter 'certserve.colour'"),
        ({"image": ROW, "triton_x": 1}, "reserved for Triton usage"),
        ({"image": ROW, "alpha": "x"}, "alpha must be a finite number"),
    ],
)
def test_what_is_wrong_is_said(document, said):
    with pytest.raises(InvalidInput, match=said):
        decode(document)


def test_the_outputs_are_those_of_infer_as_keys():
    call = decode({"image": [ROW] * len(ROWS), "certify": "best", "id": "7"})
    found = generate.encode(call, answer(), SMALL)
    body, _ = oip_json.encode(oip_json.JsonCall(call=call, binary=False), answer(), SMALL)
    infer = json.loads(body)
    assert (found.pop("id"), found.pop("model_name"), found.pop("model_version")) == ("7", "pictures", "1")
    expected = {each["name"]: each["data"] for each in infer["outputs"]} | infer["parameters"]
    assert json.loads(json.dumps(found)) == expected


def test_one_number_alone_is_no_array():
    found = generate.encode(decode({"image": ROW, "certify": "best"}), answer(ROWS[0]), SMALL)
    assert (found["label"], found["certificate_status"]) == (3, "certified")
    assert len(found["probabilities"]) == 4
    assert "id" not in found


async def test_it_is_answered_over_http_and_counted_as_every_other(http, gateway):
    for path in ("/v2/models/pictures/generate", "/v2/models/pictures/versions/1/generate/"):
        response = await http.post(path, json={"image": [0] * 784, "certify": "target"})
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/json"
        assert response.json()["certificate_status"] == "certified"
    assert gateway.observed == [("oip_http", "OK")] * 2
    assert gateway.asked[0].plain
    (counted,) = (await http.get("/v2/models/pictures/versions/1/stats")).json()["model_stats"]
    assert counted["inference_count"] == 1
    wrong = await http.post("/v2/models/pictures/generate", json={"image": 1})
    assert (wrong.status_code, "784 for each row" in wrong.json()["error"]) == (400, True)
    assert (await http.post("/v2/models/nope/generate", json={})).status_code == 404


async def test_a_stream_says_each_row_as_it_comes_about_and_ends_with_what_generate_says(http, gateway):
    body = {"image": [0] * 784, "certify": "best", "id": "7"}
    unary = (await http.post("/v2/models/pictures/generate", json=body)).json()
    response = await http.post("/v2/models/pictures/generate_stream", json=body)
    assert (response.status_code, response.headers["content-type"]) == (200, "text/event-stream")
    said = [json.loads(each.removeprefix("data: ")) for each in response.text.removesuffix("\n\n").split("\n\n")]
    assert [(each.pop("certserve.event"), each.pop("certserve.row")) for each in said] == [
        ("base", 0),
        ("certificate", 0),
        ("final", 0),
    ]
    assert said[-1] == unary
    assert (said[0]["certificate_status"], said[0]["certificate_radius"]) == ("undecided", 0.0)
    assert gateway.observed == [("oip_http", "OK")] * 2
    many = (await http.post("/v2/models/pictures/generate_stream", json={**body, "image": [0] * 1568})).text
    assert [json.loads(each[6:])["certserve.row"] for each in many.strip().split("\n\n")] == [0, 1] * 3
    wrong = await http.post("/v2/models/pictures/generate_stream", json={"image": 1})
    assert (wrong.status_code, wrong.headers["content-type"]) == (400, "application/json")
