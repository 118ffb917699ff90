from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import errors
from serving.config import Limits
from serving.wires.grpc.server import build_server
from serving.wires.kserve_v1 import instances_json
from serving.wires.typed import certserve_document
from tests.serving.wires.fake_gateway import ROWS, FakeGateway, answer, model
from tests.serving.wires.pictures import encoded, grey, png_of


@pytest.fixture
def gateway():
    return FakeGateway(limits=Limits(max_body_bytes=6 * 2**20))


@pytest.fixture
async def channel(gateway):
    server, port = build_server(gateway, "127.0.0.1", 0)
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(0)


@pytest.fixture
def service(channel):
    return pb_grpc.CertificationServiceStub(channel)


@pytest.fixture
def inference(channel):
    return oip_grpc.GRPCInferenceServiceStub(channel)


def picture(data=None, **changes):
    content = encoded(grey()) if data is None else data
    return pb.PredictRequest(model="pictures", image=pb.Image(content=content, content_type="image/png"), **changes)


def infer(**changes):
    tensor = oip.ModelInferRequest.InferInputTensor(name="image", datatype="UINT8", shape=[1, 1, 28, 28])
    fields = {"model_name": "pictures", "id": "7", "inputs": [tensor], "raw_input_contents": [bytes(784)]}
    return oip.ModelInferRequest(**{**fields, **changes})


async def refused(call):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def reason(error):
    (packed, *_) = rpc_status.from_call(error).details
    info = error_details_pb2.ErrorInfo()
    assert packed.Unpack(info)
    assert info.domain == "certserve"
    return info.reason


async def test_predict_answers_the_document_of_http(service, gateway):
    response = await service.Predict(picture(options=pb.Options(certify=pb.CERTIFY_MODE_BEST)))
    asked = gateway.asked[0]
    expected = instances_json.encode(answer(ROWS[0], of=gateway.model("pictures")), asked.options)
    assert certserve_document.document(response) == expected
    assert np.array_equal(asked.inputs, grey()[None, None])
    assert (asked.options.certify, asked.plain, asked.version) == ("best", False, "2")
    assert gateway.observed == [("grpc", "OK")]


@pytest.mark.parametrize(
    ("values", "name", "dtype"), [([1, -2], "grid", np.int32), ([0.5, float("nan")], "values", np.float64)]
)
async def test_rows_arrive_as_they_were_sent(service, gateway, values, name, dtype):
    data = values + [0] * (2 * 784 - 2)
    kind = pb.GridTensor if name == "grid" else pb.ValueTensor
    request = pb.PredictRequest(model="pictures", version="1", **{name: kind(shape=[2, 1, 28, 28], data=data)})
    assert len((await service.Predict(request)).predictions) == 2
    found = gateway.asked[0].inputs
    assert (found.dtype, found.shape, gateway.asked[0].version) == (dtype, (2, 1, 28, 28), "1")
    assert np.array_equal(found.ravel(), np.array(data), equal_nan=name == "values")


@pytest.mark.parametrize(
    ("request_", "code", "said", "why"),
    [
        (pb.PredictRequest(model="pictures"), "INVALID_ARGUMENT", "expected one of image, grid", "INVALID_INPUT"),
        (picture(b""), "INVALID_ARGUMENT", "empty", "INVALID_INPUT"),
        (picture(encoded(grey())[:99]), "INVALID_ARGUMENT", "truncated or damaged", "INVALID_INPUT"),
        (picture(png_of(20_000, 20_000)), "INVALID_ARGUMENT", "20000x20000", "INVALID_INPUT"),
        (picture(options=pb.Options(certify=9)), "INVALID_ARGUMENT", "certify is 9", "INVALID_INPUT"),
        (
            pb.PredictRequest(model="pictures", grid=pb.GridTensor(shape=[1, 28, 28], data=[0] * 784)),
            "INVALID_ARGUMENT",
            "has shape [1, 28, 28], expected [rows, 1, 28, 28]",
            "INVALID_INPUT",
        ),
        (
            pb.PredictRequest(model="pictures", grid=pb.GridTensor(shape=[1, 1, 28, 28], data=[0] * 783)),
            "INVALID_ARGUMENT",
            "has 783 numbers; its shape [1, 1, 28, 28] says 784",
            "INVALID_INPUT",
        ),
        (
            pb.PredictRequest(model="pictures", image=pb.Image(content=b"x", content_type="image/gif")),
            "UNIMPLEMENTED",
            "'image/gif' is not read",
            "UNSUPPORTED_MEDIA",
        ),
        (pb.PredictRequest(model="n" * 5000), "NOT_FOUND", "Request for unknown model: 'nnn", "NOT_FOUND"),
        (pb.PredictRequest(model="pictures", version="8"), "NOT_FOUND", "unknown model", "NOT_FOUND"),
    ],
)
async def test_bad_requests_are_told_what_was_expected(service, gateway, request_, code, said, why):
    error = await refused(service.Predict(request_, metadata=(("x-request-id", "me.1"),)))
    assert error.code().name == code
    assert said in error.details()
    assert len(error.details().encode()) <= 1024
    assert reason(error) == why
    assert dict(error.trailing_metadata())["x-request-id"] == "me.1"
    assert gateway.asked == []
    assert gateway.observed == [("grpc", code)]
    assert (await service.Predict(picture())).predictions


@pytest.mark.parametrize(
    ("failure", "code", "retry"),
    [
        (errors.Overloaded("x", retry_after_s=3), "RESOURCE_EXHAUSTED", 3),
        (errors.Unavailable("é" * 5000, retry_after_s=0.2), "UNAVAILABLE", 1),
        (errors.DeadlinePassed("x"), "DEADLINE_EXCEEDED", None),
        (errors.Internal("x"), "INTERNAL", None),
        (RuntimeError("secret path"), "INTERNAL", None),
    ],
)
@pytest.mark.parametrize("wire", ["grpc", "oip_grpc"])
async def test_failures_keep_their_form(service, inference, gateway, failure, code, retry, wire):
    gateway.failure = failure
    error = await refused(service.Predict(picture()) if wire == "grpc" else inference.ModelInfer(infer()))
    assert error.code().name == code
    assert "secret" not in error.details()
    assert len(error.details().encode()) <= 1024
    found = error_details_pb2.RetryInfo()
    given = any(packed.Unpack(found) for packed in rpc_status.from_call(error).details)
    assert found.retry_delay == Duration(seconds=retry or 0)
    assert given == (retry is not None)
    assert gateway.observed == [(wire, code)]


async def test_every_error_has_a_grpc_code_and_a_status_of_its_own():
    kinds = errors.CertserveError.__subclasses__()
    for kind in kinds:
        assert kind.code in grpc.StatusCode.__members__
    assert len({kind.http_status for kind in kinds}) == len(kinds)


async def test_a_server_whose_engine_has_failed_for_good_is_not_alive(inference, gateway):
    gateway.broken = "its engine has failed"
    assert not (await inference.ServerLive(oip.ServerLiveRequest())).live


async def test_the_open_protocol(inference, gateway):
    assert (await inference.ServerLive(oip.ServerLiveRequest())).live
    assert (await inference.ServerReady(oip.ServerReadyRequest())).ready
    assert (await inference.ModelReady(oip.ModelReadyRequest(name="pictures"))).ready
    assert (await inference.ServerMetadata(oip.ServerMetadataRequest())).name == "certserve"
    metadata = await inference.ModelMetadata(oip.ModelMetadataRequest(name="pictures", version="latest"))
    assert [each.name for each in metadata.outputs] == ["probabilities"]
    config = await inference.ModelConfig(oip.ModelConfigRequest(name="pictures"))
    assert list(config.config.input[0].dims) == [1, 28, 28]
    found = await inference.ModelInfer(infer())
    assert (found.id, found.model_version) == ("7", "2")
    assert np.frombuffer(found.raw_output_contents[0], "<f4").shape == (4,)
    assert gateway.observed == [("oip_grpc", "OK")]
    gateway.is_ready = False
    assert not (await inference.ServerReady(oip.ServerReadyRequest())).ready


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("ModelMetadata", oip.ModelMetadataRequest(name="nope")),
        ("ModelConfig", oip.ModelConfigRequest(name="pictures", version="9")),
        ("ModelInfer", infer(model_name="nope")),
    ],
)
async def test_an_unknown_model_is_not_found(inference, method, request_):
    error = await refused(getattr(inference, method)(request_))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    assert "Request for unknown model" in error.details()


@pytest.mark.parametrize("version", ["", "9", "latest", "x"])
@pytest.mark.parametrize("name", ["nope", "", "pictures"])
async def test_a_model_that_is_not_served_is_not_ready_and_no_error(inference, name, version):
    found = await inference.ModelReady(oip.ModelReadyRequest(name=name, version=version))
    assert found.ready == (name == "pictures" and version in ("", "latest"))


async def test_what_is_not_offered_is_unimplemented(channel):
    for path in ("/inference.GRPCInferenceService/Nothing", "/x/y", "/" + "n" * 3000):
        unknown = channel.unary_unary(path)
        error = await refused(unknown(b"", metadata=(("x-request-id", "me.1"),)))
        assert (error.code(), reason(error)) == (grpc.StatusCode.UNIMPLEMENTED, "NOT_OFFERED")
        assert dict(error.trailing_metadata())["x-request-id"] == "me.1"


async def test_a_message_may_be_as_large_as_a_body_and_no_larger(service):
    big = picture(data=b"\0" * (5 * 2**20))
    assert "not a readable" in (await refused(service.Predict(big))).details()
    error = await refused(service.Predict(picture(data=b"\0" * (6 * 2**20))))
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_the_calls_deadline_reaches_the_gateway_and_cancels(service, gateway):
    await service.Predict(picture(), timeout=3600)
    await service.Predict(picture(), timeout=5)
    assert gateway.asked[0].options.deadline_ms is None
    assert 3000 < gateway.asked[1].options.deadline_ms < 4950
    gateway.hold.clear()
    error = await refused(service.Predict(picture(), timeout=0.3))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await until(lambda: gateway.cancelled == 1)


async def test_a_cancelled_call_cancels_its_work(service, inference, gateway):
    gateway.hold.clear()
    for number, start in enumerate(
        (lambda: service.Predict(picture()), lambda: inference.ModelInfer(infer())), start=1
    ):
        call = start()
        await until(lambda number=number: len(gateway.asked) == number)
        call.cancel()
        await until(lambda number=number: gateway.cancelled == number)
    assert gateway.observed == [("grpc", "CANCELLED"), ("oip_grpc", "CANCELLED")]


async def until(true):
    async with asyncio.timeout(5):
        while not true():
            await asyncio.sleep(0.01)


async def test_health_follows_the_gateway(channel, gateway):
    health = health_pb2_grpc.HealthStub(channel)
    services = ("", "certserve.v1.CertificationService", "inference.GRPCInferenceService", "grpc.health.v1.Health")
    for service in services:
        found = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert found.status == health_pb2.HealthCheckResponse.SERVING
    error = await refused(health.Check(health_pb2.HealthCheckRequest(service="x")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
    watch = health.Watch(health_pb2.HealthCheckRequest())
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
    gateway.is_ready = False
    assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
    watch.cancel()
    unknown = health.Watch(health_pb2.HealthCheckRequest(service="x"))
    assert (await unknown.read()).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    unknown.cancel()


async def test_reflection_lists_the_services(channel):
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    listed = {each.name for each in (await call.read()).list_services_response.service}
    assert listed == {
        "certserve.v1.CertificationService",
        "inference.GRPCInferenceService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


async def test_a_large_picture_is_decoded_off_the_loop():
    gateway = FakeGateway(model(shape=(3, 600, 600)))
    server, port = build_server(gateway, "127.0.0.1", 0)
    await server.start()
    pixels = np.random.default_rng(0).integers(0, 256, (600, 600, 3), dtype=np.uint8)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        await pb_grpc.CertificationServiceStub(opened).Predict(picture(encoded(pixels)))
    assert np.array_equal(gateway.asked[0].inputs[0], pixels.transpose(2, 0, 1))
    await server.stop(0)
