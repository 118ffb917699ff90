"""However many requests begin, go on or end at once, a turn of the loop takes a few of them, and a health check no more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import Counter
from contextlib import asynccontextmanager, nullcontext

import pytest
import uvloop

from serving.wires.http.connection import FrontLimits
from serving.wires.http.turns import FewAtOnce, Woken
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.pictures import encoded, grey
from tests.serving.wires.sockets import serving

pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
CLIENTS, MOST = 100, 8
PICTURE = encoded(grey())
HEAD = b"POST /v1/models/pictures:predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
HEAD += b"Content-Length: %d\r\n\r\n" % len(PICTURE)
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request):
    return request.param()


class Counting(FakeGateway):
    """Notes the turn of the loop in which each thing happens."""

    def __init__(self):
        super().__init__()
        self.turn, self.at = 0, {"begins": [], "goes on": [], "ends": [], "is well": []}

    def note(self, what):
        self.at[what].append(self.turn)

    def admitted(self):
        self.note("begins")
        return nullcontext()

    async def predict(self, request):
        self.note("goes on")
        return await super().predict(request)

    def observe(self, protocol, code, seconds):
        self.note("ends")

    def failed(self):
        self.note("is well")
        return super().failed()

    async def count(self, what, number):
        """Turn after turn until so much has happened."""
        async with asyncio.timeout(20):
            while len(self.at[what]) < number:
                self.turn += 1
                await asyncio.sleep(0)


@asynccontextmanager
async def many(gateway, said, then):
    """Clients that have `said` something, each taken in, and one that asks how the server is when all do what comes `then`,
    which they do between two turns of the loop.
    """
    async with serving(gateway, FrontLimits(connections=2 * CLIENTS), idle_body_s=20) as (port, server):
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(CLIENTS)]
            asking = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            asking.sendall(LIVE[:-2])
            for each in clients:
                each.sendall(said)
            await gateway.count("begins", CLIENTS if said == HEAD else 0)
            while len(server.front.connections) <= CLIENTS:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            for each in clients:
                then(each)
            asking.sendall(LIVE[-2:])
            gateway.turn = 0
            for noted in gateway.at.values():
                noted.clear()
            yield


@pytest.mark.parametrize(
    ("said", "then", "what"),
    [
        pytest.param(HEAD[:-2], lambda client: client.sendall(HEAD[-2:]), "begins", id="begin"),
        pytest.param(HEAD, lambda client: client.sendall(PICTURE), "goes on", id="go on"),
        pytest.param(HEAD, socket.socket.close, "ends", id="end"),
    ],
)
async def test_of_many_requests_that_do_the_same_at_once_a_turn_takes_a_few(said, then, what, monkeypatch):
    monkeypatch.setattr("serving.wires.http.pieces.thread_time", lambda: 0.0)  # what is read takes no time
    gateway = Counting()
    async with many(gateway, said, then):
        await gateway.count(what, CLIENTS)
    per_turn = Counter(gateway.at[what])
    assert max(per_turn.values()) <= MOST
    (well,) = gateway.at["is well"]
    assert sum(number for turn, number in per_turn.items() if turn < well) <= 2 * MOST


async def test_calls_keep_their_order_and_one_that_fails_keeps_nobody_back():
    turns, said = FewAtOnce(2), []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(type(context["exception"])))
    for number in range(3):
        turns.soon(lambda number=number: said.append(number))
    turns.soon(lambda: [].pop())
    turns.soon(lambda: said.append("last"))
    assert said == [0, 1]
    for _ in range(5):
        await asyncio.sleep(0)
    assert said == [0, 1, 2, IndexError, "last"]


async def test_who_comes_while_others_wait_comes_after_them():
    turns, said = FewAtOnce(1), []
    for number in range(4):
        turns.soon(lambda number=number: said.append(number))
    await asyncio.sleep(0)
    turns.soon(lambda: said.append("late"))
    for _ in range(6):
        await asyncio.sleep(0)
    assert said == [0, 1, 2, 3, "late"]


async def test_an_event_that_nobody_waits_for_takes_nobodys_turn():
    turns = FewAtOnce(1)
    idle, waited = Woken(turns), [Woken(turns) for _ in range(2)]
    waiting = [asyncio.ensure_future(each.wait()) for each in waited]
    await asyncio.sleep(0)
    idle.set()
    assert idle.is_set()
    for each in waited:
        each.set()
    assert [each.is_set() for each in waited] == [True, False]
    await asyncio.gather(*waiting)


async def test_an_event_that_is_set_often_takes_one_turn():
    """Each tiny chunk of a body sets it; those who come later would wait for as many turns."""
    turns, said = FewAtOnce(1), []
    event = Woken(turns)
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    turns.soon(lambda: said.append("first"))
    for _ in range(1_000):
        event.set()
    turns.soon(lambda: said.append("last"))
    for _ in range(4):
        await asyncio.sleep(0)
    assert said == ["first", "last"]
    assert await waiting
    event.clear()
    waiting = asyncio.ensure_future(event.wait())
    await asyncio.sleep(0)
    event.set()
    assert await asyncio.wait_for(waiting, 10)
