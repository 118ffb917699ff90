"""The page over HTTP: who gets it, with which policy, and what it is told of the models."""

from __future__ import annotations

import re

import httpx
import pytest

from serving.wires.http.server import build_app
from tests.serving.page.verifiers import PAGE
from tests.serving.wires.fake_gateway import FakeGateway

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
FILES = sorted(path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file())


def client(**options):
    app = build_app(FakeGateway(), **options)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://server")


async def test_a_browser_gets_the_page_and_every_other_client_hears_that_the_server_is_alive():
    async with client() as http:
        page = await http.get("/", headers=BROWSER)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert page.text == (PAGE / "index.html").read_text()
        for headers in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}):
            assert (await http.get("/", headers=headers)).json() == {"status": "alive"}


async def test_every_file_is_served_under_a_policy_that_lets_nothing_else_in():
    async with client() as http:
        for name in FILES:
            path, headers = ("/", BROWSER) if name == "index.html" else (f"/page/{name}", {})
            found = await http.get(path, headers=headers)
            assert found.content == (PAGE / name).read_bytes()
            policy = dict(each.split(" ", 1) for each in found.headers["content-security-policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert {"'self'"} == {policy[kind] for kind in ("script-src", "style-src", "connect-src")}
            assert {"'none'"} == {policy[kind] for kind in ("base-uri", "form-action", "frame-ancestors")}
            assert found.headers["x-content-type-options"] == "nosniff"
            again = await http.get(path, headers={**headers, "If-None-Match": found.headers["etag"]})
            assert (again.status_code, again.content) == (304, b"")


def test_nothing_on_the_page_comes_from_elsewhere_and_nothing_needs_a_looser_policy():
    for name in FILES:
        text = (PAGE / name).read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|(src|href)=\"//|@import|\beval\(|innerHTML", text), (
            name
        )
        assert len(text.splitlines()) < 500
        if name.endswith(".html"):
            assert not re.search(r"\sstyle=|\son[a-z]+=|<script>", text)


async def test_without_the_page_a_browser_hears_that_the_server_is_alive_and_there_are_no_files():
    async with client(with_page=False) as http:
        assert (await http.get("/", headers=BROWSER)).json() == {"status": "alive"}
        for path in ("/page/page.js", "/page/models"):
            assert (await http.get(path)).status_code == 404


@pytest.mark.parametrize("path", ["/page/index.html", "/page/../server.py", "/page/verifier", "/page/%2e%2e/budget.py"])
async def test_no_other_file_is_served(path):
    async with client() as http:
        assert (await http.get(path)).status_code == 404


async def test_the_page_is_told_of_whatever_models_are_served():
    async with client() as http:
        models = (await http.get("/page/models")).json()["models"]
    grey, _, colour = models
    assert [each["name"] for each in models] == ["pictures", "pictures", "rgb"]
    assert (grey["input"]["shape"], colour["input"]["shape"]) == ([1, 28, 28], [8, 8, 3])
    assert [len(each) for each in colour["examples"]] == [192, 192, 192]
    assert grey["labels"][2] == "class 2"
    assert grey["defaults"]["max_draws"] > 0
