"""Free ports and unusual hosts: what the server announces is where it answers."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.half_space import write_half_space
from tests.servers import ROOT

pytestmark = pytest.mark.e2e
HOSTS = {"localhost": "127.0.0.1", "0.0.0.0": "127.0.0.1"}
if socket.has_dualstack_ipv6():
    HOSTS |= {"::1": "[::1]", "::": "[::1]"}


def announced(server: subprocess.Popen[str], log: Path) -> tuple[str, str, str]:
    """HTTP, gRPC and metrics, as the line says that tells of readiness."""
    until = time.monotonic() + 90
    while time.monotonic() < until and server.poll() is None:
        found = re.search(r"certserve: ready: HTTP (\S+), gRPC (\S+), metrics (\S+?)\. ", log.read_text())
        if found:
            return found[1], found[2], found[3]
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.mark.parametrize("host", HOSTS)
def test_the_true_ports_are_announced_and_answer(host, tmp_path):
    write_half_space(tmp_path / "models")
    (tmp_path / "secret").write_bytes(b"s" * 32)
    command = [str(Path(sys.executable).with_name("certserve")), "serve", "--local", str(tmp_path / "models")]
    command += ["--host", host, "--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    command += ["--noise-secret-file", str(tmp_path / "secret")]
    log = tmp_path / "log"
    with log.open("w") as stream:
        server = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, text=True)
    try:
        http, target, metrics = announced(server, log)
        assert http.startswith(f"http://{HOSTS[host]}:")
        assert httpx.get(f"{http}/v2/health/ready").status_code == 200
        assert "certserve_models_loaded 1" in httpx.get(metrics).text
        with grpc.insecure_channel(target) as channel:
            request = health_pb2.HealthCheckRequest()
            assert health_pb2_grpc.HealthStub(channel).Check(request, timeout=10).status == 1
        if host in ("::", "0.0.0.0"):
            assert httpx.get(f"http://127.0.0.1:{http.rsplit(':', 1)[1]}/v2/health/live").status_code == 200
        server.send_signal(signal.SIGINT)
        assert server.wait(30) == 0, log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
