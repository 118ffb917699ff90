"""What a killed process, SIGTERM or a full disk costs eight clients of the server on Ray, and what stays behind.

python -m benchmarks.faults [engine | gateway | controller | GCS | raylet | driver | root | SIGTERM | full disk] ...

A request is lost where it was sent and came to nothing: its connection broke, or its answer was an error without a hint. Who
finds no server, or is told to come back, has lost nothing but time. A full disk needs the right to mount one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.e2e import faults
from tests.half_space import write_half_space
from tests.servers import Address, free_ports

ROW = [150, 1, 2, 3]
BACK = ("engine", "gateway", "controller", "full disk")
"""From these the server recovers; the others end it."""
ENDS = ("GCS", "raylet", "driver", "root", "SIGTERM")
DISK_BYTES = 64 * 2**20
BEFORE_S, AFTER_S, MOST_S = 2.0, 8.0, 60.0


def main() -> None:
    print("| fault | answered | lost | longest gap | after it | exit code | left behind |\n|-|-|-|-|-|-|-|")
    for fault in sys.argv[1:] or (*BACK, *ENDS):
        with (
            tempfile.TemporaryDirectory() as place,
            server(Path(place), full=fault == "full disk") as (address, process),
        ):
            print(row(fault, address, process), flush=True)


@contextmanager
def server(place: Path, full: bool) -> Iterator[tuple[Address, subprocess.Popen[bytes]]]:
    """Two engines and two gateways, in a temporary folder of their own: a small disk where it is to be filled."""
    write_half_space(place / "models")
    (place / "secret").write_bytes(b"s" * 32)
    (place / "tmp").mkdir()
    ports = [str(port) for port in free_ports(3)]
    command = [str(Path(sys.executable).with_name("certserve")), "serve", str(place / "models")]
    command += ["--http-port", ports[0], "--grpc-port", ports[1], "--metrics-port", ports[2], "--gateways", "2"]
    command += ["--engines", "2", "--threads", "1", "--noise-secret-file", str(place / "secret")]
    if full:
        mount = f'mount -t tmpfs -o size={DISK_BYTES} none {place / "tmp"} && exec "$0" "$@"'
        command = ["unshare", "--mount", *(["--map-root-user"] if os.getuid() else []), "sh", "-c", mount, *command]
    log = place / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            command, stdout=stream, stderr=stream, env=os.environ | {"TMPDIR": str(place / "tmp")}
        )
    http, grpc, metrics = (f"127.0.0.1:{port}" for port in ports)
    try:
        if (
            faults.seconds_until(lambda: "certserve: ready:" in log.read_text() or process.poll() is not None, 120)
            > 119
        ):
            raise RuntimeError(log.read_text())
        yield Address(f"http://{http}", grpc, f"http://{metrics}/metrics", process.pid, log), process
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(MOST_S)
        process.kill()


def row(fault: str, address: Address, process: subprocess.Popen[bytes]) -> str:
    everybody = faults.family(address)
    with faults.clients(address, ROW) as exchanges:
        time.sleep(BEFORE_S)
        began = time.monotonic()
        strike(fault, address)
        ended = faults.seconds_until(lambda: process.poll() is not None, AFTER_S if fault in BACK else MOST_S)
        after = ended
        if fault not in BACK:
            after = faults.seconds_until(lambda: faults.free(address) and not faults.left(everybody), MOST_S)
            after = time.monotonic() - began
    answered = sum(each.outcome == "answered" for each in exchanges)
    lost = [each.outcome for each in exchanges if each.lost]
    gap = "-" if fault not in BACK else f"{faults.longest_gap(exchanges, began):.1f} s"
    stays = ", ".join(faults.left(everybody)) if fault not in BACK else ""
    kinds = "".join(f"; {kind}" for kind in sorted({each.split(": ", 1)[1] for each in lost}))
    goes_on = "goes on" if process.poll() is None else f"ended, ports free after {after:.1f} s"
    return (
        f"| {fault} | {answered} | {len(lost)}{kinds} | {gap} | {goes_on} | {process.poll()} | {stays or 'nothing'} |"
    )


def strike(fault: str, address: Address) -> None:
    if fault == "SIGTERM":
        os.kill(address.process, signal.SIGTERM)
    elif fault == "full disk":
        fill(address)
    else:
        faults.of_role(address, fault)[0].kill()


def fill(address: Address) -> None:
    """Leave no byte of the server's temporary folder, which it alone has mounted."""
    environment = psutil.Process(address.process).environ()
    place = Path(f"/proc/{address.process}/root{environment['TMPDIR']}")
    with (place / "everything").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(2**12))


if __name__ == "__main__":
    main()
