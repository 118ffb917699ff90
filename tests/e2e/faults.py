"""Faults under load: eight clients ask over both wires while something is killed, and every exchange is accounted for."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import psutil
from google.protobuf.duration_pb2 import Duration
from grpc_status import rpc_status

from protos.certserve.v1 import certserve_pb2 as pb
from protos.certserve.v1 import certserve_pb2_grpc
from tests.servers import Address

CLIENTS = 8
DEADLINE_S = 30
ROLES = {
    "gateway": "ServeReplica:certserve:gateway",
    "engine": "ServeReplica:certserve:engine",
    "controller": "ServeController",
    "idle worker": "ray::IDLE",
    "raylet": "raylet/raylet",
    "GCS": "gcs/gcs_server",
    "driver": "serving.deployments.ray_driver",
    "dashboard agent": "ray::DashboardAgent",
    "runtime environment agent": "ray::RuntimeEnvAgent",
    "dashboard": "dashboard/dashboard.py",
    "monitor": "/monitor.py",
}


def family(address: Address) -> list[psutil.Process]:
    """The server and all that descends from it."""
    root = psutil.Process(address.process)
    return [root, *root.children(recursive=True)]


def role(process: psutil.Process) -> str:
    """What a process of the server is; its name if it is none of those."""
    with contextlib.suppress(psutil.Error):
        line = " ".join(process.cmdline())
        return next((name for name, part in ROLES.items() if part in line), process.name())
    return "gone"


def of_role(address: Address, wanted: str) -> list[psutil.Process]:
    """The processes of a role, which may be "root"."""
    root, *others = family(address)
    return [root] if wanted == "root" else [each for each in others if role(each) == wanted]


def left(processes: list[psutil.Process]) -> list[str]:
    """The names of those that still run."""
    found = []
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            if each.is_running() and each.status() != psutil.STATUS_ZOMBIE:
                found.append(role(each))
    return found


def sockets(process: psutil.Process, kind: str):
    """The sockets of a process, "inet" or "unix"; psutil renamed the method."""
    return getattr(process, "net_connections", getattr(process, "connections", None))(kind)


def free(address: Address) -> bool:
    """Whether another server could have the three ports."""
    places = [
        address.http.rsplit(":", 1)[1],
        address.grpc.rsplit(":", 1)[1],
        address.metrics.split(":")[2].split("/")[0],
    ]
    for port in places:
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", int(port)))
                trial.listen()
            except OSError:
                return False
    return True


def seconds_until(condition, most_s: float) -> float:
    """How long it took; at most `most_s`, and infinity if it did not come to be."""
    began = time.monotonic()
    while time.monotonic() - began < most_s:
        if condition():
            return time.monotonic() - began
        time.sleep(0.05)
    return float("inf")


def all_end_with(address: Address, killed: str) -> None:
    """Kill a process that cannot come back: the ports are free within ten seconds, and no process and no file is left."""
    everybody = family(address)
    (folder,) = {Path(part) for part in _folders(everybody)}
    of_role(address, killed)[0].kill()
    assert seconds_until(lambda: not left(everybody) and free(address), 10) < 10
    assert not folder.exists()
    said = [line for line in address.log.read_text().splitlines() if "has ended" in line]
    assert len(said) == (0 if killed == "root" else 1), address.log.read_text()
    assert all(line.startswith("certserve: ") for line in said)


def _folders(processes: list[psutil.Process]) -> Iterator[str]:
    for process in processes:
        for each in sockets(process, "unix"):
            if found := re.match(r"(.*?/cs-[^/]+)/", str(each.laddr)):
                yield found[1]


@dataclass(frozen=True)
class Exchange:
    """One request and what became of it: answered, refused (nobody had taken it in), or lost."""

    began: float
    ended: float
    wire: str
    outcome: str

    @property
    def lost(self) -> bool:
        return self.outcome.startswith("lost")


def longest_gap(exchanges: list[Exchange], since: float) -> float:
    """The longest time without any answer, from `since` to the last answer."""
    times = sorted(each.ended for each in exchanges if each.outcome == "answered" and each.ended > since)
    return max((later - earlier for earlier, later in zip([since, *times], times, strict=False)), default=float("inf"))


@contextmanager
def clients(address: Address, row: list[int], draws: int = 4_000) -> Iterator[list[Exchange]]:
    """Four clients over HTTP and four over gRPC, one request after the other, until the context ends; then all that became
    of them is in the list. Those who are refused wait a little.
    """
    done, found = threading.Event(), list[Exchange]()
    threads = [
        threading.Thread(target=_client, args=(address, row, draws, number, done, found)) for number in range(CLIENTS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        done.set()
        for thread in threads:
            thread.join(2 * DEADLINE_S)


def _client(
    address: Address, row: list[int], draws: int, number: int, done: threading.Event, found: list[Exchange]
) -> None:
    ask = _over_http(address, row, draws) if number % 2 else _over_grpc(address, row, draws)
    while not done.is_set():
        began = time.monotonic()
        outcome = ask(number)
        found.append(Exchange(began, time.monotonic(), "HTTP" if number % 2 else "gRPC", outcome))
        if outcome != "answered":
            done.wait(0.1)


def _over_http(address: Address, row: list[int], draws: int):
    place = address.http.removeprefix("http://")
    path = f"/v1/models/half-space:predict?certify=best&max_draws={draws}&deadline_ms={1000 * DEADLINE_S}"
    connection = http.client.HTTPConnection(place, timeout=DEADLINE_S + 5)

    def ask(number: int) -> str:
        body = json.dumps({"instances": [[*row[:-1], number]]})
        try:
            connection.connect() if connection.sock is None else None
        except OSError:
            return "refused: no connection"
        try:
            connection.request("POST", path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            return f"lost: {type(error).__name__}"
        if answer.status == 503 and answer.getheader("Retry-After") and json.loads(text)["error"]:
            return f"refused: {text.decode()}"
        return "answered" if answer.status == 200 else f"lost: {answer.status}"

    return ask


def _over_grpc(address: Address, row: list[int], draws: int):
    stub = certserve_pb2_grpc.CertificationServiceStub(
        grpc.insecure_channel(
            address.grpc, options=[("grpc.enable_http_proxy", 0), ("grpc.max_reconnect_backoff_ms", 500)]
        )
    )
    options = pb.Options(certify=pb.CERTIFY_MODE_BEST, max_draws=draws, deadline=Duration(seconds=DEADLINE_S))

    def ask(number: int) -> str:
        grid = pb.GridTensor(shape=[1, len(row)], data=[*row[:-1], number])
        try:
            stub.Predict(pb.PredictRequest(model="half-space", grid=grid, options=options), timeout=DEADLINE_S + 5)
        except grpc.RpcError as error:
            ours = rpc_status.from_call(error) is not None
            unreached = any(text in (error.details() or "") for text in ("failed to connect", "Connection refused"))
            refused = error.code() is grpc.StatusCode.UNAVAILABLE and (ours or unreached)
            return f"{'refused' if refused else 'lost'}: {error.code().name} {error.details()}"
        return "answered"

    return ask
