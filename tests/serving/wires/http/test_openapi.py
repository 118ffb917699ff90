"""The OpenAPI document names every route, is true of the running server, and can be read without anything from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import re

import jsonschema
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serving.wires.http import openapi
from serving.wires.http.server import build_app
from serving.wires.options import KINDS
from tests.serving.wires.fake_gateway import FakeGateway
from tests.serving.wires.pictures import encoded, grey

CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
SERVED = {"name": "pictures", "version": "1"}
APP = build_app(FakeGateway())
DOCUMENT = openapi.document(APP.routes)
SCHEMA = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS = {operation.label: operation for operation in (each.ok() for each in SCHEMA.get_all_operations())}


async def test_the_document_is_served_and_valid(http):
    response = await http.get("/openapi.json")
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.json() == DOCUMENT
    for path in DOCUMENT["paths"].values():
        for operation in path.values():
            bodies = [operation["responses"]["200"], operation.get("requestBody", {"content": {}})]
            for each in (body for found in bodies for body in found["content"].values()):
                jsonschema.Draft202012Validator.check_schema(each["schema"])


def test_every_route_and_method_is_in_it_and_something_is_said_of_each():
    found = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    served = {(openapi.template(route), each.lower()) for route in APP.routes for each in route.methods - {"HEAD"}}
    assert found == served
    assert [path for path, _ in sorted(served) if openapi.known(path) is None] == []
    summaries = [operation["summary"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert all(len(each) > 10 for each in summaries)
    identifiers = [operation["operationId"] for path in DOCUMENT["paths"].values() for operation in path.values()]
    assert len(set(identifiers)) == len(identifiers)


def test_no_route_that_is_gone_is_described():
    paths = {openapi.template(route).replace("/versions/{version}", "") for route in APP.routes}
    assert set(openapi.OPERATIONS) <= paths


def test_every_option_is_a_parameter_of_the_friendly_route():
    asked = DOCUMENT["paths"]["/v1/models/{name}:predict"]["post"]
    assert [each["name"] for each in asked["parameters"] if each["in"] == "query"] == list(KINDS)
    assert set(KINDS) < set(asked["requestBody"]["content"]["application/json"]["schema"]["properties"])


async def test_real_answers_fit_their_schemas(http):
    """With models that are served, which what is made at random seldom names."""
    picture = {"content": encoded(grey()), "headers": {"Content-Type": "image/png"}}
    tensor = {"name": "image", "shape": [3, 1, 28, 28], "datatype": "UINT8", "data": [0] * 2352}
    asked = {
        "/v1/models/{name}:predict": [picture, {"json": {"instances": [[[[0] * 28] * 28]] * 3, "certify": "best"}}],
        "/v2/models/{name}/infer": [{"json": {"inputs": [tensor], "parameters": {"certify": "best"}}}],
        "/v2/models/{name}/generate": [{"json": {"image": [0] * 784, "certify": "best"}}],
    }
    seen = set()
    for path, methods in DOCUMENT["paths"].items():
        real = path.replace("{name}", "pictures").replace("{version}", "1").replace("{memory}", "cuda")
        for method, operation in methods.items():
            for body in asked.get(path.replace("/versions/{version}", ""), [{}]):
                response = await http.request(method, real, **body)
                if response.status_code == 200:
                    seen.add(path)
                    kind = response.headers["content-type"].split(";")[0]
                    schema = operation["responses"]["200"]["content"][kind]["schema"]
                    if kind == "application/json":
                        jsonschema.validate(response.json(), schema)
    refusing = re.compile("load|register|stream|repository}|{region}")
    assert [path for path in DOCUMENT["paths"] if path not in seen and not refusing.search(path)] == []


@pytest.mark.parametrize("label", OPERATIONS)
def test_whatever_is_made_from_the_document_is_answered_as_it_says(label):
    @settings(
        max_examples=8, derandomize=True, deadline=None, phases=[Phase.generate], suppress_health_check=HealthCheck
    )
    @given(case=OPERATIONS[label].as_strategy(), served=st.booleans())
    def ask(case, served):
        if served:  # chance alone would never name a model that there is
            case.path_parameters |= {part: value for part, value in SERVED.items() if part in case.path_parameters}
        response = case.call(app=APP)
        assert response.status_code not in (500, 502), response.text
        case.validate_response(response, checks=CHECKS)

    ask()


async def test_the_page_names_every_route_and_loads_nothing(http):
    response = await http.get("/docs")
    assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")
    page = response.text
    for path in DOCUMENT["paths"]:
        assert f"<code>{path}</code>" in page
    assert not re.search(r"<script|src=|http-equiv|@import|url\(|\son\w+=|\sstyle=", page)
    assert set(re.findall(r'href="([^"]*)"', page)) == {"/openapi.json"}
    policy = response.headers["content-security-policy"]
    (style,) = re.findall("<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy.split("; ")[:2] == ["default-src 'none'", f"style-src 'sha256-{digest}'"]
