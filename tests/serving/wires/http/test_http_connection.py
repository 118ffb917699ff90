"""Whatever a stranger sends or does not send, the connection is bounded, the answer is of our form, and others go on."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import sys
from collections import Counter
from types import SimpleNamespace

import httpx
import pytest
import uvloop

from serving import metrics
from serving.config import Limits
from serving.ports import PortError
from serving.wires.http.connection import FrontLimits, HttpConnection
from serving.wires.http.listener import listen
from serving.wires.http.pieces import BYTES, Pieces, ReadingTurns
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.pictures import encoded, grey
from tests.serving.wires.sockets import ask, read_reply, served, serving

# The product runs on either loop: Ray's processes bring their own.
pytestmark = pytest.mark.filterwarnings("ignore:Overriding the .event_loop_policy. fixture")
PICTURE = encoded(grey())
PREDICT = b"POST /v1/models/pictures:predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\n"
WHOLE = PREDICT + b"Content-Length: %d\r\n\r\n" % len(PICTURE) + PICTURE
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
QUICK = FrontLimits(head_s=0.5, idle_s=0.5, connections=20)


def get(*lines, first="GET /v2/health/live HTTP/1.1"):
    return "\r\n".join((first, *lines, "", "")).encode("latin-1")


@pytest.fixture(params=[asyncio.DefaultEventLoopPolicy, uvloop.EventLoopPolicy], ids=["asyncio", "uvloop"])
def event_loop_policy(request):
    return request.param()


@pytest.fixture
def gateway():
    return FakeGateway(limits=Limits(max_body_bytes=10 * 2**20))


@pytest.fixture
async def port(gateway):
    async with served(gateway, QUICK) as address:
        yield address


async def is_well(port):
    reply = await ask(port, WHOLE)
    return reply.status == 200


def refused():
    return sum(each.value for each in metrics.REFUSED.collect()[0].samples if each.name.endswith("_total"))


def in_order(reply, status, said=""):
    assert reply is not None, "the connection ended without an answer"
    assert reply.status == status, reply
    assert said in reply.error
    assert reply.headers["connection"] == "close"
    assert len(reply.headers["x-request-id"]) == 32
    assert ("retry-after" in reply.headers) == (status in (429, 503))


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        pytest.param([get("Host: x", "A: " + "b" * 70_000)], 431, id="a large field at once"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: x\r\nA: ", *[b"b" * 1000] * 5000], 431, id="a field without end"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"A" * 1000] * 5000], 431, id="a name without end"),
        pytest.param([b"GET /", *[b"a" * 1000] * 5000], 431, id="a path without end"),
        pytest.param([get("Host: x", first=f"GET /{'a' * 70_000} HTTP/1.1")], 431, id="a large path at once"),
        pytest.param([b"GET / HTTP/1.1\r\nHost: x\r\n", *[b"A: b\r\n" * 50] * 3], 431, id="fields without end"),
        pytest.param([get("Host: x", *["A: b"] * 100)], 431, id="many fields at once"),
        pytest.param([b"nonsense\r\n\r\n"], 400, id="nonsense"),
        pytest.param([b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], 400, id="TLS"),
        pytest.param([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, id="HTTP/2"),
        pytest.param([b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n"], 400, id="a path that is not ASCII"),
        pytest.param([get("Host: x", "A b: c")], 400, id="a space in a name"),
        pytest.param([get("Host: x", "A: b\x00c")], 400, id="a zero byte"),
        pytest.param([get("Host: x", " folded")], 400, id="a folded line"),
        pytest.param([get()], 400, id="no host"),
        pytest.param([get("Host: x", "Host: x")], 400, id="the host twice"),
        pytest.param([get("Host: x", "host: y")], 400, id="two hosts"),
        pytest.param([get("Host: a b")], 400, id="a space in the host"),
        pytest.param([get("Host: a/b")], 400, id="a path in the host"),
        pytest.param([PREDICT, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"], 400, id="both"),
        pytest.param(
            [PREDICT, b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"], 400, id="both ways"
        ),
        pytest.param([PREDICT, b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde"], 400, id="the length twice"),
        pytest.param([PREDICT, b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde"], 400, id="two lengths"),
        pytest.param([PREDICT, b"Content-Length: 5, 5\r\n\r\nabcde"], 400, id="a list of lengths"),
        pytest.param([PREDICT, b"Content-Length: -5\r\n\r\n"], 400, id="a negative length"),
        pytest.param([PREDICT, b"Content-Length: +5\r\n\r\nabcde"], 400, id="a length with a sign"),
        pytest.param([PREDICT, b"Content-Length: 5_0\r\n\r\n"], 400, id="a length with an underscore"),
        pytest.param([PREDICT, b"Content-Length: 99999999999999999999999\r\n\r\n"], 400, id="a length beyond 64 bits"),
        pytest.param([PREDICT, b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"], 501, id="gzip, chunked"),
        pytest.param([PREDICT, b"Transfer-Encoding: gzip\r\n\r\n"], (400, 501), id="gzip alone"),
        pytest.param([PREDICT, b"Transfer-Encoding: identity\r\n\r\n"], (400, 501), id="identity"),
        pytest.param([PREDICT, b"Transfer-Encoding: xchunked\r\n\r\n"], (400, 501), id="nearly chunked"),
        pytest.param(
            [PREDICT, b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            400,
            id="chunked twice",
        ),
        pytest.param(
            [PREDICT.replace(b"/1.1", b"/1.0"), b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
            400,
            id="chunked in 1.0",
        ),
        pytest.param([PREDICT, b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n"], 400, id="a chunk without a size"),
        pytest.param([PREDICT, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcd"], 400, id="a chunk over its size"),
        pytest.param([PREDICT, b"Transfer-Encoding: chunked\r\n\r\n1;", *[b"a" * 1000] * 500], 400, id="an extension"),
        pytest.param(
            [PREDICT, b"Transfer-Encoding: chunked\r\n\r\n0\r\nA: ", *[b"b" * 1000] * 500], (400, 431), id="a trailer"
        ),
        pytest.param(
            [PREDICT, b"Transfer-Encoding: chunked\r\n\r\n0\r\n", *[b"A: b\r\n"] * 500], (400, 431), id="many trailers"
        ),
        pytest.param(
            [PREDICT, b"Transfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n" * 1000] * 70], 400, id="tiny chunks"
        ),
        pytest.param([get("Host: x", "Content-Type: a/b", "Content-Type: c/d")], 400, id="two types"),
        pytest.param([get("Host: x", *["content-encoding: gzip"] * 2)], 400, id="the encoding twice"),
        pytest.param([get("Host: x", *["Inference-Header-Content-Length: 5"] * 2)], 400, id="the JSON's length twice"),
        pytest.param(
            [PREDICT, b"Connection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nabcde"], 501, id="upgrade"
        ),
    ],
)
async def test_what_is_not_taken_is_refused_in_our_form(port, caplog, parts, status):
    before = refused()
    reply = await ask(port, *parts)
    in_order(reply, reply.status if isinstance(status, tuple) and reply.status in status else status)
    assert refused() == before + 1
    assert not caplog.records
    assert await is_well(port)


async def test_a_request_id_that_had_come_is_echoed_by_a_refusal(port):
    reply = await ask(port, get("X-Request-Id: me.1"))
    assert (reply.status, reply.headers["x-request-id"]) == (400, "me.1")


@pytest.mark.parametrize(
    "head",
    [
        get("Host:"),
        get("Host: [::1]:8000"),
        get("Host: a.b-c_d:80"),
        get(first="GET /v2/health/live HTTP/1.0"),
        get("Host: x", "Content-Length: 0"),
        get("Host: x", *["A: b"] * 99),
        get("Host: x", "A: " + "b" * 60_000),
        get("Host: x", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk"),
        get("Host: x", first="GET http://x/v2/health/live HTTP/1.1"),
        b"\r\n" + LIVE,
    ],
)
async def test_what_is_unusual_and_allowed_is_answered(port, caplog, head):
    reply = await ask(port, head)
    assert (reply.status, reply.body) == (200, b'{"live":true}')
    assert not caplog.records


async def test_trailers_say_nothing(port, gateway):
    body = b"%x\r\n%b\r\n0\r\nX-Request-Id: other\r\nContent-Type: text/plain\r\n\r\n" % (len(PICTURE), PICTURE)
    reply = await ask(port, PREDICT + b"X-Request-Id: mine\r\nTransfer-Encoding: Chunked\r\n\r\n", body)
    assert (reply.status, reply.headers["x-request-id"]) == (200, "mine")


async def test_half_a_head_is_given_up_with_408(port):
    async def given_up(sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(5):
            if sent.startswith(LIVE):
                assert (await read_reply(reader)).status == 200
            in_order(await read_reply(reader), 408, "did not come within 0.5 s")
            assert await reader.read() == b""
        writer.close()

    halves = (b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nA: b", LIVE + b"GET", LIVE[:-2])
    await asyncio.gather(*map(given_up, halves))
    assert await is_well(port)


async def test_a_head_that_trickles_is_given_up_as_well(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    told = asyncio.create_task(read_reply(reader))
    for byte in get("Host: x", "A: " + "b" * 1000):
        if told.done():
            break
        writer.write(bytes([byte]))
        await asyncio.sleep(0.02)
    in_order(told.result(), 408)
    writer.close()


async def test_a_connection_that_says_nothing_is_closed_without_a_word(port):
    async def closed(sent):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(5):
            if sent == LIVE:
                assert (await read_reply(reader)).status == 200
            assert await reader.read() == b""
        writer.close()

    await asyncio.gather(*map(closed, (b"", b"\r\n\r\n", LIVE)))


async def test_requests_follow_each_other_on_one_connection(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(5):
        writer.write(WHOLE)
        assert (await read_reply(reader)).status == 200
        await asyncio.sleep(0.2)
    writer.write(WHOLE * 5 + LIVE)
    for _ in range(6):
        assert (await read_reply(reader)).status == 200
    writer.close()


async def test_a_bad_request_behind_a_good_one_never_takes_its_answer(port, gateway):
    gateway.hold.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(WHOLE + b"nonsense\r\n\r\n")
    await asyncio.sleep(0.2)
    gateway.hold.set()
    reply = await read_reply(reader)
    assert (reply.status, gateway.cancelled) == (200, 0)
    assert await reader.read() == b""
    writer.close()


async def test_no_more_than_a_few_requests_wait_behind_one(port, gateway):
    gateway.hold.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(WHOLE + LIVE * 2000)
    await writer.drain()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    writer.close()
    gateway.hold.set()
    assert await is_well(port)


@pytest.mark.parametrize("sent", [b"1\r\nx\r\n" * 60_000, b"40000\r\n" + b"x" * 2**18])
async def test_others_have_their_turn_between_two_pieces_of_a_connection(port, monkeypatch, sent):
    """However much comes at once: each byte may cost a call, and a health check waits for all that is done in one turn."""
    turns, pieces, read = [0], [], HttpConnection.data_received

    def data_received(self, data):
        pieces.append((turns[0], len(data)))
        read(self, data)

    async def turn():
        while sum(size for _, size in pieces) < 2**17:
            turns[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(HttpConnection, "data_received", data_received)
    with socket.create_connection(("127.0.0.1", port)) as sending:
        said = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n" + sent[: 2**18]
        await asyncio.gather(asyncio.to_thread(sending.sendall, said), turn())
    counted = [(turn, size) for turn, size in pieces if turn < turns[0]]
    assert sum(size for _, size in counted) > 2**16
    assert max(size for _, size in counted) <= 2**14
    assert all(later > earlier for (earlier, _), (later, _) in itertools.pairwise(counted))


async def test_however_many_send_what_is_slow_to_parse_a_turn_of_the_loop_takes_one_of_them(port, monkeypatch):
    """Forty clients whose every piece takes 20 ms, by a clock that the test turns, and one beside them that is answered."""
    turn, clock, slow, read = [0], [0.0], [], HttpConnection.data_received

    def data_received(self, data):
        if b"GET /v2/health" not in data:
            slow.append(turn[0])
            clock[0] += 0.02
        read(self, data)

    async def turns():
        while len(slow) < 400:
            turn[0] += 1
            await asyncio.sleep(0)

    monkeypatch.setattr(HttpConnection, "data_received", data_received)
    monkeypatch.setattr("serving.wires.http.pieces.thread_time", lambda: clock[0])
    said = PREDICT + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20_000
    with contextlib.ExitStack() as stack:
        strangers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(40)]
        sending = [asyncio.to_thread(each.sendall, said) for each in strangers]
        well, *_ = await asyncio.gather(is_well(port), turns(), *sending)
    assert well
    assert max(Counter(at for at in slow if at < turn[0]).values()) <= 2  # the last was counted on


async def test_who_was_quick_so_far_comes_before_those_who_were_slow(monkeypatch):
    clock, said = [0.0], []

    class Connection:
        flow = SimpleNamespace(read_paused=False)
        transport = SimpleNamespace(is_closing=lambda: False, pause_reading=lambda: None, resume_reading=lambda: None)

        def data_received(self, data):
            said.append(bytes(data))
            clock[0] += 0.02 if data == b"slow" else 0.0

    def send(pieces, data):
        pieces.get_buffer(-1)[: len(data)] = data
        pieces.buffer_updated(len(data))

    monkeypatch.setattr("serving.wires.http.pieces.thread_time", lambda: clock[0])
    turns = ReadingTurns()
    *strangers, client = (Pieces(Connection(), memoryview(bytearray(BYTES)), turns) for _ in range(9))
    for each in strangers:
        send(each, b"slow")
    assert said == [b"slow"]  # and the turn is over
    send(client, b"quick")
    for _ in range(40):
        await asyncio.sleep(0)
    assert said.index(b"quick") <= 8  # the others were unknown as well, and came before
    for each in strangers:
        send(each, b"slow")
    send(client, b"quick")
    before = len(said)
    await asyncio.sleep(0)
    assert b"quick" in said[before : before + 1]


async def test_bytes_behind_a_request_in_progress_are_counted_and_come_back(gateway):
    gateway.hold.clear()
    async with serving(gateway, QUICK) as (port, _):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(WHOLE)
        await asyncio.sleep(0.2)
        before = gateway.buffered.held
        writer.write(PREDICT + b"Content-Length: 50000\r\n\r\n" + b"x" * 40_000)
        await asyncio.sleep(0.2)
        assert gateway.buffered.held >= before + 16_000  # the rest waits where the system keeps it
        gateway.hold.set()
        writer.close()
        await asyncio.sleep(0.2)
        assert gateway.buffered.held == 0


async def test_half_heads_take_from_the_one_budget(gateway):
    gateway.buffered.limit = 1_000_000
    async with served(gateway, FrontLimits(head_s=3, connections=100)) as port:
        writers = []
        for _ in range(60):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 60_000)
            writers.append(writer)
        await asyncio.sleep(0.3)
        assert 500_000 < gateway.buffered.held < 1_000_000
        assert await is_well(port)
        for writer in writers:
            writer.close()
        await asyncio.sleep(0.3)
        assert gateway.buffered.held == 0


async def test_a_refused_client_that_goes_on_sending_can_read_why(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nA: ")
    for _ in range(200):
        writer.write(b"b" * 10_000)
        await writer.drain()
    in_order(await read_reply(reader), 431)
    writer.close()


# Connections


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost: x\r\n", PREDICT + b"Content-Length: 9\r\n\r\n"])
async def test_many_that_never_finish_lock_nobody_out(gateway, caplog, sent):
    async with serving(gateway, FrontLimits(connections=20), idle_body_s=30) as (port, server):
        kept_reader, kept = await asyncio.open_connection("127.0.0.1", port)
        kept.write(LIVE)
        assert (await read_reply(kept_reader)).status == 200
        writers = []
        for place in range(200):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            writers.append(writer)
            if place % 50 == 0:
                assert await is_well(port)
        await asyncio.sleep(0.1)
        assert len(server.front.connections) <= 20
        assert await is_well(port)
        kept.write(LIVE)
        assert (await read_reply(kept_reader)).status == 200
        for writer in (kept, *writers):
            writer.close()
        assert not caplog.records


async def test_requests_without_their_bodies_are_none_in_progress(gateway):
    async with serving(gateway, FrontLimits(connections=100), idle_body_s=30, max_requests=3) as (port, _):
        writers = []
        for _ in range(50):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(PREDICT + b"Content-Length: 9\r\n\r\nabc")
            writers.append(writer)
        await asyncio.sleep(0.1)
        assert await is_well(port)
        for writer in writers:
            writer.close()


async def test_a_burst_takes_few_descriptors_beyond_the_bound(gateway):
    async with serving(gateway, FrontLimits(connections=40)) as (port, _):
        before = len(os.listdir("/proc/self/fd"))
        code = "import socket, sys; s = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(900)]"
        burst = await asyncio.create_subprocess_exec(sys.executable, "-c", code, str(port))
        most = 0
        while burst.returncode is None:
            most = max(most, len(os.listdir("/proc/self/fd")) - before)
            await asyncio.sleep(0.001)
        assert most < 40 + 160


async def test_a_newcomer_is_told_when_all_others_are_at_work(gateway):
    gateway.hold.clear()
    async with served(gateway, FrontLimits(connections=5)) as port:
        busy = [asyncio.create_task(ask(port, WHOLE)) for _ in range(5)]
        while len(gateway.asked) < 5:
            await asyncio.sleep(0.01)
        in_order(await ask(port, LIVE), 503, "5 connections open")
        gateway.hold.set()
        assert [each.status for each in await asyncio.gather(*busy)] == [200] * 5
        assert await is_well(port)


async def test_idle_connections_give_way_only_after_a_while(gateway):
    async with serving(gateway, FrontLimits(connections=5)) as (port, server):
        idle = []
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(LIVE)
            assert (await read_reply(reader)).status == 200
            idle.append((reader, writer))
        in_order(await ask(port, LIVE), 503)
        for each in server.front.idle:
            server.front.idle[each] -= 60
        assert await is_well(port)
        in_order(await read_reply(idle[0][0]), 503)
        for _, writer in idle:
            writer.close()


async def test_nothing_is_kept_of_connections_that_are_gone(gateway):
    async with serving(gateway, QUICK) as (port, server):
        for sent in (b"", b"GET", LIVE, WHOLE, PREDICT, b"nonsense\r\n\r\n", LIVE * 30):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            await asyncio.sleep(0.05)
            writer.close()
        front = server.front
        async with asyncio.timeout(20):
            while front.connections or front.owing or front.idle or gateway.buffered.held:
                await asyncio.sleep(0.05)
        assert not server.server_state.connections


# Clients that stop sending, and clients that are gone


@pytest.fixture
def often_asked(monkeypatch):
    """Whether a client that has stopped sending is still there."""
    monkeypatch.setattr("serving.wires.http.connection._ASK_AGAIN_S", 0.05)


async def test_a_client_that_only_stops_sending_is_answered(port, gateway, often_asked):
    reply = await ask(port, WHOLE, half_close=True)
    assert reply.status == 200
    gateway.hold.clear()
    waiting = asyncio.create_task(ask(port, WHOLE, half_close=True))
    await asyncio.sleep(0.5)  # it is asked several times meanwhile
    assert gateway.cancelled == 0
    gateway.hold.set()
    assert (await waiting).status == 200


@pytest.mark.parametrize("sent", [WHOLE, WHOLE.replace(b"/1.1", b"/1.0")])
@pytest.mark.parametrize("hard", [True, False])
async def test_a_client_that_is_gone_cancels_its_work(port, gateway, often_asked, sent, hard):
    gateway.hold.clear()
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(sent)
    while not gateway.asked:
        await asyncio.sleep(0.01)
    if hard:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    async with asyncio.timeout(5):
        while not gateway.observed:
            await asyncio.sleep(0.02)
    assert gateway.observed == [("http", "CANCELLED")]


@pytest.mark.parametrize("sent", [b"GET / HT", PREDICT + b"Content-Length: 9\r\n\r\nabc", b""])
async def test_half_a_request_and_the_end_is_the_end(port, sent):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    writer.write_eof()
    async with asyncio.timeout(2):
        await reader.read()
    writer.close()
    assert await is_well(port)


async def test_a_body_is_asked_for_only_where_it_is_wanted(port):
    head = PREDICT + b"Expect: 100-continue\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"Content-Length: %d\r\n\r\n" % len(PICTURE))
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(PICTURE)
    assert (await read_reply(reader)).status == 200
    writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head + b"Content-Length: %d\r\n\r\n" % 2**40)
    assert (await reader.readuntil(b"\r\n")).startswith(b"HTTP/1.1 413")
    writer.close()


async def test_a_client_that_knows_no_interim_answer_gets_none(port):
    reply = await ask(port, WHOLE.replace(b"/1.1", b"/1.0", 1).replace(b"\r\n", b"\r\nExpect: 100-continue\r\n", 1))
    assert reply.status == 200


async def test_the_rest_of_a_refused_body_has_to_come_in_time(gateway, monkeypatch):
    monkeypatch.setattr("serving.wires.http.connection._DISCARDING_S", 0.5)
    async with served(gateway, QUICK) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert (await read_reply(reader)).status == 404
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            async with asyncio.timeout(5):
                await reader.readexactly(1)
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        assert (await read_reply(reader)).status == 404
        writer.write(b"x" * 1000 + LIVE)
        assert (await read_reply(reader)).status == 200
        writer.close()


async def test_who_does_not_take_the_answer_is_let_go(gateway, monkeypatch):
    monkeypatch.setattr("serving.wires.http.connection._STALLED_S", 0.5)
    async with serving(gateway, FrontLimits(), send_buffer=4096) as (port, server):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        head = b"POST /v1/models/pictures:predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        rows = b",".join([b"[[" + b",".join([b"[" + b",".join([b"0"] * 28) + b"]"] * 28) + b"]]"] * 1000)
        body = b'{"instances":[' + rows + b"]}"
        loop = asyncio.get_running_loop()
        client.setblocking(False)
        await loop.sock_sendall(client, head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        async with asyncio.timeout(20):
            while not gateway.observed:
                await asyncio.sleep(0.05)
            while server.front.connections:
                await asyncio.sleep(0.05)
        client.close()


# The end


async def test_what_is_in_progress_is_answered_before_the_end(gateway):
    gateway.hold.clear()
    async with serving(gateway) as (port, server):
        busy = asyncio.create_task(ask(port, WHOLE))
        _, half = await asyncio.open_connection("127.0.0.1", port)
        half.write(b"GET /")
        while not gateway.asked:
            await asyncio.sleep(0.01)
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.3)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        gateway.hold.set()
        assert (await busy).status == 200
        await asyncio.wait_for(stopping, 5)
        half.close()


async def test_processes_may_share_a_port_where_they_say_so():
    first = listen("127.0.0.1", 0, reuse_port=True)
    port = first.getsockname()[1]
    second = listen("127.0.0.1", port, reuse_port=True)
    with pytest.raises(PortError, match=f"HTTP port {port} of 127.0.0.1 cannot be had .*--http-port"):
        listen("127.0.0.1", port)
    first.close()
    second.close()


async def test_a_plain_client_is_served(port):
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        answers = await asyncio.gather(
            *(
                client.post("/v1/models/pictures:predict", content=PICTURE, headers={"Content-Type": "image/png"})
                for _ in range(15)
            )
        )
    assert {each.status_code for each in answers} == {200}
