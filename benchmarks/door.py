"""What the door costs, and holds: wrong keys, requests by keys and TLS, handshakes that never end, quotas and shares.

One server for each setting, of a small model, from the command line and in one process; clients keep their connections. The
bounds of the first figure are those within which the time of a wrong key tells nothing; a share is of two callers alike.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np

from benchmarks.measure import in_turns, main, percentile, ratio
from benchmarks.row import Row
from serving.errors import CertserveError
from serving.security import keys
from tests.certificates import Authority
from tests.half_space import write_half_space
from tests.servers import Address, command_line
from tests.serving.security.credentials import key

ROUNDS, SECONDS, CLIENTS, HALF = 10, 1.0, 8, 1_000
QUOTA = 20_000
ROUTE = "/v1/models/half-space:predict"
PLAIN, DRAWS = {"certify": "off"}, {"certify": "best", "max_draws": 4_096, "deadline_ms": 10_000}
AUTHORITY = Authority()


@dataclass
class Place:
    """A server, the callers that it knows, and what its clients have to bring."""

    address: Address
    known: dict[str, str] = field(default_factory=dict)

    def client(self, caller: str = "") -> httpx.Client:
        trusted = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
        fields = {"Authorization": f"Bearer {self.known[caller]}"} if caller else {}
        return httpx.Client(base_url=self.address.http, verify=trusted, headers=fields, timeout=30)


@contextmanager
def place(folder: Path, *, keyed: bool = False, secured: bool = False) -> Iterator[Place]:
    """A server of its own."""
    made = {"one": key("one"), "two": key("two"), "heavy": key("heavy", weight=3)}
    made["metered"] = key("metered", draws_per_second=QUOTA)
    (folder / "keys").write_bytes(keys.written([record for _, record in made.values()]))
    certificate, private = AUTHORITY.pair().write(folder)
    arguments = ["--keys-file", str(folder / "keys")] if keyed else []
    arguments += ["--tls-cert-file", str(certificate), "--tls-key-file", str(private)] if secured else []
    with command_line(folder / "models", "--threads", "1", *arguments, local=True) as address:
        yield Place(address, {name: text for name, (text, _) in made.items()})


def rows() -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_half_space(folder / "models")
        return [_wrong_keys(folder), *_costs(folder), _handshakes(folder), *_callers(folder)]


def _wrong_keys(folder: Path) -> Row:
    """A key that is wrong in its last character, and one that is in all."""
    text, record = key()
    (folder / "keys").write_bytes(keys.written([record, *(key()[1] for _ in range(999))]))
    known = keys.Keys(folder / "keys")
    wrong = {"near": text[:-1] + ("A" if text[-1] != "A" else "B"), "far": keys.new()}
    values = in_turns(200, {name: lambda each=each: _refused(known, each) for name, each in wrong.items()})
    near, far = (float(np.median(values[each])) for each in ("near", "far"))
    figure = "time to refuse a key that is right but for its last character"
    return Row(
        figure, f"{near * 1e6:.2f} us", f"wrong in all: {far * 1e6:.2f} us", ratio(values["near"], values["far"])
    )


def _refused(known: keys.Keys, text: str) -> float:
    began = time.perf_counter()
    for _ in range(200):
        with contextlib.suppress(CertserveError):
            known.caller(text)
    return (time.perf_counter() - began) / 200


def _costs(folder: Path) -> list[Row]:
    """Plain predictions of one client on one connection, in turns."""
    settings = {
        "plain": {},
        "keys": {"keyed": True},
        "TLS": {"secured": True},
        "keys and TLS": {"keyed": True, "secured": True},
    }
    with contextlib.ExitStack() as held:
        asked: dict[str, Callable[[], float]] = {}
        for number, (name, given) in enumerate(settings.items()):
            own = folder / str(number)
            own.mkdir()
            write_half_space(own / "models")
            there = held.enter_context(place(own, **given))
            client = held.enter_context(there.client("one" if "keyed" in given else ""))
            asked[name] = lambda client=client: _a_second(client)
        values = in_turns(ROUNDS, asked)
    beside = float(np.median(values["plain"]))
    return [
        Row(
            f"plain predictions a second with {name}",
            f"{np.median(values[name]):,.0f}",
            f"without {beside:,.0f}",
            ratio(values[name], values["plain"]),
        )
        for name in list(settings)[1:]
    ]


def _a_second(client: httpx.Client) -> float:
    answered, until = 0, time.perf_counter() + SECONDS
    while time.perf_counter() < until:
        client.post(ROUTE, params=PLAIN, json={"instances": [[150, 1, 2, 3]]}).raise_for_status()
        answered += 1
    return answered / SECONDS


def _handshakes(folder: Path) -> Row:
    """Eight clients that connect anew for each request, beside connections that stop in the midst of a handshake."""
    with place(folder, secured=True) as there:
        alone = _anew(there)
        stop = threading.Event()
        stranger = threading.Thread(target=_half_shake, args=(there, stop))
        stranger.start()
        try:
            beside = _anew(there)
        finally:
            stop.set()
            stranger.join()
    slow, fast = (percentile(times, 0.99) for times in (beside, alone))
    figure = f"slowest hundredth of {len(beside)} requests by TLS beside {HALF} half handshakes, none failed"
    return Row(figure, f"{1e3 * slow:.0f} ms", f"alone {1e3 * fast:.0f} ms", slow / fast, less_is_better=True)


def _anew(there: Place) -> list[float]:
    def one(_: int) -> list[float]:
        found, until = [], time.perf_counter() + 5 * SECONDS
        while time.perf_counter() < until:
            began = time.perf_counter()
            with there.client() as client:
                client.get("/v2/health/live").raise_for_status()
            found.append(time.perf_counter() - began)
        return found

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return [each for some in pool.map(one, range(CLIENTS)) for each in some]


def _half_shake(there: Place, stop: threading.Event) -> None:
    host, port = there.address.http.removeprefix("https://").split(":")
    hello, opened = bytes.fromhex("16030100c8010000c40303") + bytes(40), []
    while not stop.is_set():
        if len(opened) >= HALF:
            opened.pop(0).close()
        with contextlib.suppress(OSError):
            opened.append(socket.create_connection((host, int(port)), timeout=5))
            opened[-1].sendall(hello)
        time.sleep(5 * SECONDS / HALF / 2)  # all of them within the time of the clients, and again
    for each in opened:
        each.close()


def _callers(folder: Path) -> list[Row]:
    """Draws of two callers at once, of which one asks sixteen times as often; and of one at its quota beside another."""
    with place(folder, keyed=True) as there:
        modest, greedy = _at_once(there, {"one": 2, "two": 32})
        light, heavy = _at_once(there, {"one": 32, "heavy": 32})
        _at_once(there, {"metered": 4})  # what it had saved up
        metered, free = _at_once(there, {"metered": 4, "one": 4})
    return [
        Row(
            "draws of a caller with 2 requests at once",
            f"{modest:,.0f} a second",
            f"32 at once: {greedy:,.0f}",
            modest / greedy,
        ),
        Row("draws of a caller of weight 3", f"{heavy:,.0f} a second", f"weight 1: {light:,.0f}", heavy / light),
        Row(
            f"draws of a caller with a quota of {QUOTA:,} a second",
            f"{metered:,.0f}",
            f"without: {free:,.0f}",
            metered / QUOTA,
        ),
    ]


def _at_once(there: Place, callers: dict[str, int]) -> Sequence[float]:
    """Draws a second of each caller, with so many clients."""
    until = time.perf_counter() + 5 * SECONDS

    def one(name: str) -> int:
        drawn = 0
        with there.client(name) as client:
            while time.perf_counter() < until:
                row = [int(each) for each in np.random.default_rng(time.perf_counter_ns()).integers(0, 256, 4)]
                answer = client.post(ROUTE, params=DRAWS, json={"instances": [row]})
                if answer.status_code == 200:
                    drawn += sum(each["draws"] for each in answer.json()["predictions"])
                else:
                    time.sleep(0.1)
        return drawn

    with concurrent.futures.ThreadPoolExecutor(sum(callers.values())) as pool:
        found = {name: [pool.submit(one, name) for _ in range(number)] for name, number in callers.items()}
        return [sum(each.result() for each in some) / (5 * SECONDS) for some in found.values()]


if __name__ == "__main__":
    main("door", rows)
