"""Who is let in by a file of keys and by tokens: every route and every method, by every kind of credentials."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager

import grpc
import httpx
import pytest

from serving.config import Settings
from serving.security.login import login
from serving.wires.grpc.server import NEEDS, build_server
from serving.wires.http.server import build_app
from tests.contract.door import METHODS, bearers, bearing, differences, expected, routes
from tests.contract.test_callers import Asked
from tests.serving.security.credentials import AUDIENCE, ISSUER, jwks, token


@pytest.fixture
def who():
    return bearers()


@asynccontextmanager
async def door(tmp_path, who, **more):
    """Both wires of a gateway with a login."""
    (tmp_path / "keys").write_bytes(who.file)
    (tmp_path / "jwks").write_bytes(jwks())
    settings = Settings(
        models=tmp_path,
        keys_file=tmp_path / "keys",
        **{"jwt_keys": str(tmp_path / "jwks"), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, **more},
    )
    gateway, callers = Asked(), login(settings)
    app = build_app(gateway, callers=callers)
    server, port = build_server(gateway, "127.0.0.1", 0, callers=callers)
    await server.start()
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server") as http,
    ):
        yield app, http, channel
    await server.stop(0)


async def test_every_route_and_method_lets_in_whom_it_should_and_nobody_else(tmp_path, who):
    async with door(tmp_path, who) as (app, http, channel):
        cells, wrong = await differences(app, http, channel, who)
    assert (cells > 500, wrong) == (True, [])


async def test_the_matrix_finds_a_route_that_is_open(tmp_path, who):
    async with door(tmp_path, who) as (app, http, channel):
        route = next(route for route in app.routes if route.path == "/v2/models")
        route.needs = "admin"
        assert [each for each in (await differences(app, http, channel, who))[1] if "/v2/models'" in each] == []
        route.needs = None
        wrong = (await differences(app, http, channel, who))[1]
    assert sum("/v2/models'" in each for each in wrong) == len(who.unknown)


async def test_bearers_of_tokens_are_let_in_by_their_scopes(tmp_path, who):
    who.unknown = {"late": bearing(token(exp=time.time() - 60)), "of another issuer": bearing(token(iss="other"))}
    who.by_scope = {scope: bearing(token(exp=time.time() + 600, scope=scope)) for scope in who.by_scope}
    async with door(tmp_path, who) as (app, http, channel):
        assert (await differences(app, http, channel, who))[1] == []


async def test_metadata_may_be_for_everybody_and_nothing_else_is(tmp_path, who):
    """Whoever brings credentials that are wrong is refused nevertheless."""
    async with door(tmp_path, who, metadata="open") as (app, http, _channel):
        for method, path, needs in routes(app):
            code = (await http.request(method, path)).status_code
            assert (code == 401) == (needs in ("infer", "admin")), path
            if needs is not None:
                assert (await http.request(method, path, headers=who.unknown["wrong"])).status_code == 401
        model = await http.get("/v2/models/pictures")
    assert model.json()["name"] == "pictures"


async def test_a_refusal_names_no_credentials_and_asks_for_a_bearer(tmp_path, who):
    async with door(tmp_path, who) as (_, http, _channel):
        for fields in who.unknown.values():
            answer = await http.get("/v2", headers=fields)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert not fields.get("authorization") or fields["authorization"].split()[-1] not in answer.text


def test_every_scope_that_is_named_is_one_and_no_method_is_left_out():
    assert set(NEEDS.values()) <= {None, "infer", "read", "admin"}
    assert set(NEEDS) <= set(METHODS)
    assert {expected(None, "none"), expected("read", "none"), expected("read", "infer")} == {
        "in",
        "unknown",
        "forbidden",
    }
