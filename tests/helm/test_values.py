"""The values: documented, guarded by their schema, and the same settings that the server knows."""

from __future__ import annotations

import itertools
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from serving.commands import cli
from serving.config import Limits, Settings
from tests.helm.chart import CHART, ROOT, container, helm, one, pod_templates, render, serve_config

TEXT = (CHART / "values.yaml").read_text()
VALUES = yaml.safe_load(TEXT)
SCHEMA = json.loads((CHART / "values.schema.json").read_text())

JWT = {"url": "https://issuer.example.org/jwks", "issuer": "https://issuer.example.org", "audience": "certserve"}
CLOSED = {"tls": {"secretName": "pair"}, "callers": {"keys": {"name": "keys"}, "jwt": JWT, "drawsPerDay": 7}}
"""Everything that closes the door. Clients have no certificates: the kubelet, which asks for health, has none."""

BAD = [
    ("secretname", {"tls": {"secretname": "pair"}}),
    ("kind", {"tls": {"issuerRef": {"name": "a", "kind": "Authority"}}}),
    ("both set", {"tls": {"secretName": "pair", "issuerRef": {"name": "a"}}}),
    ("tls.issuerRef.name", {"tls": {"issuerRef": {"kind": "Issuer"}}}),
    ("url", {"callers": {"jwt": {**JWT, "url": "http://issuer.example.org"}}}),
    ("callers.jwt.issuer", {"callers": {"jwt": {"name": "keys"}}}),
    ("both set", {"callers": {"jwt": {**JWT, "name": "keys"}}}),
    ("metadata", {"callers": {"metadata": "ajar"}}),
    ("drawsPerDay", {"callers": {"drawsPerDay": -1}}),
    ("replica", {"replica": 3}),
    ("existingclaim", {"models": {"existingclaim": "bundles"}}),
    ("nam", {"noiseSecret": {"nam": "noise"}}),
    ("maxdraws", {"limits": {"maxdraws": 5}}),
    ("request", {"resources": {"request": {"cpu": 1}}}),
    ("head_resources", {"ray": {"head_resources": {}}}),
    ("replicas", {"replicas": "two"}),
    ("replicas", {"replicas": 0}),
    ("shape", {"shape": "knative"}),
    ("provider", {"provider": "gpu"}),
    ("maxDeadlineMs", {"limits": {"maxDeadlineMs": 0}}),
    ("path", {"models": {"path": "models"}}),
    ("type", {"service": {"type": "ExternalName"}}),
    ("objectStoreBytes", {"ray": {"objectStoreBytes": "256Mi"}}),
    ("effect", {"tolerations": [{"effect": "Never"}]}),
    ("noiseSecret.name", {"noiseSecret": {"name": ""}}),
]


@pytest.mark.parametrize(("key", "values"), BAD, ids=[f"{key}-{number}" for number, (key, _) in enumerate(BAD)])
def test_a_bad_value_is_refused_and_named(helm_binary: Path, key: str, values: dict[str, Any]) -> None:
    done = helm(helm_binary, "template", {"noiseSecret": {"name": "noise"}} | values)
    assert done.returncode != 0
    assert key in done.stderr


def test_every_key_is_in_the_schema_and_every_key_of_the_schema_has_a_default() -> None:
    assert _keys(VALUES, SCHEMA) == []


def _keys(values: dict[str, Any], schema: dict[str, Any], where: str = "") -> list[str]:
    """Keys that are in one of the two only; free mappings, such as annotations, have none."""
    if "$ref" in schema:
        schema = SCHEMA["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    named = schema.get("properties")
    if named is None or not values:
        return []
    wrong = [f"{where}{key}" for key in set(values) ^ set(named) if key != "global"]
    for key, value in values.items():
        if isinstance(value, dict) and key in named:
            wrong += _keys(value, named[key], f"{where}{key}.")
    return wrong


def test_objects_of_the_schema_take_no_other_key() -> None:
    def closed(schema: Any) -> None:
        if isinstance(schema, dict):
            if "properties" in schema and "type" in schema:
                assert schema.get("additionalProperties") is False, sorted(schema["properties"])
            for part in schema.values():
                closed(part)

    closed(SCHEMA)


def test_every_value_is_explained() -> None:
    """By a comment above it, or above the mapping that it is a part of; Kubernetes' own names need none."""
    lines = TEXT.splitlines()
    own = {"podAnnotations", "priorityClassName", "nodeSelector", "affinity", "image", "pullPolicy", "annotations"}
    own |= {"requests", "limits", "cpu", "memory"}
    explained: dict[int, bool] = {}
    for before, line in itertools.pairwise(lines):
        found = re.match(r"( *)(\w+):", line)
        if found:
            depth = len(found[1])
            outer = any(said for d, said in explained.items() if d < depth)
            explained = {d: said for d, said in explained.items() if d < depth}
            explained[depth] = before.lstrip().startswith("#")
            opens_mapping = line.rstrip().endswith(":")
            assert explained[depth] or outer or opens_mapping or found[2] in own, line


def test_the_chart_stays_small() -> None:
    def count(values: Any) -> int:
        return sum(1 + count(v) for v in values.values()) if isinstance(values, dict) else 0

    assert count(VALUES) < 110
    assert len(list((CHART / "templates").iterdir())) <= 12


def test_limits_are_the_servers_own() -> None:
    def snake(name: str) -> str:
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()

    assert {snake(name): value for name, value in VALUES["limits"].items()} == {
        field.name: field.default for field in fields(Limits)
    }


def test_the_command_of_the_deployment_is_one_that_the_server_takes(helm_binary: Path) -> None:
    values = {"limits": {"maxDeadlineMs": 5_000}, "threads": 3, "provider": "cuda", "signingKey": {"name": "seal"}}
    values |= CLOSED
    values["runtime"] = "onnxruntime 1.32.0 CPUExecutionProvider, x86_64 avx2"
    served = container(pod_templates(render(helm_binary, values))["server"])
    program, *words = served["command"] + served["args"]
    options = cli._parser().parse_args(words)
    assert program == "certserve"
    assert options.local is True
    wanted = {field.name for field in [*fields(Settings), *fields(Limits)]} - {
        "limits",
        "models",
        "tls_client_ca_file",
        "gateways",
        "engines",
    }
    said = {word[2:].removeprefix("no-").split("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    said.remove("local")
    assert said == wanted  # every setting is said, none is left to a default that could change
    assert (options.host, options.http_port, options.grpc_port, options.metrics_port) == ("0.0.0.0", 8000, 8001, 8002)
    assert (options.threads, options.provider, options.max_deadline_ms) == (3, "cuda", 5_000)
    assert options.runtime == values["runtime"]
    assert (options.jwt_keys, options.caller_draws_per_day, options.metadata) == (JWT["url"], 7, "closed")
    assert options.max_pending_draws == 2_000_000
    assert [p["containerPort"] for p in served["ports"]] == [8000, 8001, 8002]


def test_the_arguments_of_the_serve_application_are_settings(helm_binary: Path) -> None:
    documents = render(
        helm_binary, {"shape": "ray", "replicas": 3, "limits": {"maxRows": 8}, "signingKey": {"name": "seal"}, **CLOSED}
    )
    config = serve_config(documents)
    settings = Settings.from_mapping(config["applications"][0]["args"])
    assert (settings.engines, settings.gateways, settings.limits.max_rows) == (3, 3, 8)
    # The gateways listen themselves, on the ports of the pods.
    assert (settings.host, settings.http_port, settings.grpc_port) == ("0.0.0.0", 8000, 8001)
    assert config["proxy_location"] == "Disabled"
    known = {field.name for field in [*fields(Settings), *fields(Limits)]} - {"limits", "tls_client_ca_file"}
    assert set(config["applications"][0]["args"]) == known
    (group,) = one(documents, "RayService")["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    assert [group[k] for k in ("replicas", "minReplicas", "maxReplicas")] == [3, 3, 3]


def test_the_versions_are_those_of_the_project() -> None:
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    assert VALUES["ray"]["version"] == pins["ray"]
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.M)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert version is not None
    assert chart["appVersion"] == version[1]
