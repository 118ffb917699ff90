"""Pages of other origins call the server from a browser where the operator names them, and nowhere else."""

from __future__ import annotations

import httpx
import pytest

from serving.config import SettingError, Settings
from serving.errors import Unauthenticated
from serving.wires.http.server import build_app
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.http.test_http_server import INSTANCES, JSON, PREDICT

HERE, THERE = "https://page.example", "https://other.example"
ASKED = {
    "Access-Control-Request-Method": "POST",
    "Access-Control-Request-Headers": "content-type, Authorization, traceparent",
}


class Nobody:
    """Knows no caller."""

    def caller(self, fields):
        raise Unauthenticated("who asks?")


def client(*origins, callers=None):
    app = build_app(FakeGateway(), callers=callers, origins=origins)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_by_default_no_page_of_another_origin_may():
    async with client() as http:
        asked = await http.options(PREDICT, headers={"Origin": HERE, **ASKED})
        answer = await http.post(PREDICT, content=INSTANCES, headers={"Origin": HERE, **JSON})
    assert asked.status_code == 405
    assert answer.status_code == 200
    for each in (asked, answer):
        assert not [name for name in each.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(("origins", "told"), [((HERE, "http://x:8080"), HERE), (("*",), "*")])
async def test_a_named_origin_is_told_beforehand_without_credentials_and_reads_the_answer(origins, told):
    async with client(*origins, callers=Nobody()) as http:
        asked = await http.options(PREDICT, headers={"Origin": HERE, **ASKED})
        refused = await http.post(PREDICT, content=INSTANCES, headers={"Origin": HERE, **JSON})
    assert (asked.status_code, asked.content, asked.headers["access-control-allow-origin"]) == (204, b"", told)
    assert "POST" in asked.headers["access-control-allow-methods"]
    assert "Origin" in asked.headers["vary"]
    assert (refused.status_code, refused.headers["access-control-allow-origin"]) == (401, told)
    exposed = refused.headers["access-control-expose-headers"].lower()
    assert all(name in exposed for name in ("x-request-id", "traceparent", "retry-after", "inference-header"))
    assert "Origin" in refused.headers["vary"]
    assert "access-control-allow-credentials" not in refused.headers


@pytest.mark.parametrize("path", [PREDICT, PREDICT.replace("predict", "stream"), "/v2", "/nowhere"])
async def test_streams_and_errors_are_read_by_a_named_origin_as_well(path):
    async with client(HERE) as http:
        answer = await http.post(path, content=INSTANCES, headers={"Origin": HERE, **JSON})
        other = await http.post(path, content=INSTANCES, headers={"Origin": THERE, **JSON})
    assert answer.headers["access-control-allow-origin"] == HERE
    assert answer.headers["x-request-id"]
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    ("headers", "what"),
    [
        ({"Origin": THERE, **ASKED}, "origin"),
        ({"Origin": "null", **ASKED}, "origin"),
        ({"Origin": HERE, **ASKED, "Access-Control-Request-Method": "DELETE"}, "method"),
        ({"Origin": HERE, **ASKED, "Access-Control-Request-Headers": "x-other"}, "headers"),
    ],
)
async def test_whoever_may_not_is_told_so_in_the_form_of_every_error(headers, what):
    async with client(HERE) as http:
        asked = await http.options(PREDICT, headers=headers)
    assert (asked.status_code, asked.headers["content-type"]) == (400, "application/json")
    assert f"({what})" in asked.json()["error"]
    assert "--cors-origins" in asked.json()["error"]


def test_origins_are_named_as_browsers_do(tmp_path):
    found = Settings(models=tmp_path, cors_origins="https://a.example, http://[::1]:80,*")
    assert found.origins == ("https://a.example", "http://[::1]:80", "*")
    assert Settings(models=tmp_path).origins == ()
    for wrong in (
        "a.example",
        "https://a.example/",
        "https://A.example",
        "ftp://a",
        "https://a,,https://b",
        "null",
        ",",
    ):
        with pytest.raises(SettingError, match=r"cors_origins .*expected https://host:port"):
            Settings(models=tmp_path, cors_origins=wrong)
