"""Seconds per decision and bytes on the wire: ours beside a client that smooths over a peer server.

The client draws the noise, sends noisy copies (100 chose, 1,000 bound) in requests of 100 copies, four of them under
way, counts the votes and bounds them. Ray Serve gets int32 tensors as raw bytes, with the same ingress and mode as ours.
LitServe reads JSON or forms only, so it gets them in base64. Both run the same graph in ONNX Runtime, one process a core.

python -m benchmarks.client_side [ray_alone | litserve_alone]
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from statistics import median

import numpy as np
import psutil

from benchmarks.clients import Send, closed_loop, demo_pictures, over_http, png
from benchmarks.measure import in_turns, main
from benchmarks.networks import CLASSES, DEMO, bundle, repository
from benchmarks.row import Row
from certify.bounds.binomial import clopper_pearson_complement, quantile_of_complement_below
from tests.servers import ROOT, command_line, free_ports

CHOOSING, BOUNDING, ALPHA = 100, 1_000, 0.001
COPIES, UNDER_WAY = 100, 4
PICTURES, ROUNDS = 50, 3
PEERS = ("ray_alone", "litserve_alone")


def rows() -> list[Row]:
    found = []
    for peer in sys.argv[1:] or PEERS:
        if peer == "litserve_alone" and find_spec("litserve") is None:
            print("litserve is not installed; its rows are left out", flush=True)
            continue
        found += _against(peer)
    return found


def _against(peer: str) -> list[Row]:
    model, images = bundle(DEMO), demo_pictures(PICTURES)
    with command_line(repository(), local=True) as address, _peer(peer) as url:
        query = {"certify": "target", "target_radius": model.law.sigma}
        ask = over_http(address.http, f"/v1/models/{DEMO}:predict", **query)
        smooth = _smoothing(peer, url, model.manifest.law.sigma_steps)
        sent = len(png(images[0])) + len(ask(png(images[0])))
        wire = smooth(images[0])
        sides = {"ours": lambda: _each(lambda x: ask(png(x)), images), "peer": lambda: _each(smooth, images[:20])}
        values = in_turns(ROUNDS, sides)
    ours, theirs = median(values["ours"]), median(values["peer"])
    n = f"n={BOUNDING:,}"
    return [
        Row(
            f"decision R = sigma, {PICTURES} pictures, beside client-side smoothing over {peer}",
            f"{1e3 * ours:.1f} ms each",
            f"{n}: {1e3 * theirs:.0f} ms",
            theirs / ours,
            10,
            30,
        ),
        Row(f"bytes of bodies, beside {peer}", f"{sent:,}", f"{n}: {wire:,}", wire / sent, 500, 500),
    ]


def _each(run: Callable[[np.ndarray], object], images: np.ndarray) -> float:
    began = time.perf_counter()
    for picture in images:
        run(picture)
    return (time.perf_counter() - began) / len(images)


def _smoothing(peer: str, url: str, sigma: float) -> Callable[[np.ndarray], int]:
    """A function that certifies one picture over the peer, and says how many bytes the bodies were."""
    senders = [_votes(peer, url) for _ in range(UNDER_WAY)]
    generator = np.random.default_rng(0)

    def certify(picture: np.ndarray) -> int:
        def copies() -> Iterator[np.ndarray]:
            for _ in range(0, CHOOSING + BOUNDING, COPIES):
                noise = generator.standard_normal((COPIES, *picture.shape), dtype=np.float32)
                yield np.rint(picture + np.float32(sigma) * noise).astype(np.int32)

        answers: list[tuple[np.ndarray, int]] = []
        closed_loop([lambda batch, send=send: answers.append(send(batch)) for send in senders], copies())
        counts = [np.bincount(votes, minlength=CLASSES) for votes, _ in answers]
        chosen = counts[0].argmax()
        hits = int(sum(counts[1:])[chosen])
        quantile_of_complement_below(clopper_pearson_complement(BOUNDING, hits, ALPHA))
        return sum(size for _, size in answers)

    return certify


def _votes(peer: str, url: str) -> Send:
    if peer == "ray_alone":
        raw = over_http(url, "/", "application/octet-stream")

        def send(batch: np.ndarray) -> tuple[np.ndarray, int]:
            body = batch.tobytes()
            answer = raw(body)
            return np.frombuffer(answer, "<i8"), len(body) + len(answer)

        return send
    as_json = over_http(url, "/predict", "application/json")

    def send_json(batch: np.ndarray) -> tuple[np.ndarray, int]:
        body = json.dumps({"lattice": base64.b64encode(batch.tobytes()).decode()}).encode()
        answer = as_json(body)
        return np.array(json.loads(answer)["votes"]), len(body) + len(answer)

    return send_json


@contextmanager
def _peer(peer: str) -> Iterator[str]:
    """The peer in a process of its own, stopped by process id."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", f"benchmarks.peers.{peer}", str(repository() / DEMO / "1"), str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if line.strip() == "ready":
                    break
            else:
                raise RuntimeError(f"{peer} did not start")
            _wait(peer, f"http://127.0.0.1:{port}")
            yield f"http://127.0.0.1:{port}"
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[str]) -> None:
    """A peer stops when its input ends; what it leaves behind is ended by process id."""
    family = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.stdin.close()
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
    for left in psutil.wait_procs(family, timeout=2)[1]:
        left.kill()


def _wait(peer: str, url: str) -> None:
    for _ in range(300):
        try:
            _votes(peer, url)(np.zeros((1, 1, 28, 28), np.int32))
            return
        except (OSError, RuntimeError):
            time.sleep(0.2)
    raise RuntimeError(f"{peer} does not answer at {url}")


if __name__ == "__main__":
    main("client_side", rows)
