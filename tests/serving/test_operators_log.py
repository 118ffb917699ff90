"""Whoever is sent to the operator's log finds the request there by its id; what one row does falls back on no other."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import grpc
import httpx
import numpy as np
import pytest

import serving
from serving import errors
from serving.errors import SEE_LOG, Internal
from serving.log import REQUEST_ID
from serving.wires.http.server import build_app
from tests.serving.engine.test_engine import ask, bundle, essence, served  # noqa: F401
from tests.serving.handed_clock import until
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.grpc.test_grpc_calls import predict
from tests.serving.wires.grpc.test_grpc_calls import serving as serving_grpc
from tests.serving.wires.grpc.test_grpc_server import infer, oip_grpc, pb_grpc
from tests.serving.wires.pictures import encoded, grey
from tests.serving.wrapped import held_in_draws

ODD = 200
"""Inputs whose second value is about this are those that a broken network below does not take."""


def broken_base(runtime, value):
    honest = runtime.base

    def base(lattice):
        found = honest(lattice).copy()
        found[lattice[:, 1] == ODD] = value
        return found

    runtime.base = base


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
async def test_a_row_without_a_finite_answer_is_named_and_found_in_the_log(served, caplog, value):  # noqa: F811
    gateway, _, runtime = served
    broken_base(runtime, value)
    REQUEST_ID.set("the-bad-one")
    with pytest.raises(Internal, match="row 1: the base network gave no finite answer") as caught:
        await ask(gateway, [150, 1, 2, 3], [150, ODD, 2, 3], [90, 1, 2, 3])
    assert SEE_LOG in caught.value.message
    assert any("the-bad-one" in record.getMessage() and "row 1" in record.getMessage() for record in caplog.records)


async def test_a_row_without_a_finite_answer_spares_the_requests_beside_it(served, caplog):  # noqa: F811
    gateway, engine, runtime = served
    alone = (await ask(gateway, [150, 1, 2, 3])).predictions[0]
    broken_base(runtime, np.nan)
    runtime.go_base.clear()
    asked = [asyncio.create_task(ask(gateway, [150, each, 2, 3])) for each in (1, ODD, 1)]
    await until(lambda: engine.load().requests == 3)
    runtime.go_base.set()
    first, bad, last = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(bad, Internal)
    assert [essence(each.predictions[0]) for each in (first, last)] == [essence(alone)] * 2


@pytest.mark.parametrize("vote", [-1, 3, 1000, np.iinfo(np.int64).min])
async def test_votes_for_no_class_count_against_their_own_row_alone(served, caplog, vote):  # noqa: F811
    gateway, _, runtime = served
    rows = [200, 5, 5, 5], [200, ODD, 5, 5], [90, 5, 5, 5]
    whole = (await ask(gateway, *rows, max_draws=640)).predictions
    honest = runtime.passes

    def noisy(lattice):
        votes, scores = honest(lattice)
        return np.where(lattice[:, 1] > ODD / 2, vote, votes), scores

    runtime.passes = noisy
    REQUEST_ID.set("with-lost-draws")
    found = (await ask(gateway, *rows, max_draws=640)).predictions
    assert [essence(found[place]) for place in (0, 2)] == [essence(whole[place]) for place in (0, 2)]
    assert (found[1].lost_draws, found[1].certificate.status) == (640, "undecided")
    said = [record.getMessage() for record in caplog.records]
    assert any("with-lost-draws, row 1" in text for text in said)
    assert not any("row 0" in text or "row 2" in text for text in said)


async def test_scores_that_are_no_numbers_stay_with_their_own_row(served):  # noqa: F811
    gateway, _, runtime = served
    rows = [150, 5, 5, 5], [150, ODD, 5, 5]
    whole = (await ask(gateway, *rows)).predictions
    honest = runtime.passes

    def noisy(lattice):
        votes, scores = honest(lattice)
        return votes, np.where(lattice[:, 1] > ODD / 2, np.float32(np.nan), scores)

    runtime.passes = noisy
    found = (await ask(gateway, *rows)).predictions
    assert essence(found[0]) == essence(whole[0])
    assert (found[1].ood.score, found[1].ood.in_distribution) == (np.inf, False)
    assert found[1].certificate == whole[1].certificate


@pytest.mark.parametrize("failing", ["base", "noisy", "compose"])
async def test_the_engines_log_names_the_request(served, caplog, failing):  # noqa: F811
    gateway, _, runtime = served
    REQUEST_ID.set("abc.1")
    if failing == "noisy":
        runtime.fail_noisy = 2
        await ask(gateway, [150, 1, 2, 3], certify="best", max_draws=640)
    else:
        honest = runtime.base
        runtime.fail_base = 2 if failing == "base" else 0
        runtime.base = (lambda lattice: honest(lattice) * 7) if failing == "compose" else honest
        with pytest.raises(Internal, match=SEE_LOG):
            await ask(gateway, [150, 1, 2, 3])
    assert any("abc.1" in record.getMessage() for record in caplog.records)


async def test_an_engine_that_fails_says_so_in_the_log_once(served, caplog):  # noqa: F811
    _, engine, runtime = served
    assert engine.healthy()
    runtime.hold()
    asking = asyncio.create_task(ask(served[0], [150, 1, 2, 3]))
    await held_in_draws(engine, runtime)
    runtime.clock.advance(61.0)
    assert not engine.healthy()
    assert not engine.healthy()
    runtime.go.set()
    await asking
    assert sum("the engine has failed" in record.getMessage() for record in caplog.records) == 1


FAILURES = [RuntimeError("a defect"), Internal(f"x; {SEE_LOG}"), errors.Unavailable(f"y; {SEE_LOG}", retry_after_s=1)]


@pytest.mark.parametrize("failure", FAILURES, ids=["a defect", "an engine's", "not ready"])
@pytest.mark.parametrize("wire", ["grpc", "oip_grpc", "http", "oip_http"])
async def test_every_wire_logs_what_it_sends_people_to_the_log_for(caplog, wire, failure):
    gateway = FakeGateway()
    gateway.failure = failure
    with caplog.at_level(logging.WARNING):
        identifier, message = await refused(gateway, wire, "known.7")
        assert (identifier, SEE_LOG in message) == ("known.7", True)
        unknown, _ = await refused(gateway, wire, None)
    said = [record.getMessage() for record in caplog.records]
    for each in (identifier, unknown):
        assert any(f"request {each} " in text for text in said), said


@pytest.mark.parametrize("wire", ["grpc", "oip_grpc", "http", "oip_http"])
async def test_refusals_that_say_all_there_is_are_not_logged(caplog, wire):
    gateway = FakeGateway()
    gateway.failure = errors.Overloaded("come later", retry_after_s=1)
    with caplog.at_level(logging.WARNING):
        await refused(gateway, wire, "known.7")
    assert not [record for record in caplog.records if record.name.startswith("certserve")]


async def refused(gateway, wire, identifier):
    """Request id and message of the refusal of one request."""
    if "grpc" in wire:
        async with serving_grpc(gateway) as channel:
            metadata = (("x-request-id", identifier),) if identifier else ()
            call = (
                pb_grpc.CertificationServiceStub(channel).Predict(predict(), metadata=metadata)
                if wire == "grpc"
                else oip_grpc.GRPCInferenceServiceStub(channel).ModelInfer(infer(), metadata=metadata)
            )
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call
            return dict(caught.value.trailing_metadata())["x-request-id"], caught.value.details()
    headers = {"X-Request-Id": identifier} if identifier else {}
    transport = httpx.ASGITransport(build_app(gateway), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
        if wire == "http":
            headers["Content-Type"] = "image/png"
            found = await client.post("/v1/models/pictures:predict", content=encoded(grey()), headers=headers)
        else:
            tensor = {"name": "image", "datatype": "UINT8", "shape": [1, 1, 28, 28], "data": [0] * 784}
            found = await client.post("/v2/models/pictures/infer", json={"inputs": [tensor]}, headers=headers)
    return found.headers["x-request-id"], found.json()["error"]


async def test_the_request_id_reaches_the_engine(served):  # noqa: F811
    gateway, engine, _ = served
    tasks, honest = [], engine.predict

    def remember(task):
        tasks.append(task)
        return honest(task)

    engine.predict = remember
    REQUEST_ID.set("to-the-engine")
    await ask(gateway, [150, 1, 2, 3])
    assert tasks[0].request_id == "to-the-engine"


def test_nobody_is_sent_to_the_log_in_other_words():
    for path in Path(serving.__file__).parent.rglob("*.py"):
        if path.name != "errors.py":
            assert not re.search(r"log (says|has|tells|holds) more", path.read_text()), path
