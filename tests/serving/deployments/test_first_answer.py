"""A server is called ready after an answer has come back through each of its ports, whatever proxy the environment names."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from export.bundle import load_repository
from serving import client
from serving.config import Limits, Settings
from serving.deployments import first_answer
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.security import keys
from tests.certificates import Authority
from tests.half_space import write_half_space
from tests.servers import in_process
from tests.serving.security.credentials import key

AUTHORITY = Authority()
NOWHERE = "http://127.0.0.1:9"


@pytest.fixture
def models(tmp_path):
    write_half_space(tmp_path)
    return tmp_path


async def answered(models, address, seconds=30, **ports):
    """Whether it is ready, and what was said meanwhile: it is given up once something was said."""
    said, samples = [], [first_answer.sample(bundle) for bundle in load_repository(models)]
    spoken = asyncio.Event()

    def say(line):
        said.append(line)
        spoken.set()

    settings = Settings(
        models=models,
        metrics_port=0,
        **{"http_port": int(address.http.rsplit(":", 1)[1]), "grpc_port": int(address.grpc.rsplit(":", 1)[1])} | ports,
    )
    asking = asyncio.ensure_future(first_answer.through_each_wire(settings, samples, say))
    speaking = asyncio.ensure_future(spoken.wait())
    await asyncio.wait({asking, speaking}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
    speaking.cancel()
    await asyncio.wait({asking}, timeout=0.5)  # it goes on asking
    if asking.done():
        asking.result()
        return True, said
    asking.cancel()
    return False, said


async def test_a_proxy_in_the_environment_does_not_matter(models, monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, NOWHERE)
        monkeypatch.setenv(name.upper(), NOWHERE)
    monkeypatch.setenv("no_proxy", "example.org")
    async with in_process(models) as address:
        assert await answered(models, address) == (True, [])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_nor_to_who_asks_a_server_of_this_host(models, monkeypatch, host):
    body = json.dumps({"instances": [[150, 1, 2, 3]]}).encode()
    async with in_process(models) as address:
        for name in ("http_proxy", "https_proxy", "all_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, NOWHERE)
        for predict, place in ((client.predict_http, address.http), (client.predict_grpc, address.grpc)):
            place = place.replace("127.0.0.1", host)
            found = await asyncio.to_thread(predict, place, "half-space", body, "application/json", {"certify": "off"})
            assert found["predictions"][0]["label"] == "above"


@pytest.mark.parametrize("silent", ["HTTP", "gRPC"])
async def test_a_port_that_does_not_answer_is_named_and_waited_for(models, monkeypatch, silent):
    monkeypatch.setattr(first_answer, "_PATIENCE_S", 0.0)
    monkeypatch.setattr(first_answer, "_ONE_S", 1.0)
    async with in_process(models) as address:
        with socket.socket() as deaf:  # accepts, and never says anything
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            port = deaf.getsockname()[1]
            ready, said = await answered(models, address, **{f"{silent.lower()}_port": port})
    assert not ready
    assert said[-1].startswith(f"not ready: no answer comes back through {silent} port {port}: ")


async def test_a_server_that_is_not_ready_says_why(models, monkeypatch):
    monkeypatch.setattr(first_answer, "_PATIENCE_S", 0.0)
    (bundle,) = load_repository(models)
    other = OnnxRuntime(bundle).description + " of_tomorrow"
    async with in_process(models, runtime=other) as address:
        ready, said = await answered(models, address)
    assert not ready
    assert "lacks of_tomorrow" in said[-1]


async def test_a_model_whose_rows_exceed_the_limit_of_a_body_is_ready(models):
    async with in_process(models, limits=Limits(max_body_bytes=8)) as address:
        assert await answered(models, address) == (True, [])


@pytest.mark.parametrize("closed", ["keys", "TLS", "TLS and keys", "mTLS"])
async def test_a_server_that_lets_in_nobody_without_a_key_or_certificate_is_ready(models, tmp_path, closed):
    """Whoever starts it has neither, and finds that the ports are the server's."""
    settings = {}
    if "keys" in closed:
        settings["keys_file"] = tmp_path / "keys"
        settings["keys_file"].write_bytes(keys.written([key()[1]]))
    if "TLS" in closed:
        settings["tls_cert_file"], settings["tls_key_file"] = AUTHORITY.pair().write(tmp_path)
    if closed == "mTLS":
        settings["tls_client_ca_file"] = tmp_path / "ca"
        settings["tls_client_ca_file"].write_bytes(AUTHORITY.certificate)
    async with in_process(models, **settings) as address:
        assert await answered(models, address, **settings) == (True, [])
