"""gRPC's core is told how to wait before anything imports it, and an operator who says otherwise is heeded."""

from __future__ import annotations

import os
import subprocess
import sys

from serving.wires.grpc import core

_CHOSEN = """
import sys, os
import serving.commands.serve
from serving.wires.grpc import core
assert not any(name.split(".")[0] == "grpc" for name in sys.modules)
core.choose()
print(os.environ[core.VARIABLE])
import grpc
grpc.insecure_channel("127.0.0.1:1").close()
"""


def chosen(**environment: str) -> str:
    given = {name: value for name, value in os.environ.items() if name != core.VARIABLE} | environment
    ended = subprocess.run([sys.executable, "-c", _CHOSEN], env=given, capture_output=True, text=True, check=True)
    assert not ended.stderr, "the core does not know what it was told"
    return ended.stdout.strip()


def test_the_command_chooses_before_grpc_is_imported_and_leaves_the_operator_s_own_choice():
    assert chosen() == "-event_engine_listener,-event_engine_client"
    assert chosen(**{core.VARIABLE: "event_engine_client"}) == "event_engine_client"
