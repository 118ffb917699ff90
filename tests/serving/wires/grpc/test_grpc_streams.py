"""Streams over gRPC: an answer that is watched while it comes about, and many requests in one call."""

from __future__ import annotations

import asyncio
import logging

import grpc
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving import errors
from serving.config import Limits
from serving.wires.grpc import conversation
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import error_of, refused, serving
from tests.serving.wires.grpc.test_grpc_server import infer
from tests.serving.wires.http2 import DATA, END_HEADERS, END_STREAM, HEADERS, Connection, frame, head

Event = pb.StreamCertificateResponse
ROWS = pb.PredictRequest(model="pictures", grid=pb.GridTensor(shape=[3, 1, 28, 28], data=[0] * 3 * 784))


@pytest.fixture
def gateway():
    return FakeGateway()


@pytest.fixture
async def channel(gateway):
    async with serving(gateway) as opened:
        yield opened


def watch(channel, request=ROWS, **about):
    return pb_grpc.CertificationServiceStub(channel).StreamCertificate(
        pb.StreamCertificateRequest(request=request), **about
    )


def talk(channel, *requests, **about):
    async def sent():
        for each in requests:
            yield each

    return oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(sent(), **about)


def progressing(**changes):
    return infer(parameters={"certserve.progress": oip.InferParameter(bool_param=True)}, **changes)


async def rest(call):
    """What is left of a call of which something was read."""
    found = []
    while (response := await call.read()) != grpc.aio.EOF:
        found.append(response)
    return found


def kind(response):
    return response.infer_response.parameters["certserve.event"].string_param


def last(response):
    return response.infer_response.parameters["triton_final_response"].bool_param


async def test_each_row_is_told_at_once_then_what_is_proven_then_what_the_answer_says(channel, gateway):
    unary = await pb_grpc.CertificationServiceStub(channel).Predict(ROWS)
    found = [each async for each in watch(channel)]
    assert [(each.event, each.row, each.rows) for each in found] == [
        (event, row, 3) for event in (Event.EVENT_BASE, Event.EVENT_CERTIFICATE, Event.EVENT_FINAL) for row in range(3)
    ]
    assert [each.prediction for each in found[6:]] == list(unary.predictions)
    assert {each.model.SerializeToString() for each in found} == {unary.model.SerializeToString()}
    for each in found[:3]:
        assert not any(each.prediction.HasField(part) for part in ("certificate", "ood", "mixture"))
        assert (each.prediction.label, each.prediction.draws) == ("class 3", 0)
    assert gateway.observed == [("grpc", "OK")] * 2


@pytest.mark.parametrize(
    ("failure", "code"), [(errors.Unavailable("x", retry_after_s=2), "UNAVAILABLE"), (RuntimeError("y"), "INTERNAL")]
)
async def test_what_fails_after_some_answers_is_the_call_s_status(channel, gateway, failure, code):
    gateway.failure = failure
    call = watch(channel, metadata=(("x-request-id", "me.1"),))
    assert (await call.read()).event == Event.EVENT_BASE
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await rest(call)
    assert error_of(caught.value) == (code, code, "me.1")
    assert gateway.observed == [("grpc", code)]


async def test_a_stream_without_a_request_or_with_a_wrong_one_is_refused_as_ever(channel):
    for request, code in (
        (pb.PredictRequest(), "NOT_FOUND"),
        (pb.PredictRequest(model="pictures"), "INVALID_ARGUMENT"),
    ):
        assert error_of(await refused(watch(channel, request).read()))[0] == code


@pytest.mark.parametrize("stream", [watch, lambda channel: talk(channel, progressing())], ids=["typed", "open"])
async def test_who_cancels_a_stream_ends_its_work(channel, gateway, stream):
    gateway.hold.clear()
    call = stream(channel)
    await call.read()
    while not gateway.asked:
        await asyncio.sleep(0.01)
    call.cancel()
    async with asyncio.timeout(5):
        while not gateway.cancelled or not gateway.observed or gateway.buffered.held:
            await asyncio.sleep(0.01)
    assert [code for _, code in gateway.observed] == ["CANCELLED"]


async def test_a_server_that_stops_finishes_streams_and_ends_conversations_that_wait(channel, gateway):
    await pb_grpc.CertificationServiceStub(channel).Predict(ROWS)  # one that is over is not waited for, nor counted
    gateway.hold.clear()
    watched, working, waiting = watch(channel), talk(channel, infer()), talk(channel)
    await watched.read()
    while len(gateway.asked) < 3:
        await asyncio.sleep(0.01)
    idle = oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
    await idle.write(infer(model_name="nope"))
    assert (await idle.read()).error_message
    stopping = asyncio.create_task(channel.server.stop(30))
    assert error_of(await refused(idle.read()))[0] == "UNAVAILABLE"
    assert not stopping.done()
    gateway.hold.set()
    assert (await rest(watched))[-1].event == Event.EVENT_FINAL
    assert last(await working.read())
    assert await waiting.read() == grpc.aio.EOF
    await asyncio.wait_for(stopping, 10)


async def test_every_request_of_a_conversation_is_answered_in_order_whatever_is_wrong_with_others(
    channel, gateway, caplog
):
    requests = [
        infer(id="1"),
        infer(id="2", model_name="nope"),
        infer(id="3", inputs=[]),
        progressing(id="4"),
        infer(id="5"),
    ]
    with caplog.at_level(logging.WARNING):
        found = [each async for each in talk(channel, *requests)]
    assert [(each.infer_response.id, last(each), bool(each.error_message)) for each in found] == [
        ("1", True, False),
        ("2", True, True),
        ("3", True, True),
        ("4", False, False),
        ("4", False, False),
        ("4", True, False),
        ("5", True, False),
    ]
    assert [kind(each) for each in found if not each.error_message] == [
        "final",
        "base",
        "certificate",
        "final",
        "final",
    ]
    assert found[1].error_message == "Request for unknown model: 'nope' is not found"
    unary = await oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(id="1"))
    assert found[0].infer_response.raw_output_contents == unary.raw_output_contents
    assert found[0].infer_response.outputs == unary.outputs
    assert sorted(gateway.observed) == sorted(
        [("oip_grpc", "OK")] * 4 + [("oip_grpc", "NOT_FOUND"), ("oip_grpc", "INVALID_ARGUMENT")]
    )
    assert not caplog.records


async def test_a_defect_in_one_request_is_told_without_its_text_and_the_others_go_on(channel, gateway, caplog):
    gateway.failure = RuntimeError("secret path")
    call = oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer(metadata=(("x-request-id", "me.1"),))
    await call.write(infer())
    assert (await call.read()).error_message == f"something went wrong in the server; {errors.SEE_LOG}"
    assert any("me.1" in record.getMessage() for record in caplog.records)
    gateway.failure = None
    await call.write(infer())
    assert not (await call.read()).error_message


async def test_a_few_requests_of_a_conversation_are_worked_at_together_and_no_more(channel, gateway):
    gateway.hold.clear()
    call = talk(channel, *(infer(id=str(each)) for each in range(30)))
    reading = asyncio.create_task(call.read())
    while len(gateway.asked) < conversation.AT_ONCE:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    assert len(gateway.asked) == conversation.AT_ONCE
    gateway.hold.set()
    first = await reading
    assert [each.infer_response.id for each in [first, *await rest(call)]] == [str(i) for i in range(30)]


async def test_progress_is_for_streams_alone(channel):
    error = await refused(oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(progressing()))
    assert "unknown parameter 'certserve.progress'" in error.details()
    wrong = infer(parameters={"certserve.progress": oip.InferParameter(string_param="yes")})
    assert "expected true or false" in (await talk(channel, wrong).read()).error_message


async def test_a_long_conversation_keeps_no_more_than_what_is_on_its_way():
    """Many times what may be kept at once passes through one call, and small requests without an end."""
    gateway = FakeGateway(limits=Limits(max_body_bytes=2**20, max_json_bytes=2**20, max_buffered_bytes=4 * 2**20))
    async with serving(gateway) as channel:
        call = oip_grpc.GRPCInferenceServiceStub(channel).ModelStreamInfer()
        large, small = infer(id="x" * 400_000), oip.ModelInferRequest(model_name="pictures")
        for request in (*[large] * 40, *[small] * 1_500):
            await call.write(request)
            assert bool((await call.read()).error_message) == (request is small)
        await call.done_writing()
        assert await call.read() == grpc.aio.EOF
    assert gateway.buffered.held == 0


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(conversation, "STALLED_S", 0.3)
    gateway = FakeGateway()
    once = gateway.events

    async def endless(request):
        async for event in once(request):
            for draws in range(10**6):
                yield type(event)(with_draws(event.said, draws))

    gateway.events = endless
    async with serving(gateway) as channel:
        connection = await Connection.open(channel.port)
        message = pb.StreamCertificateRequest(request=ROWS).SerializeToString()
        await connection.send(
            frame(HEADERS, END_HEADERS, 1, head(b"/certserve.v1.CertificationService/StreamCertificate"))
            + frame(DATA, END_STREAM, 1, b"\0" + len(message).to_bytes(4) + message)
        )
        async with asyncio.timeout(10):
            while not gateway.observed:
                await asyncio.sleep(0.02)
        assert gateway.observed == [("grpc", "DEADLINE_EXCEEDED")]
        await connection.close()


def with_draws(answer, draws):
    from dataclasses import replace

    return replace(answer, predictions=tuple(replace(row, draws=draws) for row in answer.predictions))
