"""Messages over gRPC take from the one budget of buffered bytes, before they are read, and give everything back."""

from __future__ import annotations

import asyncio
import contextlib

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.inference import open_inference_pb2 as oip
from protos.inference import open_inference_pb2_grpc as oip_grpc
from serving.config import Limits
from serving.wires.grpc import calls as grpc_calls
from serving.wires.grpc import door, refusal
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import error_of, predict, refused, serving
from tests.serving.wires.grpc.test_grpc_server import infer, pb_grpc
from tests.serving.wires.http2 import DATA, END_HEADERS, HEADERS, Connection, frame, head

MIB = 2**20
INFER = "/inference.GRPCInferenceService/ModelInfer"


@pytest.fixture
def gateway():
    return FakeGateway(limits=Limits(max_body_bytes=2 * MIB, max_json_bytes=MIB, max_buffered_bytes=8 * MIB))


def large(size=MIB):
    return infer(id="x" * size)


def fill(buffered, left):
    """Hold as much as others may, until about `left` bytes are free."""
    while (free := buffered.limit - buffered.held) > left:
        buffered.acquire(max(1, free // 2))


async def until(true, seconds=60.0):
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def test_a_message_that_does_not_fit_is_refused_with_a_hint_and_a_small_one_is_answered(gateway):
    async with serving(gateway) as channel:
        inference = oip_grpc.GRPCInferenceServiceStub(channel)
        taken = gateway.buffered.hold()
        taken.grow(3 * MIB)
        other = gateway.buffered.hold()
        other.grow(2 * MIB)
        error = await refused(inference.ModelInfer(large(2 * MIB - 2000)))
        assert error_of(error)[:2] == ("RESOURCE_EXHAUSTED", "OVERLOADED")
        assert len(error_of(error)[2]) == 32
        hint = error_details_pb2.RetryInfo()
        assert any(each.Unpack(hint) for each in rpc_status.from_call(error).details)
        assert hint.retry_delay.seconds == 1
        assert "memory" in error.details()
        assert gateway.asked == []
        assert (await inference.ModelInfer(infer())).id == "7"
        taken.shrink(taken.size)
        other.shrink(other.size)
        assert len((await inference.ModelInfer(large(MIB))).id) == MIB
    await until(lambda: gateway.buffered.held == 0)


async def test_what_is_kept_of_messages_stays_within_the_budget_and_good_clients_are_answered(gateway):
    async with serving(gateway) as channel:
        gateway.hold.clear()
        inference = oip_grpc.GRPCInferenceServiceStub(channel)
        calls = [inference.ModelInfer(large()) for _ in range(20)]
        await until(lambda: gateway.asked and gateway.buffered.held > 4 * MIB)
        await asyncio.sleep(0.3)
        assert gateway.buffered.held <= 8 * MIB
        gateway.hold.set()
        assert (await inference.ModelInfer(infer())).id == "7"
        ends = await asyncio.gather(*calls, return_exceptions=True)
        told = {each.code().name for each in ends if isinstance(each, grpc.aio.AioRpcError)}
        assert told == {"RESOURCE_EXHAUSTED"}
        # One that was asked may still be refused: its answer needs room, too.
        assert 0 < sum(not isinstance(each, Exception) for each in ends) <= len(gateway.asked) - 1
        await until(lambda: gateway.buffered.held == 0)


async def test_a_refused_call_holds_nothing_though_its_client_neither_ends_it_nor_goes_away(gateway):
    async with serving(gateway) as channel:
        fill(gateway.buffered, left=100_000)
        before = gateway.buffered.held
        connection = await Connection.open(channel.port)
        await connection.send(frame(HEADERS, END_HEADERS, 1, head(INFER.encode())))
        await connection.send(frame(DATA, 0, 1, b"\0\0\1\0\0" + bytes(16_000)))
        await until(lambda: gateway.buffered.held > before)
        for _ in range(3):
            await connection.send(frame(DATA, 0, 1, bytes(16_000)))
        await until(lambda: gateway.buffered.held == before, seconds=30)
        await connection.close()


@pytest.mark.parametrize(
    "end", ["answered", "refused", "cancelled", "deadline", "malformed", "connection lost", "no route"]
)
async def test_however_a_call_ends_what_it_held_is_given_back(gateway, end):
    async with serving(gateway) as channel:
        call = channel.unary_unary("/x/y" if end == "no route" else INFER)
        if end == "connection lost":
            connection = await Connection.open(channel.port)
            await connection.send(frame(HEADERS, END_HEADERS, 1, head(INFER.encode())))
            await connection.send(frame(DATA, 0, 1, b"\0\0\1\0\0" + bytes(16_000)))
            await until(lambda: gateway.buffered.held > 16_000)
            await connection.close()
        elif end in ("cancelled", "deadline"):
            gateway.hold.clear()
            asking = call(large().SerializeToString(), timeout=0.5 if end == "deadline" else None)
            await until(lambda: gateway.asked)
            assert gateway.buffered.held > MIB
            asking.cancel() if end == "cancelled" else await refused(asking)
        else:
            request = large() if end == "answered" else infer(id="x" * MIB, model_name="nope")
            with contextlib.suppress(grpc.aio.AioRpcError):
                await call(b"\xff" * MIB if end == "malformed" else request.SerializeToString())
        await until(lambda: gateway.buffered.held == 0)


async def test_a_client_that_sends_on_after_a_refusal_is_cut(gateway, monkeypatch):
    monkeypatch.setattr(door, "_EXCESS", 20_000)
    async with serving(gateway) as channel:
        fill(gateway.buffered, left=10_000)
        connection = await Connection.open(channel.port)
        await connection.send(frame(HEADERS, END_HEADERS, 1, head(INFER.encode())))
        await connection.send(frame(DATA, 0, 1, b"\0\0\1\0\0" + bytes(16_000)))
        await until(lambda: b"grpc-status" in connection.received)
        assert connection.open
        await connection.send(frame(DATA, 0, 1, bytes(16_000)) * 2)
        assert await connection.closed(5)


async def test_calls_are_bounded_in_number_and_health_goes_on(gateway, monkeypatch):
    monkeypatch.setattr(grpc_calls, "_IN_PROGRESS", 2)
    async with serving(gateway) as channel:
        gateway.hold.clear()
        service = pb_grpc.CertificationServiceStub(channel)
        working = [service.Predict(predict()) for _ in range(2)]
        await until(lambda: len(gateway.asked) == 2)
        assert error_of(await refused(service.Predict(predict())))[:2] == ("UNAVAILABLE", "UNAVAILABLE")
        assert (await oip_grpc.GRPCInferenceServiceStub(channel).ServerLive(oip.ServerLiveRequest())).live
        gateway.hold.set()
        assert [len((await each).predictions) for each in working] == [1, 1]
        assert (await service.Predict(predict())).predictions


async def test_calls_that_wait_for_their_message_are_bounded_in_number(gateway, monkeypatch):
    monkeypatch.setattr(grpc_calls, "_IDLE", 3)
    async with serving(gateway) as channel:
        silent = await Connection.open(channel.port)
        for stream in (1, 3, 5):
            await silent.send(frame(HEADERS, END_HEADERS, stream, head()))
        await asyncio.sleep(0.3)
        service = pb_grpc.CertificationServiceStub(channel)
        assert error_of(await refused(service.Predict(predict())))[:2] == ("UNAVAILABLE", "UNAVAILABLE")
        await silent.close()
        await asyncio.sleep(0.3)
        assert (await service.Predict(predict())).predictions


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 1000, 20_000])
def test_lengths_are_written_as_header_compression_reads_them(size):
    first, *rest = refusal._length(size)
    value = first
    for place, each in enumerate(rest):
        value += (each & 127) << (7 * place)
    assert value == size
    assert bool(rest) == (first == 127)
