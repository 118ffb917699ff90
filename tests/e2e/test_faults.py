"""What becomes of the server on Ray when one of its processes is killed and comes back, or when it does not start; what
listens; and what nothing outside may come between.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import safetensors.numpy

from tests.e2e import faults
from tests.half_space import write_half_space
from tests.servers import ROOT

pytestmark = pytest.mark.e2e
ROW = [150, 1, 2, 3]
LONG = {"certify": "best", "max_draws": 100_000, "deadline_ms": 60_000}


@pytest.fixture
def two(shared):
    return shared.running("two")


def documented():
    """The rows of docs/ports.md: process, address, port."""
    rows = [
        line.split("|")[1:4] for line in (ROOT / "docs" / "ports.md").read_text().splitlines() if line.startswith("|")
    ]
    return [tuple(cell.strip() for cell in row) for row in rows[2:]]


def listening(address):
    ours = {address.http.rsplit(":", 1)[1]: "`--http-port`", address.grpc.rsplit(":", 1)[1]: "`--grpc-port`"}
    ours[address.metrics.split(":")[2].split("/")[0]] = "`--metrics-port`"
    for process in faults.family(address):
        for each in faults.sockets(process, "inet"):
            if each.status == psutil.CONN_LISTEN:
                yield faults.role(process), each.laddr.ip, ours.get(str(each.laddr.port), str(each.laddr.port))


def test_what_listens_is_what_is_documented_and_on_this_host_alone(two):
    rows = documented()
    known = {(name.replace("gcs_server", "GCS"), port) for names, _, port in rows for name in names.split(" or ")}
    for process, host, port in listening(two):
        found = ipaddress.ip_address(host)
        assert (getattr(found, "ipv4_mapped", None) or found).is_loopback, (process, host, port)
        assert (process, port) in known or (process, "any") in known, (process, host, port)
    assert {port for _, _, port in listening(two)} >= {port for _, _, port in rows if port.startswith("`")}


def test_no_other_user_can_reach_the_files_and_sockets(two):
    """Whatever Ray opens to everybody lies in a folder that only this user can enter."""
    sockets = {each.laddr for process in faults.family(two) for each in faults.sockets(process, "unix") if each.laddr}
    paths = [Path(each) for each in sockets if str(each).startswith("/")]
    assert paths
    for path in paths:
        assert len(str(path)) < 104
        *_, private = (parent for parent in path.parents if parent.name.startswith("cs-"))
        assert stat.S_IMODE(private.stat().st_mode) == 0o700
        assert private.stat().st_uid == os.getuid()
    written = {
        each.path
        for process in faults.family(two)
        for each in process.open_files()
        if "r" not in each.mode or "+" in each.mode
    }
    assert [path for path in written if "/cs-" not in path and path != str(two.log)] == []


@pytest.mark.parametrize("port", ["--http-port", "--grpc-port", "--metrics-port"])
def test_a_second_server_on_a_port_of_a_running_one_is_refused_in_one_line(two, shared, port):
    ports = {"--http-port": "0", "--grpc-port": "0", "--metrics-port": "0"}
    taken = {
        "--http-port": two.http.rsplit(":", 1)[1],
        "--grpc-port": two.grpc.rsplit(":", 1)[1],
        "--metrics-port": two.metrics.split(":")[2].split("/")[0],
    }
    ports[port] = taken[port]
    command = [str(Path(sys.executable).with_name("certserve")), "serve", str(shared.half_space)]
    command += [word for pair in ports.items() for word in pair]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    lines = [line for line in done.stderr.splitlines() if line]
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 1), done.stderr
    assert taken[port] in lines[0]
    assert port in lines[0]


def metric(address, name):
    lines = httpx.get(address.metrics, trust_env=False).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + " "))


def test_a_client_that_hangs_up_on_a_used_connection_stops_its_draws(two):
    with httpx.Client(base_url=two.http, trust_env=False, timeout=30) as client:
        path = "/v1/models/half-space:predict"
        for turn in range(3):
            for _ in range(3):
                assert client.post(path, params={"certify": "off"}, json={"instances": [ROW]}).status_code == 200
            body = {"instances": [[150, 9, turn, i] for i in range(100)]}
            with pytest.raises(httpx.ReadTimeout):
                client.post(path, params=LONG, json=body, timeout=0.5)
            assert faults.seconds_until(lambda: metric(two, "certserve_draws_pending") == 0, 5) < 5
            time.sleep(0.5)  # a batch that was under way is counted when it ends
            drawn = metric(two, "certserve_draws_total")
            time.sleep(0.5)
            assert metric(two, "certserve_draws_total") == drawn


@pytest.mark.parametrize("killed", ["controller", "engine"])
def test_a_process_that_comes_back_costs_no_request(two, killed):
    """With certificates that are split over both engines. Nor does its return: nothing else is replaced."""
    process, gateways = faults.of_role(two, killed)[0], faults.of_role(two, "gateway")
    with faults.clients(two, ROW, draws=10_000) as exchanges:
        time.sleep(1)
        process.kill()
        back = faults.seconds_until(lambda: [each for each in faults.of_role(two, killed) if each != process], 60)
        time.sleep(5)  # for a controller to look at what it finds
    assert back < 60
    assert len(exchanges) >= 2 * faults.CLIENTS
    assert {each.outcome for each in exchanges} == {"answered"}
    assert faults.of_role(two, "gateway") == gateways
    assert httpx.get(f"{two.http}/v2/health/ready", trust_env=False).status_code == 200


def test_an_engine_that_does_not_start_is_told_in_one_line(tmp_path):
    """Here one that does not reproduce the golden outputs, which is found where the engine is."""
    write_half_space(tmp_path)
    folder = tmp_path / "half-space" / "1"
    golden = safetensors.numpy.load_file(folder / "golden.safetensors")
    data = safetensors.numpy.save(golden | {"votes": 1 - golden["votes"]})
    (folder / "golden.safetensors").write_bytes(data)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["golden.safetensors"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    command = [str(Path(sys.executable).with_name("certserve")), "serve", str(tmp_path)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=180)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert re.match("certserve: half-space/1: .* golden votes differ", done.stderr.splitlines()[-1]), done.stderr


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (signal.SIGINT, "reading the bundles"),
        (signal.SIGTERM, "starting Ray"),
        (signal.SIGINT, "starting Ray"),
        (signal.SIGTERM, "proving the models"),
    ],
)
def test_a_signal_during_the_start_is_heeded_at_once(shared, tmp_path, number, said):
    models, log = shared.half_space, tmp_path / "log"
    command = [str(Path(sys.executable).with_name("certserve")), "serve", str(models)]
    command += ["--http-port", "0", "--grpc-port", "0", "--metrics-port", "0"]
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, cwd=ROOT, stdout=stream, stderr=stream, env=os.environ | {"TMPDIR": str(tmp_path)}
        )
    try:
        assert faults.seconds_until(lambda: said in log.read_text() or server.poll() is not None, 90) < 90
        everybody = [psutil.Process(server.pid), *psutil.Process(server.pid).children(recursive=True)]
        server.send_signal(number)
        assert faults.seconds_until(lambda: not faults.left(everybody), 10) < 10
        assert server.wait(5) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        assert [each.name for each in tmp_path.iterdir() if each.name.startswith("cs-")] == []
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
