"""A server that stops answers what it has accepted and tells what comes meanwhile to come back, over every wire."""

from __future__ import annotations

import asyncio

import grpc
import httpx
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from serving.config import Settings
from serving.deployments.both_wires import Wires
from serving.errors import Unavailable
from serving.gateway.draining import Draining
from serving.gateway.gateway import Gateway
from serving.models.catalogue import Catalogue
from tests.servers import free_ports
from tests.serving.wires.fake_gateway import FakeGateway, model

PREDICT = "/v1/models/small:predict"


async def test_those_inside_are_waited_for_and_no_more_let_in():
    draining, inside = Draining(), asyncio.Event()

    async def request():
        with draining.admitted():
            await inside.wait()

    requests = [asyncio.create_task(request()) for _ in range(3)]
    await asyncio.sleep(0)
    ending = asyncio.create_task(draining.drain())
    await asyncio.sleep(0)
    with pytest.raises(Unavailable, match="stopping") as refused, draining.admitted():
        pass
    assert refused.value.retry_after_s
    assert not ending.done()
    inside.set()
    await asyncio.wait_for(ending, 5)
    assert all(each.done() for each in requests)


async def test_one_that_fails_is_no_longer_waited_for():
    draining = Draining()
    with pytest.raises(ZeroDivisionError), draining.admitted():
        raise ZeroDivisionError
    await asyncio.wait_for(draining.drain(), 5)


class _Held(Gateway):
    """A real gateway before an engine that answers when it is let."""

    def __init__(self, fake):
        super().__init__(Catalogue(fake.models()), None, b"s" * 32, fake.limits)
        self._fake = fake

    async def predict(self, request):
        return await self._fake.predict(request)


@pytest.fixture
async def wires(tmp_path):
    fake = FakeGateway(model(name="small", shape=(2, 2, 1), layout="HWC"))
    fake.hold.clear()
    http, rpc = free_ports(2)
    gateway = _Held(fake)
    found = Wires(gateway, Settings(models=tmp_path, http_port=http, grpc_port=rpc, metrics_port=0), shared=False)
    await found.open()
    yield found, fake, f"http://127.0.0.1:{http}", f"127.0.0.1:{rpc}"
    fake.hold.set()


ROW = {"instances": [[[[1], [2]], [[3], [4]]]]}


def _grpc_row():
    return pb.PredictRequest(model="small", grid=pb.GridTensor(shape=[1, 2, 2, 1], data=[1, 2, 3, 4]))


async def test_both_wires_answer_what_they_accepted_and_refuse_the_rest(wires):
    found, fake, http, rpc = wires
    async with httpx.AsyncClient(base_url=http, trust_env=False) as client, grpc.aio.insecure_channel(rpc) as channel:
        stub = certserve_pb2_grpc.CertificationServiceStub(channel)
        accepted = [asyncio.ensure_future(client.post(PREDICT, json=ROW)), asyncio.ensure_future(_call(stub))]
        async with asyncio.timeout(20):
            while len(fake.asked) < 2:
                await asyncio.sleep(0.01)
        closing = asyncio.create_task(found.close())
        await asyncio.sleep(0.05)
        for path, verb in ((PREDICT, "POST"), ("/v2/models/small/infer", "POST"), ("/v2/health/ready", "GET")):
            refused = await client.request(verb, path, json=ROW if verb == "POST" else None)
            assert refused.status_code == 503, (path, refused.text)
            assert int(refused.headers["Retry-After"]) >= 1
            assert refused.headers["Content-Type"] == "application/json"
            assert refused.headers["Connection"] == "close"
        assert (await client.get("/v2/health/live")).status_code == 200
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await _call(stub)
        assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
        hint = error_details_pb2.RetryInfo()
        assert any(each.Unpack(hint) for each in rpc_status.from_call(failed.value).details)
        assert hint.retry_delay.seconds >= 1
        assert not closing.done()
        fake.hold.set()
        answer, reply = await asyncio.gather(*accepted)
        assert answer.status_code == 200
        assert len(reply.predictions) == 1
        await asyncio.wait_for(closing, 10)
        with pytest.raises(httpx.TransportError):
            await client.get("/v2/health/live")


async def _call(stub):
    return await stub.Predict(_grpc_row(), timeout=20)
