"""An answer as server-sent events: what comes in which order, who gets it instead of JSON, and how it ends."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import struct

import httpx
import pytest

from serving import errors
from tests.serving.wires.fake_gateway import ROWS
from tests.serving.wires.http.test_http_server import INSTANCES, JSON, PREDICT, ROW
from tests.serving.wires.sockets import served, serving

STREAM = "/v1/models/pictures:stream"
ASKS = {"Accept": "text/event-stream", **JSON}
HEAD = f"POST {STREAM} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n".encode()
WHOLE = HEAD + b"Content-Length: %d\r\n\r\n" % len(INSTANCES) + INSTANCES


def events_in(text):
    """Name, identifier and data of each event; a comment is one without any."""
    assert text.endswith("\n\n")
    found = []
    for block in text.removesuffix("\n\n").split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":"))
        assert set(fields) <= {"event", "id", "data"}
        found.append((fields.get("event"), fields.get("id"), json.loads(fields.get("data", "null"))))
    return found


@pytest.fixture
async def live(gateway):
    async with (
        served(gateway) as port,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client,
    ):
        client.port = port
        yield client


@pytest.mark.parametrize(
    ("path", "headers"),
    [(PREDICT, ASKS), (STREAM, JSON), ("/v1/models/pictures/versions/1:stream", JSON), (STREAM + "/", JSON)],
)
async def test_each_row_is_told_at_once_then_what_is_proven_then_what_the_answer_says(live, gateway, path, headers):
    body = {"instances": [ROW] * 3, "certify": "best"}
    unary = (await live.post(path.replace(":stream", ":predict"), json=body)).json()["predictions"]
    response = await live.post(path, json=body, headers=headers)
    assert response.status_code == 200
    assert {name: response.headers.get(name) for name in ("content-type", "cache-control", "x-accel-buffering")} == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
    }
    assert response.headers["x-request-id"]
    found = events_in(response.text)
    assert [(name, data["row"], data["rows"]) for name, _, data in found] == [
        (name, row, 3) for name in ("base", "certificate", "final") for row in range(3)
    ]
    assert [identifier for _, identifier, _ in found] == ["0"] * 3 + ["64"] * 3 + [str(row.draws) for row in ROWS]
    for _, _, data in found[:3]:
        assert [data["prediction"][part] for part in ("certificate", "ood", "mixture")] == [None] * 3
        assert data["prediction"]["label"] == "class 3"
    assert [data["prediction"] for _, _, data in found[6:]] == unary
    assert gateway.observed == [("http", "OK")] * 2


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("TEXT/EVENT-STREAM ; charset=utf-8", True),
        ("application/json, text/event-stream", True),
        ("text/event-stream, */*;q=0.1", True),
        ("text/event-stream;q=0.5, application/json;q=0.4", True),
        ("text/event-stream;q=0.4, application/json;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=nan", False),
        ("text/*", False),
        ("*/*", False),
        ("application/json", False),
        ("", False),
    ],
)
async def test_who_names_event_streams_and_likes_json_no_better_gets_one(http, accept, streams):
    response = await http.post(PREDICT, content=INSTANCES, headers={"Accept": accept, **JSON})
    assert response.headers["content-type"] == ("text/event-stream" if streams else "application/json")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (STREAM, b"{", 400),
        (STREAM + "?colour=red", INSTANCES, 400),
        ("/v1/models/nope:stream", INSTANCES, 404),
        (STREAM, b"x" * 9_000_000, 413),
    ],
)
async def test_what_is_wrong_before_the_head_is_an_error_as_every_other(http, gateway, path, body, status):
    response = await http.post(path, content=body, headers=ASKS)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/json")
    assert list(response.json()) == ["error"]
    assert [protocol for protocol, _ in gateway.observed] == ["http"]


@pytest.mark.parametrize(
    ("failure", "status", "retry_after_s"),
    [
        (errors.Unavailable("the server is stopping", retry_after_s=2.5), 503, 3),
        (errors.DeadlinePassed("too late"), 504, None),
        (errors.Internal(f"x; {errors.SEE_LOG}"), 500, None),
        (RuntimeError("secret path"), 500, None),
    ],
)
async def test_what_fails_after_the_head_is_an_event_that_ends_the_stream(
    live, gateway, caplog, failure, status, retry_after_s
):
    gateway.failure = failure
    response = await live.post(STREAM, content=INSTANCES, headers={**JSON, "X-Request-Id": "me.1"})
    *before, (name, identifier, data) = events_in(response.text)
    assert [each for each, _, _ in before] == ["base", "certificate"]
    assert (response.status_code, name, identifier, data["status"]) == (200, "error", None, status)
    assert data.get("retry_after_s") == retry_after_s
    assert "secret" not in response.text
    logged = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert bool(logged) == (status == 500)
    assert all("me.1" in record.getMessage() for record in logged)
    assert gateway.observed == [("http", getattr(failure, "code", "INTERNAL"))]
    assert (await live.get("/v2/health/live")).status_code == 200


async def test_while_nothing_is_said_comments_show_that_the_connection_lives(live, gateway, monkeypatch):
    monkeypatch.setattr("serving.wires.http.event_stream.HEARTBEAT_S", 0.05)
    gateway.hold.clear()
    seen = ""
    async with live.stream("POST", STREAM, content=INSTANCES, headers=JSON) as response:
        async for text in response.aiter_text():
            seen += text
            if seen.count("\n:\n\n") > 2:
                gateway.hold.set()
    assert [name for name, _, _ in events_in(seen) if name] == ["base", "certificate", "final"]


@pytest.mark.parametrize("hard", [True, False])
async def test_who_leaves_a_stream_ends_its_work(live, gateway, hard):
    """At once where the connection is reset, and soon where its end might only be that of what is sent."""
    gateway.hold.clear()
    client = await asyncio.to_thread(begun, live.port)
    if hard:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    async with asyncio.timeout(5):
        while not gateway.cancelled:
            await asyncio.sleep(0.02)
        while gateway.buffered.held or not gateway.observed:
            await asyncio.sleep(0.02)
    assert gateway.observed == [("http", "CANCELLED")]


def begun(port):
    """A connection that has read the first events of a stream."""
    client = socket.create_connection(("127.0.0.1", port))
    client.settimeout(10)
    client.sendall(WHOLE)
    said = b""
    while b"event: certificate" not in said:
        said += client.recv(4096)
    return client


async def test_a_client_that_only_stops_sending_gets_its_stream_to_the_end(live, gateway):
    gateway.hold.clear()
    client = await asyncio.to_thread(begun, live.port)
    client.shutdown(socket.SHUT_WR)
    await asyncio.sleep(1.5)
    assert gateway.cancelled == 0
    gateway.hold.set()
    said = await asyncio.to_thread(lambda: client.makefile("rb").read().decode())
    client.close()
    pieces = said.split("\r\n")
    assert pieces[-3:] == ["0", "", ""]
    text = "".join(piece for piece in pieces if piece and not piece.isalnum())
    assert [name for name, _, _ in events_in(text)][-1] == "final"
    assert text.count(":\n\n") >= 2


async def test_a_client_that_takes_nothing_is_given_up(gateway, monkeypatch):
    """Its work is cancelled, and what it did not take is not kept."""
    monkeypatch.setattr("serving.wires.http.connection._STALLED_S", 0.3)
    gateway.hold.clear()
    monkeypatch.setattr(gateway, "events", endless(gateway))
    async with serving(gateway, send_buffer=4096) as (port, server):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        await asyncio.to_thread(client.connect, ("127.0.0.1", port))
        await asyncio.to_thread(client.sendall, WHOLE)
        async with asyncio.timeout(20):
            while not gateway.observed:
                await asyncio.sleep(0.02)
        assert gateway.observed == [("http", "CANCELLED")]
        assert not server.server_state.connections
        client.close()


def endless(gateway):
    """Events without an end, as fast as they are taken."""
    once = gateway.events

    async def events(request):
        async for event in once(request):
            draws = 0
            while True:
                draws += 32
                await asyncio.sleep(0)
                yield type(event)(with_draws(event.said, draws))

    return events


def with_draws(answer, draws):
    from dataclasses import replace

    return replace(answer, predictions=tuple(replace(row, draws=draws) for row in answer.predictions))
