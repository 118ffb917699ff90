from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import InvalidInput
from serving.wires.http import multipart
from serving.wires.kserve_v1 import instances_json
from tests.serving.wires.fake_gateway import manifest
from tests.serving.wires.pictures import encoded, grey

PREDICT = "/v1/models/pictures:predict"
PICTURE = encoded(grey())
B64 = base64.b64encode(PICTURE).decode()


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", None])
async def test_a_form_with_one_picture_is_predicted(http, gateway, kind):
    file = ("x.png", PICTURE) if kind is None else ("x.png", PICTURE, kind)
    response = await http.post(PREDICT, files={"file": file}, data={"certify": "best", "alpha": "0.01"})
    assert response.status_code == 200, response.text
    (asked,) = gateway.asked
    assert np.array_equal(asked.inputs, grey()[None, None])
    assert (asked.options.certify, asked.options.alpha) == ("best", 0.01)


@pytest.mark.parametrize(
    ("files", "data", "query", "said"),
    [
        ({}, {"certify": "best"}, "", "holds 0 files"),
        ({"a": ("a", PICTURE), "b": ("b", PICTURE)}, {}, "", "holds 2 files"),
        ({"a": ("a", b"text")}, {}, "", "no PNG and no JPEG"),
        ({"a": ("a", PICTURE[:99], "image/png")}, {}, "", "truncated or damaged"),
        ({"a": ("a", PICTURE)}, {"colour": "red"}, "", "unknown query parameter 'colour'"),
        ({"a": ("a", PICTURE)}, {"alpha": "0.1"}, "?alpha=0.1", "in the query and in the body"),
        ({"a": ("a", PICTURE)}, {"alpha": ["0.1", "0.2"]}, "", "given twice"),
        ({"a": ("a", PICTURE)}, {"norm": "x" * 5000}, "", "over the limit of 1024"),
        ({str(place): (None, "x") for place in range(50)}, {}, "", "more than 32 parts"),
    ],
)
async def test_other_forms_are_told_what_was_expected(http, gateway, files, data, query, said):
    files = files or {"only": (None, "x")}
    response = await http.post(PREDICT + query, files=files, data=data)
    assert response.status_code == 400
    assert said in response.json()["error"]
    assert gateway.asked == []


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--b\r\n", "multipart/form-data"),
        (b"--b\r\n", "multipart/form-data; boundary=" + "b" * 1000),
        (b"", "multipart/form-data; boundary=b"),
        (b"nonsense", "multipart/form-data; boundary=b"),
        (
            b'--b\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\nabc',
            "multipart/form-data; boundary=b",
        ),
        (b"--b\r\n" + b"A: b\r\n" * 1000, "multipart/form-data; boundary=b"),
        (b"--b\r\nA: " + b"b" * 100_000, "multipart/form-data; boundary=b"),
    ],
)
def test_what_is_no_form_is_refused(caplog, body, content_type):
    with pytest.raises(InvalidInput):
        multipart.decode(body, content_type)
    assert not caplog.records


@given(
    st.lists(
        st.sampled_from([b"--b", b"--", b"\r\n", b"Content-Disposition: form-data; filename=x", b"x"]), max_size=12
    )
)
def test_no_bytes_raise_anything_else(parts):
    try:
        data, kind, fields = multipart.decode(b"".join(parts), "multipart/form-data; boundary=b")
    except InvalidInput:
        return
    assert isinstance(data, bytes)
    assert kind in ("image/png", "image/jpeg")
    assert isinstance(fields, list)


@pytest.mark.parametrize("instance", [{"image": {"b64": B64}}, {"image_bytes": {"b64": B64}}, {"b64": B64}])
async def test_pictures_in_base64_are_instances(http, gateway, instance):
    response = await http.post(PREDICT, json={"instances": [instance] * 3, "certify": "best"})
    assert response.status_code == 200, response.text
    (asked,) = gateway.asked
    assert np.array_equal(asked.inputs, np.broadcast_to(grey(), (3, 1, 28, 28)))
    assert asked.options.certify == "best"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([{"b64": "!"}], r"instances\[0\] is not base64"),
        ([{"b64": B64}, {"b64": B64[:80]}], r"instances\[1\]: "),
        ([{"b64": B64}, [[[0] * 28] * 28]], r"instances\[1\] is "),
        ([[[[0] * 28] * 28], {"b64": B64}], r"instances\[1\] is a JSON object"),
        ([{"b64": 5}], "expected"),
        ([{"image": B64}], "expected"),
        ([{"image": {"b64": B64}, "more": 1}], "expected"),
        ([{"image": {"b64": B64, "more": 1}}], "expected"),
        ([{}], "expected"),
        ([{"b64": B64}] * 5, "over the limit of 4"),
    ],
)
def test_other_objects_are_told_what_was_expected(document, said):
    body = json.dumps({"instances": document}).encode()
    with pytest.raises(InvalidInput, match=said):
        instances_json.decode(body, manifest().input, 4, {})


def test_pictures_are_of_the_grid():
    body = json.dumps({"instances": [{"b64": B64}], "input": "values"}).encode()
    with pytest.raises(InvalidInput, match="pictures, which are of the grid"):
        instances_json.decode(body, manifest().input, 4, {})
