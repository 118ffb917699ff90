from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import errors
from serving.config import Limits
from serving.wires.http.server import build_app
from tests.serving.wires.fake_gateway import FakeGateway, model
from tests.serving.wires.pictures import blank, encoded, grey, png_of

PREDICT, INFER = "/v1/models/pictures:predict", "/v2/models/pictures/infer"
PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}
ROW = [[[0] * 28] * 28]
INSTANCES = json.dumps({"instances": [ROW]}).encode()
CALL = json.dumps(
    {"id": "7", "inputs": [{"name": "image", "shape": [1, 1, 28, 28], "datatype": "UINT8", "data": [0] * 784}]}
).encode()


def is_error(response, status):
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert isinstance(response.json()["error"], str)
    return response.json()["error"]


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/pictures/versions/1:predict", PREDICT + "/"])
async def test_a_picture_is_predicted(http, gateway, path):
    pixels = grey()
    response = await http.post(path + "?certify=best&alpha=0.01", content=encoded(pixels), headers=PNG)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    (row,) = response.json()["predictions"]
    assert row["certificate"]["label"] == "class 2"
    (asked,) = gateway.asked
    assert np.array_equal(asked.inputs, pixels[None, None])
    assert (asked.options.certify, asked.options.alpha, asked.plain) == ("best", 0.01, False)
    assert asked.version == ("1" if "versions" in path else "2")
    assert gateway.observed == [("http", "OK")]


async def test_a_jpeg_and_json_are_predicted(http, gateway):
    jpeg = await http.post(PREDICT, content=encoded(grey(), "JPEG"), headers={"Content-Type": "IMAGE/JPEG"})
    rows = await http.post(PREDICT, json={"instances": [ROW, ROW], "target_radius": 1})
    assert (jpeg.status_code, rows.status_code) == (200, 200)
    assert len(rows.json()["predictions"]) == 2
    assert gateway.asked[1].options.target_radius == 1.0


@pytest.mark.parametrize(
    ("path", "body", "headers", "status", "said"),
    [
        (PREDICT, encoded(grey())[:100], PNG, 400, "truncated or damaged"),
        (PREDICT, png_of(20_000, 20_000), PNG, 400, "20000x20000 pixels, expected 28x28"),
        (PREDICT, blank(size=(20, 20)), PNG, 400, "20x20 pixels, expected 28x28"),
        (PREDICT, b"", PNG, 400, "the body is empty; expected an image/png file"),
        (PREDICT, b"", JSON, 400, "the body is empty"),
        (PREDICT, b'{"instances": [[NaN]]}', JSON, 400, "NaN is not a JSON number"),
        (PREDICT, b'{"instances": [[1, 2]]}', JSON, 400, r"instances\[0\] has 2 elements, expected 1"),
        (PREDICT + "?colour=red", encoded(grey()), PNG, 400, "unknown query parameter 'colour'; known are certify"),
        (PREDICT + "?target_radius=x", encoded(grey()), PNG, 400, "target_radius must be a finite number, got 'x'"),
        (PREDICT + "?alpha=1&alpha=2", encoded(grey()), PNG, 400, "given twice"),
        (PREDICT + "?alpha=1", json.dumps({"instances": [ROW], "alpha": 1}), JSON, 400, "in the query and in the body"),
        (PREDICT, b"x" * 100_001, PNG, 413, "over the limit of 100000 bytes"),
        (PREDICT, gzip.compress(b"\0" * 10**6, mtime=0), {**JSON, "Content-Encoding": "gzip"}, 413, "inflates"),
        (PREDICT, b"x", {**PNG, "Content-Encoding": "br"}, 415, "'br' is not read; expected gzip, deflate or none"),
        (PREDICT, b"x", {"Content-Type": "text/plain"}, 415, "'text/plain' is not read; expected one of image/png"),
        (PREDICT, b"x", {}, 400, "the body is not JSON"),
        ("/v1/models/nope:predict", encoded(grey()), PNG, 404, "Request for unknown model: 'nope' is not found"),
        ("/v1/models/pictures/versions/9:predict", encoded(grey()), PNG, 404, "unknown model"),
        ("/v1/models/a/b:predict", encoded(grey()), PNG, 404, "there is nothing at"),
        ("/v2/models/nope/infer", CALL, {}, 404, "Request for unknown model: 'nope' is not found"),
        (INFER, b"", {}, 400, "the body is empty"),
        (INFER, CALL, {"Inference-Header-Content-Length": "x"}, 400, "expected a number of bytes"),
        (INFER, CALL, {"Inference-Header-Content-Length": "9" * 100}, 400, "expected a number of bytes"),
        (INFER, CALL, {"Inference-Header-Content-Length": "5000"}, 400, "says 5000, and the body has"),
        (INFER, b"x" * 100_001, {}, 413, "over the limit"),
        (INFER, b"x", {"Content-Encoding": "zstd"}, 415, "'zstd' is not read"),
    ],
)
async def test_bad_requests_are_told_what_was_expected(http, gateway, path, body, headers, status, said):
    gateway.limits = Limits(max_body_bytes=100_000)
    assert re.search(said, is_error(await http.post(path, content=body, headers=headers), status))
    assert gateway.asked == []
    assert (await http.post(PREDICT, content=encoded(grey()), headers=PNG)).status_code == 200


@pytest.mark.parametrize(
    ("failure", "status", "retry"),
    [
        (errors.InvalidInput("x"), 400, None),
        (errors.Overloaded("x", retry_after_s=2.3), 429, "3"),
        (errors.Unavailable("x"), 503, "1"),
        (errors.DeadlinePassed("x"), 504, None),
        (errors.Internal("x"), 500, None),
        (RuntimeError("secret path"), 500, None),
    ],
)
@pytest.mark.parametrize(("path", "body", "headers"), [(PREDICT, INSTANCES, JSON), (INFER, CALL, {})])
async def test_failures_keep_their_form(http, gateway, failure, status, retry, path, body, headers):
    gateway.failure = failure
    response = await http.post(path, content=body, headers={**headers, "X-Request-Id": "me.1"})
    assert "secret" not in is_error(response, status)
    assert response.headers.get("retry-after") == retry
    assert response.headers["x-request-id"] == "me.1"
    protocol = "http" if path == PREDICT else "oip_http"
    assert gateway.observed == [(protocol, getattr(failure, "code", "INTERNAL"))]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v3", 404),
        ("POST", "/", 405),
        ("GET", "/v1/models/nope", 404),
        ("GET", "/v2/models/nope", 404),
        ("GET", "/v2/models/pictures/versions/77", 404),
        ("GET", "/v2/models/nope/ready", 404),
        ("GET", "/v2/models/nope/config", 404),
        ("GET", PREDICT, 405),
        ("DELETE", "/v2", 405),
        ("PUT", INFER, 405),
        ("GET", INFER, 405),
        ("POST", "/v2/models/stats", 405),
        ("POST", "/v2/models/pictures/stats", 405),
        ("POST", "/v2/models/pictures/versions/1/stats", 405),
        ("GET", "/v2/models/pictures/generate_stream", 405),
        ("GET", "/v2/models/pictures/generate", 405),
        ("GET", "/v2/repository/index", 405),
        ("GET", "/v2/repository/models/pictures/load", 405),
        ("POST", "/v2/systemsharedmemory/status", 405),
        ("GET", "/v2/cudasharedmemory/unregister", 405),
        ("PUT", "/v2/logging", 405),
        ("GET", "/v2/othersharedmemory/status", 404),
        ("GET", "/v2/systemsharedmemory", 404),
    ],
)
@pytest.mark.parametrize("slash", ["", "/"])
async def test_every_other_route_answers_an_error(http, method, path, status, slash):
    response = await http.request(method, path + slash)
    is_error(response, status)
    assert response.headers["x-request-id"]
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("slash", ["", "/"])
async def test_the_documents_of_the_protocols(http, slash):
    async def get(path):
        response = await http.get(path + slash)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        return response.json()

    for path in ("/", "/health", "/healthz"):
        assert (await get(path))["status"] == "alive"
    assert await get("/v1/models") == {"models": ["pictures", "rgb"]}
    assert await get("/v1/models/pictures") == {"name": "pictures", "ready": True}
    assert (await get("/v2"))["name"] == "certserve"
    assert await get("/v2/health/live") == {"live": True}
    assert await get("/v2/health/ready") == {"ready": True}
    assert await get("/v2/models") == {"models": ["pictures", "rgb"]}
    assert await get("/v2/models/pictures/ready") == {"name": "pictures", "ready": True}
    assert await get("/v2/models/pictures") == {
        "name": "pictures",
        "versions": ["1", "2"],
        "platform": "certserve",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 4]}],
    }
    assert await get("/v2/models/pictures/versions/latest") == await get("/v2/models/pictures/versions/2")
    config = await get("/v2/models/rgb/config")
    assert config["input"] == [{"name": "image", "data_type": "TYPE_UINT8", "format": "FORMAT_NHWC", "dims": [8, 8, 3]}]
    assert config["output"] == [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [4]}]


async def test_not_ready_is_503_and_alive(http, gateway):
    gateway.is_ready = False
    for path in ("/v2/health/ready", "/v2/models/pictures/ready", "/v1/models/pictures"):
        response = await http.get(path)
        is_error(response, 503)
        assert response.json()["ready"] is False
        assert response.headers["retry-after"] == "1"
    assert (await http.get("/v2/health/live")).status_code == 200


async def test_a_server_whose_engine_has_failed_for_good_is_not_alive(http, gateway):
    gateway.broken = "its engine has failed"
    response = await http.get("/v2/health/live")
    is_error(response, 503)
    assert response.json()["live"] is False
    assert "started anew: its engine has failed" in response.json()["error"]


async def test_infer_in_json_and_in_bytes(http, gateway):
    response = await http.post(INFER, content=CALL)
    assert response.headers["content-type"] == "application/json"
    assert response.json()["model_name"] == "pictures"
    assert response.json()["id"] == "7"
    raw = await http.post(INFER, content=bytes(784), headers={"Inference-Header-Content-Length": "0"})
    assert raw.headers["content-type"] == "application/octet-stream"
    length = int(raw.headers["Inference-Header-Content-Length"])
    assert json.loads(raw.content[:length])["outputs"][0]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(raw.content[length:], "<f4").tolist() == response.json()["outputs"][0]["data"]
    assert [each.plain for each in gateway.asked] == [True, True]
    assert gateway.observed == [("oip_http", "OK")] * 2


@pytest.mark.parametrize(("name", "encode"), [("gzip", gzip.compress), ("deflate", zlib.compress)])
async def test_a_body_may_be_compressed(http, gateway, name, encode):
    response = await http.post(INFER, content=encode(CALL), headers={"Content-Encoding": name})
    assert response.status_code == 200
    response = await http.post(PREDICT, content=encode(INSTANCES), headers={"Content-Encoding": name, **JSON})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("br", None),
        ("", None),
        ("gzip;q=0, deflate; q=0.5", "deflate"),
        ("gzip;q=0.2, deflate;q=0.8", "deflate"),
        ("gzip;q=0.000, deflate;q=0", None),
        ("gzip;q=x", None),
        ("*", "gzip"),
        ("*;q=0.5, gzip;q=0", "deflate"),
        ("identity, gzip;q=0.5", None),
        ("x-gzip", "gzip"),
        ("GZIP", "gzip"),
    ],
)
async def test_only_a_large_infer_answer_is_compressed(http, accepted, encoding):
    headers = {"Accept-Encoding": accepted}
    large = json.dumps({**json.loads(CALL), "parameters": {"certify": "best"}}).encode()
    response = await http.post(INFER, content=large, headers=headers)
    assert response.headers.get("content-encoding") == encoding
    assert response.headers["vary"] == "Accept-Encoding"
    assert len(response.json()["outputs"]) == 19
    others = [
        await http.post(INFER, content=CALL, headers=headers),
        await http.post(INFER, content=b"{" * 5000, headers=headers),
        await http.post(PREDICT, json={"instances": [ROW] * 9}, headers=headers),
        await http.get("/v2/models/pictures/config", headers=headers),
    ]
    assert len(others[2].content) > 1024
    assert len(others[3].content) > 1024
    assert all("content-encoding" not in each.headers for each in others)


@pytest.mark.parametrize(
    ("given", "echoed"), [("a.B-c_9", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
async def test_the_request_id_comes_back(http, given, echoed):
    for path in ("/v2", "/nope", "/v2/repository/index"):
        answered = (await http.get(path, headers={"X-Request-Id": given})).headers["x-request-id"]
        assert (answered == given) is echoed
        assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answered)


async def exchange(app, events):
    """Drive the application by hand: what it sends when it receives these events."""
    scope = {
        "type": "http",
        "method": "POST",
        "path": PREDICT,
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    queue, sent = asyncio.Queue(), []
    for event in events:
        queue.put_nowait(event)

    async def send(message):
        sent.append(message)

    await app(scope, queue.get, send)
    return sent


@pytest.mark.parametrize("body", [INSTANCES, INSTANCES[:10]])
async def test_a_client_that_goes_away_cancels_its_work(body):
    gateway = FakeGateway()
    gateway.hold.clear()
    events = [{"type": "http.request", "body": body, "more_body": body != INSTANCES}, {"type": "http.disconnect"}]
    sent = await asyncio.wait_for(exchange(build_app(gateway), events), 5)
    await asyncio.sleep(0)
    assert gateway.cancelled == (1 if body == INSTANCES else 0)
    assert sent[0]["status"] == 499
    assert gateway.observed == [("http", "CANCELLED")]


async def test_a_server_that_is_cancelled_cancels_its_work(http, gateway):
    gateway.hold.clear()
    task = asyncio.create_task(http.post(PREDICT, content=INSTANCES, headers=JSON))
    while not gateway.asked:
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.sleep(0.01)
    assert gateway.cancelled == 1


async def test_a_large_picture_is_decoded_off_the_loop():
    gateway = FakeGateway(model(shape=(3, 600, 600)))
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    data = encoded(pixels)
    transport = httpx.ASGITransport(build_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        response = await client.post(PREDICT, content=data, headers=PNG)
    assert response.status_code == 200
    assert np.array_equal(gateway.asked[0].inputs[0], pixels.transpose(2, 0, 1))


@given(
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"]),
    st.lists(
        st.sampled_from(
            ["v1", "v2", "models", "pictures", ":predict", "versions", "1", "infer", "%2F", "%00", "é", "..", ""]
        )
    ),
    st.text(max_size=10),
    st.binary(max_size=30),
    st.sampled_from(["image/png", "application/json", "text/html", ""]),
)
async def test_whatever_comes_is_answered_in_form(method, parts, query, body, content_type):
    transport = httpx.ASGITransport(build_app(FakeGateway()), raise_app_exceptions=False)
    url = httpx.URL("http://server/" + "/".join(parts).replace("/:", ":"), params=query)
    async with httpx.AsyncClient(transport=transport) as client:
        response = await client.request(method, url, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 501 or response.status_code < 500
    assert response.headers["x-request-id"]
    if response.status_code != 200 and method != "HEAD":
        assert list(response.json()) == ["error"]
    assert response.headers["content-type"] == "application/json"


async def test_requests_in_progress_are_bounded_and_health_goes_on(gateway):
    gateway.hold.clear()
    app = build_app(gateway, max_requests=3)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as client:
        busy = [asyncio.create_task(client.post(PREDICT, content=INSTANCES, headers=JSON)) for _ in range(3)]
        while len(gateway.asked) < 3:
            await asyncio.sleep(0.01)
        refused = await client.post(PREDICT, content=INSTANCES, headers=JSON)
        assert "3 requests are in progress" in is_error(refused, 503)
        assert refused.headers["retry-after"] == "1"
        assert (await client.get("/v2/health/live")).status_code == 200
        gateway.hold.set()
        assert [(await each).status_code for each in busy] == [200] * 3
        assert (await client.post(PREDICT, content=INSTANCES, headers=JSON)).status_code == 200


@pytest.mark.parametrize("failure", [RuntimeError("a defect"), errors.Internal("the operator's log says more")])
async def test_whatever_sends_a_client_to_the_log_is_there_by_its_id(http, gateway, caplog, failure):
    gateway.failure = failure
    response = await http.post(PREDICT, content=INSTANCES, headers={**JSON, "X-Request-Id": "me.7"})
    assert response.status_code == 500
    (record,) = caplog.records
    assert "request me.7 failed" in record.getMessage()


async def test_memory_that_others_hold_is_waited_for_and_given_back(http, gateway):
    large = json.dumps({"instances": [ROW] * 500}).encode()
    gateway.buffered.acquire(gateway.buffered.limit // 2)
    gateway.buffered.limit = gateway.buffered.held + 2 * len(large)
    refused = await http.post(PREDICT, content=large, headers=JSON)
    assert "memory" in is_error(refused, 429)
    assert refused.headers["retry-after"]
    assert (await http.post(PREDICT, content=INSTANCES, headers=JSON)).status_code == 200
    before = gateway.buffered.held
    gateway.buffered.limit *= 10
    assert (await http.post(PREDICT, content=large, headers=JSON)).status_code == 200
    assert gateway.buffered.held == before


@pytest.mark.parametrize(
    ("path", "headers", "length", "status"),
    [
        (PREDICT, JSON, 5_001, 413),
        (PREDICT, PNG, 5_001, 400),
        (INFER, {}, 5_001, 413),
        (INFER, {"Inference-Header-Content-Length": "10"}, 5_001, 400),
        (INFER, {"Inference-Header-Content-Length": "5001"}, 5_001, 413),
        (PREDICT, PNG, 20_001, 413),
    ],
)
async def test_json_has_a_lower_limit_than_other_bodies(http, gateway, path, headers, length, status):
    gateway.limits = Limits(max_body_bytes=20_000, max_json_bytes=5_000)
    is_error(await http.post(path, content=b"[" * length, headers=headers), status)
