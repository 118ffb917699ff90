"""Triton's extensions about the server itself: both wires say the same, all of it can be read, and nothing changed."""

from __future__ import annotations

import grpc
import pytest
from google.protobuf import json_format

from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.wires.grpc.server import build_server

READY = [
    {"name": "pictures", "version": "1", "state": "READY"},
    {"name": "pictures", "version": "2", "state": "READY"},
    {"name": "rgb", "version": "1", "state": "READY"},
]
TRACE = {
    "trace_level": ["OFF"],
    "trace_rate": "1000",
    "trace_count": "-1",
    "log_frequency": "0",
    "trace_file": "",
    "trace_mode": "triton",
}
LOG_VALUES = {bool: "bool_param", int: "uint32_param", str: "string_param"}


@pytest.fixture
async def inference(gateway):
    server, port = build_server(gateway, "127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield oip_grpc.GRPCInferenceServiceStub(opened)
    await server.stop(0)


async def answered(response):
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/json"
    return response.json()


async def refused(http, inference, request, call, status, code, said):
    """Both wires refuse, and say it in the same words."""
    response = await http.request(*request[:2], json=request[2] if len(request) > 2 else None)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json"), response.text
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(inference, call[0])(call[1])
    assert caught.value.code() is code
    assert caught.value.details() == response.json()["error"]
    assert said in caught.value.details()


@pytest.mark.parametrize("body", [b"", b"{}", b'{"ready":false}', b'{"ready":true,"other":1}'])
async def test_the_index_names_every_model_and_version(http, inference, body):
    assert await answered(await http.post("/v2/repository/index", content=body)) == READY
    found = await inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=b"true" in body))
    assert [json_format.MessageToDict(each) for each in found.models] == READY


async def test_models_that_cannot_answer_yet_are_not_among_the_ready_ones(http, inference, gateway):
    gateway.is_ready = False
    found = await answered(await http.post("/v2/repository/index"))
    assert {each["state"] for each in found} == {"UNAVAILABLE"}
    assert found[0]["reason"] == "its models are still being proven"
    assert await answered(await http.post("/v2/repository/index", json={"ready": True})) == []
    assert not (await inference.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))).models
    models = (await inference.RepositoryIndex(oip.RepositoryIndexRequest())).models
    assert [json_format.MessageToDict(each) for each in models] == found


@pytest.mark.parametrize("path", ["/v2/trace/setting", "/v2/models/pictures/trace/setting"])
async def test_the_settings_of_tracing_are_read_and_kept(http, inference, path):
    assert await answered(await http.get(path)) == TRACE
    name = "pictures" if "models" in path else ""
    for same in ({}, TRACE, {"trace_level": "OFF", "trace_rate": 1000}, dict.fromkeys(TRACE)):
        assert await answered(await http.post(path, json=same)) == TRACE
    for settings in ({}, {name: [value] if isinstance(value, str) else value for name, value in TRACE.items()}):
        request = oip.TraceSettingRequest(model_name=name)
        for key, value in settings.items():
            request.settings[key].value.extend(value)
        found = await inference.TraceSetting(request)
        assert {key: list(each.value) for key, each in found.settings.items()} == {
            key: value if isinstance(value, list) else [value] for key, value in TRACE.items()
        }


async def test_the_settings_of_the_log_are_those_of_the_process(http, inference, caplog):
    found = await answered(await http.get("/v2/logging"))
    assert (found["log_file"], found["log_format"], found["log_error"]) == ("", "default", True)
    assert await answered(await http.post("/v2/logging", json={**found, "log_file": None})) == found
    request = oip.LogSettingsRequest()
    for key, value in found.items():
        setattr(request.settings[key], LOG_VALUES[type(value)], value)
    for asked in (request, oip.LogSettingsRequest()):
        said = (await inference.LogSettings(asked)).settings
        assert {key: getattr(each, each.WhichOneof("parameter_choice")) for key, each in said.items()} == found
    caplog.set_level("DEBUG", logger="certserve")
    assert (await answered(await http.get("/v2/logging")))["log_verbose_level"] == 1


@pytest.mark.parametrize("memory", ["system", "cuda"])
async def test_no_shared_memory_is_registered_before_or_after_it_is_unregistered(http, inference, memory):
    base, kind = f"/v2/{memory}sharedmemory", memory.capitalize()
    for path in (base, base + "/region/some%20name"):
        await answered(await http.post(path + "/unregister"))
    assert await answered(await http.get(base + "/status")) == []
    status = getattr(oip, f"{kind}SharedMemoryStatusRequest")
    unregister = getattr(oip, f"{kind}SharedMemoryUnregisterRequest")
    for name in ("", "some name"):
        await getattr(inference, f"{kind}SharedMemoryUnregister")(unregister(name=name))
    assert not (await getattr(inference, f"{kind}SharedMemoryStatus")(status())).regions
    region = ("GET", base + "/region/mine/status"), (f"{kind}SharedMemoryStatus", status(name="mine"))
    said = f"Unable to find {memory} shared memory region: 'mine'"
    await refused(http, inference, *region, 404, grpc.StatusCode.NOT_FOUND, said)


def _trace(**values):
    request = oip.TraceSettingRequest(model_name=values.pop("model_name", ""))
    for key, value in values.items():
        request.settings[key].value.extend(value)
    return request


def _log(**values):
    request = oip.LogSettingsRequest()
    for key, value in values.items():
        setattr(request.settings[key], LOG_VALUES[type(value)], value)
    return request


REGISTER = {"key": "/k", "byte_size": 8}


@pytest.mark.parametrize(
    ("request_", "call", "said"),
    [
        (
            ("POST", "/v2/repository/models/pictures/load", {"parameters": {"config": "{}"}}),
            ("RepositoryModelLoad", oip.RepositoryModelLoadRequest(model_name="pictures")),
            "failed to load 'pictures': explicit model load / unload is not allowed",
        ),
        (
            ("POST", "/v2/repository/models/nope/unload"),
            ("RepositoryModelUnload", oip.RepositoryModelUnloadRequest(repository_name="nope")),
            "failed to unload 'nope'",
        ),
        (
            ("POST", "/v2/repository/mine/index"),
            ("RepositoryIndex", oip.RepositoryIndexRequest(repository_name="mine")),
            "'repository_name' specification is not supported",
        ),
        (
            ("POST", "/v2/trace/setting", {"trace_level": ["TIMESTAMPS", "TENSORS"]}),
            ("TraceSetting", _trace(trace_level=["TIMESTAMPS", "TENSORS"])),
            "trace_level is ['OFF'] and can not be updated through network protocol",
        ),
        (
            ("POST", "/v2/models/pictures/trace/setting", {"trace_rate": "1"}),
            ("TraceSetting", _trace(model_name="pictures", trace_rate=["1"])),
            "trace_rate is '1000'",
        ),
        (
            ("POST", "/v2/trace/setting", {"trace_file": "/etc/passwd"}),
            ("TraceSetting", _trace(trace_file=["/etc/passwd"])),
            "trace file location can not be updated through network protocol",
        ),
        (
            ("POST", "/v2/logging", {"log_file": "/etc/passwd"}),
            ("LogSettings", _log(log_file="/etc/passwd")),
            "log file location can not be updated through network protocol",
        ),
        (
            ("POST", "/v2/logging", {"log_verbose_level": 9}),
            ("LogSettings", _log(log_verbose_level=9)),
            "can not be updated through network protocol; got 9",
        ),
        *(
            (
                ("POST", f"/v2/{memory}sharedmemory/region/mine/register", REGISTER),
                (
                    f"{memory.capitalize()}SharedMemoryRegister",
                    getattr(oip, f"{memory.capitalize()}SharedMemoryRegisterRequest")(name="mine", byte_size=8),
                ),
                "Client shared memory is disabled",
            )
            for memory in ("system", "cuda")
        ),
    ],
)
async def test_what_would_change_the_server_is_not_offered(http, inference, request_, call, said):
    await refused(http, inference, request_, call, 501, grpc.StatusCode.UNIMPLEMENTED, said)


@pytest.mark.parametrize(
    ("request_", "call", "said"),
    [
        (
            ("POST", "/v2/trace/setting", {"colour": 1}),
            ("TraceSetting", _trace(colour=["1"])),
            "unknown setting 'colour'",
        ),
        (("POST", "/v2/logging", {"colour": 1}), ("LogSettings", _log(colour=1)), "known are log_file, log_info"),
    ],
)
async def test_a_setting_that_does_not_exist_is_refused(http, inference, request_, call, said):
    await refused(http, inference, request_, call, 400, grpc.StatusCode.INVALID_ARGUMENT, said)


async def test_the_settings_of_a_model_that_is_not_served_are_not_found(http, inference):
    call = ("TraceSetting", _trace(model_name="nope"))
    request = ("GET", "/v2/models/nope/trace/setting")
    await refused(http, inference, request, call, 404, grpc.StatusCode.NOT_FOUND, "Request for unknown model: 'nope'")
    assert (await http.get("/v2/models/pictures/versions/9/trace/setting")).status_code == 404


@pytest.mark.parametrize(
    ("path", "body", "status", "said"),
    [
        ("/v2/repository/index", b"[]", 400, "the body is a JSON array; expected an object"),
        ("/v2/repository/index", b'{"ready":1}', 400, "ready is 1; expected true or false"),
        ("/v2/trace/setting", b"{", 400, "the body is not JSON"),
        ("/v2/logging", b'{"log_info":' + b" " * 70_000 + b"true}", 413, "over the limit of 65536 bytes"),
        ("/v2/logging", b'{"log_info":"true"}', 501, "log_info is"),
    ],
)
async def test_bad_bodies_are_told_what_was_expected(http, path, body, status, said):
    response = await http.post(path, content=body)
    assert response.status_code == status
    assert said in response.json()["error"]
