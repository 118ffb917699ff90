"""`kill -9` of replicas under load: keyed draws make the retry harmless, so nothing is lost and nothing changes."""

from __future__ import annotations

import asyncio
import time

import grpc
import httpx
import psutil
import pytest

pytestmark = pytest.mark.e2e
ROWS = [[100 + i % 60, i, 7, 9] for i in range(12)]
QUERY = {"certify": "best", "max_draws": 20_000, "deadline_ms": 15_000}
SETTLED_S = 30.0


@pytest.fixture
def server(shared):
    return shared.running("one")


def replicas(address, deployment):
    found = []
    for process in psutil.Process(address.process).children(recursive=True):
        if f"ServeReplica:certserve:{deployment}" in " ".join(process.cmdline()):
            found.append(process)
    return found


async def ask(client, address, row):
    url = f"{address.http}/v1/models/half-space:predict"
    try:
        answer = await client.post(url, params=QUERY, json={"instances": [row]})
    except httpx.TransportError:
        return "closed", None
    return answer.status_code, answer.json()["predictions"][0] if answer.status_code == 200 else answer.text


async def under_load(address, action, seconds):
    """Eight clients in a closed loop for some seconds, `action` after one; what each request came to."""
    outcomes, stop = [], time.monotonic() + seconds

    async def client_loop(client, first):
        turn = first
        while time.monotonic() < stop:
            row = ROWS[turn % len(ROWS)]
            outcomes.append((time.monotonic(), tuple(row), *await ask(client, address, row)))
            turn += 1

    async with httpx.AsyncClient(timeout=60) as client:
        loops = [asyncio.create_task(client_loop(client, i)) for i in range(8)]
        await asyncio.sleep(1.0)
        action()
        await asyncio.gather(*loops)
    return outcomes


async def before(address):
    async with httpx.AsyncClient(timeout=60) as client:
        return {tuple(row): (await ask(client, address, row))[1] for row in ROWS}


async def settled(address, deployment, gone):
    """Until a new replica answers, health is back, and both wires answer again."""
    deadline = time.monotonic() + SETTLED_S
    async with httpx.AsyncClient(timeout=20) as client:
        while time.monotonic() < deadline:
            alive = [r for r in replicas(address, deployment) if r.pid != gone]
            if alive and (await ask(client, address, ROWS[0]))[0] == 200 and _grpc_answers(address):
                return
            await asyncio.sleep(0.2)
    raise AssertionError(f"not settled after {SETTLED_S} s")


def _grpc_answers(address):
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address.grpc) as channel:
        try:
            reply = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5)
        except grpc.RpcError:
            return False
        return reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_an_engine_replica_is_killed(server):
    truth = await before(server)
    (engine,) = replicas(server, "engine")
    outcomes = await under_load(server, engine.kill, seconds=4)
    await settled(server, "engine", engine.pid)
    assert {status for _, _, status, _ in outcomes} <= {200, 503}
    assert sum(status == 200 for _, _, status, _ in outcomes) > len(outcomes) / 2
    for _, row, status, answer in outcomes:
        if status == 200 and answer["draws"] == truth[row]["draws"]:
            assert answer == truth[row]
    assert await before(server) == truth


async def test_a_gateway_replica_is_killed(server):
    truth = await before(server)
    (gateway,) = replicas(server, "gateway")
    outcomes = await under_load(server, gateway.kill, seconds=4)
    await settled(server, "gateway", gateway.pid)
    assert {status for _, _, status, _ in outcomes} <= {200, 500, 502, 503, "closed"}
    assert await before(server) == truth
