"""Request ids and traces: taken from clients where they are valid, made anew where not, in every answer and log line."""

from __future__ import annotations

import asyncio
import logging
import re

import grpc
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc as pb_grpc
from serving import errors, log
from serving.engine.in_flight import about
from serving.wires.http.server import build_app
from serving.wires.trace import known
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import predict, serving
from tests.serving.wires.http.test_http_server import INSTANCES, JSON, PREDICT
from tests.serving.wires.sockets import ask, served

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT, STATE = f"00-{TRACE}-{SPAN}-01", "rojo=00f067aa0ba902b7,t61rcwkgmze@ab=x"
FORM = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-0[01]")
WIRES = ("http", "stream", "health", "nothing there", "broken HTTP", "grpc", "grpc stream", "grpc refusal")


def test_a_valid_trace_goes_on_as_a_span_of_the_server_s_own():
    found = known({"traceparent": PARENT, "tracestate": STATE})
    assert (found.trace_id, found.flags, found.state) == (TRACE, 1, STATE)
    assert found.span_id != SPAN
    assert dict(found.fields())["traceparent"] == f"00-{TRACE}-{found.span_id}-01"
    assert known({"traceparent": PARENT}).span_id != found.span_id


@pytest.mark.parametrize(
    ("parent", "taken"),
    [
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"00-{TRACE}-{SPAN}-ff", True),  # flags that are not known
        (f"01-{TRACE}-{SPAN}-01", True),  # of a later version, with more to come or without
        (f"cc-{TRACE}-{SPAN}-01-what-comes-later", True),
        (f"cc-{TRACE}-{SPAN}-01what-comes-later", False),
        (f"00-{TRACE}-{SPAN}-01-more", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE[1:]}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-1", False),
        (f"{PARENT}, {PARENT}", False),  # sent twice
        (f"{PARENT}\n", False),
        (f" {PARENT}", False),
        ("", False),
    ],
)
def test_what_is_no_trace_is_made_anew_without_its_state(parent, taken):
    found = known({"traceparent": parent, "tracestate": STATE})
    assert (found.trace_id == TRACE, found.state == STATE) == (taken, taken)
    assert FORM.fullmatch(dict(found.fields())["traceparent"])


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1", "a=1"),
        (" a=1 ,\tb=2,", "a=1,b=2"),
        ("1a@b=x y", "1a@b=x y"),
        ("a=1,a=2", ""),
        ("a", ""),
        ("A=1", ""),
        ("a=b=c", ""),
        ("a=\u00e9", ""),
        ("a=1\r\nX-Other: 2", ""),
        (",".join(f"k{i}=v" for i in range(33)), ""),
        ("a=" + "x" * 256, "a=" + "x" * 256),
        ("a=" + "x" * 257, ""),
        (f"a={'x' * 256},b={'x' * 256}", ""),
        ("", ""),
    ],
)
def test_a_state_is_kept_whole_or_not_at_all(state, kept):
    assert known({"traceparent": PARENT, "tracestate": state}).state == kept


@given(st.dictionaries(st.sampled_from(["x-request-id", "traceparent", "tracestate"]), st.text() | st.just(PARENT)))
def test_whatever_is_sent_what_goes_back_is_valid(fields):
    found = dict(known(fields).fields())
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", found["x-request-id"])
    assert FORM.fullmatch(found["traceparent"])
    assert re.fullmatch(r"[\x21-\x7e][\x20-\x7e]*|", found.get("tracestate", ""))


async def answered(wire, **given):
    """What the answer of one request over a wire says of it."""
    fields = {name.replace("_", "-"): value for name, value in given.items()}
    gateway = FakeGateway()
    if "grpc" not in wire:
        paths = {"http": PREDICT, "stream": PREDICT.replace("predict", "stream"), "nothing there": "/nowhere"}
        if wire == "broken HTTP":
            async with served(gateway) as port:
                lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
                return (await ask(port, f"GET / HTTP/1.1\r\n{lines}\r\n".encode())).headers
        transport = httpx.ASGITransport(build_app(gateway))
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            if wire == "health":
                return (await client.get("/v2/health/live", headers=fields)).headers
            return (await client.post(paths[wire], content=INSTANCES, headers={**JSON, **fields})).headers
    gateway.failure = errors.Unavailable("x") if "refusal" in wire else None
    async with serving(gateway) as channel:
        stub, metadata = pb_grpc.CertificationServiceStub(channel), tuple(fields.items())
        if wire == "grpc stream":
            call = stub.StreamCertificate(pb.StreamCertificateRequest(request=predict()), metadata=metadata)
            _ = [each async for each in call]
            return dict(await call.trailing_metadata())
        call = stub.Predict(predict(), metadata=metadata)
        try:
            await call
        except grpc.aio.AioRpcError as error:
            return dict(error.trailing_metadata())
        return dict(await call.trailing_metadata())


@pytest.mark.parametrize("wire", WIRES)
async def test_every_answer_carries_the_request_s_id_and_trace(wire):
    found = await answered(wire, x_request_id="me.1", traceparent=PARENT, tracestate=STATE)
    assert (found["x-request-id"], found["tracestate"]) == ("me.1", STATE)
    assert re.fullmatch(f"00-{TRACE}-(?!{SPAN})[0-9a-f]{{16}}-01", found["traceparent"])
    other = await answered(wire, x_request_id="not/valid", traceparent="none", tracestate=STATE)
    assert re.fullmatch("[0-9a-f]{32}", other["x-request-id"])
    assert FORM.fullmatch(other["traceparent"])
    assert TRACE not in other["traceparent"]
    assert "tracestate" not in other


@pytest.mark.parametrize("wire", ["http", "grpc"])
async def test_every_line_of_the_log_names_the_request_and_its_trace(monkeypatch, wire):
    """A wire's as well as the engine's, which has threads of its own."""
    lines = Lines()
    monkeypatch.setattr(FakeGateway, "predict", logging_as_engine_and_gateway)
    logging.getLogger("certserve").addHandler(lines)
    try:
        await asyncio.create_task(answered(wire, x_request_id="me.1", traceparent=PARENT))
        logging.getLogger("certserve.gateway").warning("about nobody")
    finally:
        logging.getLogger("certserve").removeHandler(lines)
    named = f"[request me.1 trace {TRACE}] "
    assert lines.said == [f"{named}of the gateway", "[request me.2 trace abc] of the engine", "about nobody"]


class Lines(logging.Handler):
    """What a process that has begun to log would print, without time and place."""

    def __init__(self):
        super().__init__()
        self.said = []
        self.addFilter(log.named)
        self.setFormatter(logging.Formatter("%(about)s%(message)s"))

    def emit(self, record):
        self.said.append(self.format(record))


async def logging_as_engine_and_gateway(self, request):
    class Job:
        request_id, trace_id = "me.2", "abc"

    logging.getLogger("certserve.gateway").warning("of the gateway")
    logging.getLogger("certserve.engine").warning("of the engine", extra=about(Job))
    raise errors.Overloaded("x")
