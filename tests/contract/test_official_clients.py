"""Unmodified tritonclient and kserve clients work against the real server: the traps they know are in their script."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.contract.picture_bundle import NAME

SCRIPT = Path(__file__).with_name("official_clients.py")
CHECKS = {
    "triton_http": 100,
    "triton_http_aio": 16,
    "triton_grpc": 22,
    "triton_grpc_aio": 8,
    "kserve_rest": 18,
    "kserve_grpc": 14,
}


@pytest.mark.parametrize("client", CHECKS)
def test_an_unmodified_client_works(server, client):
    command = [sys.executable, str(SCRIPT), client, str(server.http_port), str(server.grpc_port), NAME]
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) >= CHECKS[client], done.stdout
