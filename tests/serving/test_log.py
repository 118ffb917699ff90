"""The log says what its operator has to know, and no stranger writes lines into it."""

from __future__ import annotations

import subprocess
import sys

_REFUSED_HEAD = """
from concurrent.futures import ThreadPoolExecutor
from serving import log
log.start()
import grpc
server = grpc.server(ThreadPoolExecutor(1))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
call = grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/a.B/C")
try:
    call(b"", metadata=[(f"x{place}", "y") for place in range(500)], timeout=30)
except grpc.RpcError as error:
    print(error.code().name)
server.stop(None)
"""


def test_a_head_that_grpc_itself_refuses_writes_no_line():
    ended = subprocess.run([sys.executable, "-c", _REFUSED_HEAD], capture_output=True, text=True, check=True)
    assert (ended.stdout.strip(), ended.stderr) == ("RESOURCE_EXHAUSTED", "")
