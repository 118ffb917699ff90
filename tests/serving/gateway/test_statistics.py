"""Statistics of the Open Inference Protocol: real counts and times, over whatever wire a request came."""

from __future__ import annotations

import time

import grpc
import httpx
import pytest
from google.protobuf import json_format

from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.errors import Overloaded
from serving.wires.http.server import build_app
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import predict, serving
from tests.serving.wires.grpc.test_grpc_server import infer, pb_grpc
from tests.serving.wires.pictures import encoded, grey

PARTS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
async def http(gateway):
    transport = httpx.ASGITransport(build_app(gateway), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        yield client


async def infer_http(http, rows=1, version="", **changes):
    tensor = {"name": "image", "datatype": "UINT8", "shape": [rows, 1, 28, 28], "data": [0] * (rows * 784)}
    path = f"/v2/models/pictures{f'/versions/{version}' if version else ''}/infer"
    return await http.post(path, json={"inputs": [{**tensor, **changes}]})


async def counted(http, path="/v2/models/pictures/versions/2/stats"):
    found = await http.get(path)
    assert found.status_code == 200, found.text
    return found.json()["model_stats"]


async def test_nothing_is_counted_before_the_first_request(http):
    (found,) = await counted(http)
    assert (found["name"], found["version"], found["last_inference"]) == ("pictures", "2", 0)
    assert found["inference_count"] == found["execution_count"] == 0
    assert found["inference_stats"] == {part: {"count": 0, "ns": 0} for part in PARTS}
    assert found["batch_stats"] == []


async def test_requests_rows_and_times_are_counted(http):
    began = time.time()
    for rows in (1, 3, 3):
        assert (await infer_http(http, rows)).status_code == 200
    (found,) = await counted(http)
    assert (found["inference_count"], found["execution_count"]) == (7, 3)
    assert began - 1 <= found["last_inference"] / 1000 <= time.time() + 1
    stats = found["inference_stats"]
    assert {part: stats[part]["count"] for part in PARTS} == {
        **dict.fromkeys(PARTS, 3),
        "fail": 0,
        "cache_hit": 0,
        "cache_miss": 0,
    }
    assert stats["queue"]["ns"] == 3 * 125_000  # what the gateway's answers say
    assert stats["compute_infer"]["ns"] == 3 * 2_500_000
    assert min(stats[part]["ns"] for part in ("compute_input", "compute_output", "success")) > 0
    assert stats["success"]["ns"] >= stats["compute_input"]["ns"] + stats["compute_output"]["ns"]
    assert [each["batch_size"] for each in found["batch_stats"]] == [1, 3]
    assert [each["compute_infer"]["count"] for each in found["batch_stats"]] == [1, 2]


async def test_requests_that_fail_are_counted_as_such(http, gateway):
    assert (await infer_http(http, datatype="BYTES", shape=[1], data=["x"])).status_code == 400
    gateway.failure = Overloaded("x", retry_after_s=1)
    assert (await infer_http(http)).status_code == 429
    (found,) = await counted(http)
    assert (found["inference_stats"]["fail"]["count"], found["inference_stats"]["success"]["count"]) == (2, 0)
    assert found["inference_stats"]["fail"]["ns"] > 0
    assert (found["inference_count"], found["batch_stats"]) == (0, [])


async def test_versions_are_counted_apart_and_given_together(http):
    await infer_http(http, version="1")
    assert [
        (each["version"], each["inference_count"]) for each in await counted(http, "/v2/models/pictures/stats")
    ] == [
        ("1", 1),
        ("2", 0),
    ]
    every = await counted(http, "/v2/models/stats")
    assert [(each["name"], each["version"]) for each in every] == [("pictures", "1"), ("pictures", "2"), ("rgb", "1")]


@pytest.mark.parametrize("path", ["/v2/models/nope/stats", "/v2/models/pictures/versions/9/stats"])
async def test_statistics_of_what_is_not_served_are_not_found(http, path):
    found = await http.get(path)
    assert found.status_code == 404
    assert "Request for unknown model" in found.json()["error"]


async def test_both_wires_count_together_and_give_the_same(gateway, http):
    async with serving(gateway) as channel:
        inference = oip_grpc.GRPCInferenceServiceStub(channel)
        await inference.ModelInfer(infer())
        await pb_grpc.CertificationServiceStub(channel).Predict(predict())
        await infer_http(http)
        picture = await http.post(
            "/v1/models/pictures:predict", content=encoded(grey()), headers={"Content-Type": "image/png"}
        )
        assert picture.status_code == 200
        for name, version, path in (
            ("", "", "/v2/models/stats"),
            ("pictures", "", "/v2/models/pictures/stats"),
            ("pictures", "2", "/v2/models/pictures/versions/2/stats"),
        ):
            found = await inference.ModelStatistics(oip.ModelStatisticsRequest(name=name, version=version))
            expected = json_format.ParseDict({"model_stats": await counted(http, path)}, oip.ModelStatisticsResponse())
            assert found == expected
        (one,) = found.model_stats
        assert one.inference_count == 4
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await inference.ModelStatistics(oip.ModelStatisticsRequest(name="pictures", version="9"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_statistics_are_named_among_the_extensions(http):
    assert "statistics" in (await http.get("/v2")).json()["extensions"]
