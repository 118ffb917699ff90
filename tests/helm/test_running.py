"""What the chart runs, run here: the command of the local shape as a server, the Serve configuration as an application."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.half_space import write_half_space
from tests.helm.chart import ROOT, Document, container, pod_templates, render, serve_config

SECRET_FILE = "/etc/certserve/noise-secret"


@pytest.fixture
def places(tmp_path: Path) -> dict[str, str]:
    """What stands in this machine for what the container has: models, secret, address and ports."""
    write_half_space(tmp_path / "models")
    (tmp_path / "noise-secret").write_bytes(os.urandom(32))
    http, grpc, metrics = _free_ports()
    return {
        "/models": str(tmp_path / "models"),
        SECRET_FILE: str(tmp_path / "noise-secret"),
        "0.0.0.0": "127.0.0.1",
        "8000": http,
        "8001": grpc,
        "8002": metrics,
        "certserve": str(Path(sys.executable).parent / "certserve"),
    }


def _free_ports() -> list[str]:
    """Three, below the range from which the system takes ports for others between now and the start of the server."""
    with contextlib.ExitStack() as stack:
        found: list[str] = []
        while len(found) < 3:
            port = random.randrange(20_000, 30_000)
            held = stack.enter_context(socket.socket())
            with contextlib.suppress(OSError):
                held.bind(("127.0.0.1", port))
                found.append(str(port))
        return found


def _here(word: str, places: dict[str, str]) -> str:
    name, sign, value = word.partition("=")
    return f"{name}={places.get(value, value)}" if sign else places.get(word, word)


def _status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@contextlib.contextmanager
def _running(line: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    # As in the container: nothing of the home folder, and a current folder that is not the repository.
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    log = folder / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(line, cwd=folder, env=environment, stderr=stream, text=True)
    try:
        yield server
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def _wait_until_up(server: subprocess.Popen[str], url: str, log: Path) -> None:
    until = time.monotonic() + 60
    while _status(url) != 200:
        assert server.poll() is None, log.read_text()
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)


def test_the_command_of_the_local_shape_serves_and_stops(helm4: Path, places: dict[str, str], tmp_path: Path) -> None:
    served = container(pod_templates(render(helm4, {}))["server"])
    line = [_here(word, places) for word in served["command"] + served["args"]]
    ports = {p["name"]: places[str(p["containerPort"])] for p in served["ports"]}

    def url(probe: str) -> str:
        route = served[probe]["httpGet"]
        return f"http://127.0.0.1:{ports[route['port']]}{route['path']}"

    with _running(line, tmp_path) as server:
        _wait_until_up(server, url("readinessProbe"), tmp_path / "log")
        assert _status(url("startupProbe")) == _status(url("livenessProbe")) == 200
        assert _status(f"http://127.0.0.1:{ports['metrics']}/metrics") == 200
        with socket.create_connection(("127.0.0.1", int(ports["grpc"])), timeout=5):
            pass
        children = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0, (tmp_path / "log").read_text()
        assert [child for child in children if child.is_running()] == []


BUILD = """
import json, os, sys
from ray.serve.schema import ServeDeploySchema
from serving.deployments import ray_environment
config = ServeDeploySchema.model_validate(json.load(sys.stdin))
application, = config.applications
module, name = application.import_path.split(":")
built = getattr(__import__(module, fromlist=[name]), name)(application.args)
def bound(app):
    deployment = app._bound_deployment
    found = {deployment.name: deployment.num_replicas}
    for argument in deployment.init_args:
        if hasattr(argument, "_bound_deployment"):
            found |= bound(argument)
    return found
asked = {d.name: d.num_replicas for d in application.deployments}
print(json.dumps({"code": bound(built), "asked": asked, "environment": ray_environment.FAST}))
"""


def test_the_serve_configuration_builds_the_application(helm4: Path, places: dict[str, str], tmp_path: Path) -> None:
    documents = render(helm4, {"shape": "ray"})
    config = serve_config(documents)
    arguments: Document = config["applications"][0]["args"]
    config["applications"][0]["args"] = {k: places.get(v, v) if isinstance(v, str) else v for k, v in arguments.items()}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        input=json.dumps(config),
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    built = json.loads(done.stdout.splitlines()[-1])
    assert built["code"] == built["asked"] == {"gateway": 2, "engine": 2}
    for template in pod_templates(documents).values():
        given = {variable["name"]: variable["value"] for variable in container(template)["env"]}
        assert built["environment"].items() <= given.items()
    assert config["proxy_location"] == "Disabled"
    assert "http_options" not in config
