"""Where the server listens, settled before anything starts: the host resolved, every port free, no port 0 left.

Both homes rely on it. A port is tried without SO_REUSEPORT, so that another server's gRPC port, which its gateways share
among themselves, counts as taken: sharing it, clients would meet either server, and either noise secret.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace

from serving.config import Settings

_WILDCARDS = {"0.0.0.0", "::"}
_TRIES = 50


class PortError(RuntimeError):
    """A host or port cannot be had; the message names it and the option that chooses another."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One port: what it is for, as the message says it ("gRPC port"), its number, and how another is chosen."""

    what: str
    port: int
    option: str


def settled(settings: Settings) -> Settings:
    """The same settings with the host as an address and each port of 0 as a free one. Raises `PortError`."""
    address = resolved(settings.host)
    http, grpc, metrics = check_free(address, [http_port(settings), grpc_port(settings), metrics_port(settings)])
    return replace(settings, host=address, http_port=http, grpc_port=grpc, metrics_port=metrics)


def http_port(settings: Settings) -> Wanted:
    """The port of HTTP."""
    return Wanted("HTTP port", settings.http_port, "--http-port")


def grpc_port(settings: Settings) -> Wanted:
    """The port of gRPC."""
    return Wanted("gRPC port", settings.grpc_port, "--grpc-port")


def metrics_port(settings: Settings) -> Wanted:
    """The port of the metrics."""
    return Wanted("metrics port", settings.metrics_port, "--metrics-port")


def check_free(address: str, wanted: Sequence[Wanted]) -> list[int]:
    """The numbers of the ports, which are all free on `address` at this moment, 0 replaced. Raises `PortError`."""
    with contextlib.ExitStack() as held:  # all at once, so that no two zeros become the same port
        # Those that are named come first: a free one must not be one that is named as well.
        order = sorted(range(len(wanted)), key=lambda place: wanted[place].port == 0)
        found = {place: _hold(address, wanted[place], held) for place in order}
    return [found[place] for place in range(len(wanted))]


def resolved(host: str) -> str:
    """The address of a host given by name or address, IPv4 first. Raises `PortError` for a name that does not resolve."""
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host)
        return host
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise PortError(
            f"host {host!r} does not resolve ({getattr(error, 'strerror', None) or error}); expected an address or a"
            " name of this machine: --host"
        ) from error
    addresses = [str(each[4][0]) for each in sorted(found, key=lambda each: each[0] != socket.AF_INET)]
    return addresses[0]


def at(address: str, port: int) -> str:
    """Address and port in one text: "127.0.0.1:8000", "[::1]:8000"."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def reachable(address: str) -> str:
    """Where a client on this machine finds a server that listens on `address`."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)


def refused(address: str, wanted: Wanted, error: OSError) -> PortError:
    """The error for a port that could not be bound."""
    if error.errno == errno.EADDRNOTAVAIL:
        return PortError(f"{address} is no address of this machine; choose another: --host")
    reason = "it is taken" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
    return PortError(
        f"{wanted.what} {wanted.port} of {address} cannot be had ({reason}); choose another: {wanted.option}"
    )


def listening(address: str, wanted: Wanted, *, shared: bool = False) -> socket.socket:
    """A socket that listens there, for every address of both families if `address` is "::". Raises `PortError`.

    With `shared`, other processes that say so too may listen at the same place, and each gets some of the connections; the
    place may be `kept` for them.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio sets TCP_NODELAY only where the protocol is named; without it each answer waits 40 ms for an acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address == "::":
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind((address, wanted.port))
        found.listen(2048)
    except OSError as error:
        found.close()
        raise refused(address, wanted, error) from error
    return found


def kept(address: str, wanted: Wanted) -> socket.socket:
    """A socket that does not listen, and keeps the port for those who share it, whether any is there or not: another server
    finds the port taken until it is closed. Raises `PortError`.
    """
    found = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address == "::":
            found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        found.bind((address, wanted.port))
        # Afterwards: bound alone, and from now on shared, so that two that keep one port cannot both have it.
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as error:
        found.close()
        raise refused(address, wanted, error) from error
    return found


def _hold(address: str, wanted: Wanted, held: contextlib.ExitStack) -> int:
    """Bind the port until `held` ends; returns its number. A free one is sought again if it is free in one family only."""
    for _ in range(_TRIES if wanted.port == 0 else 1):
        try:
            with contextlib.ExitStack() as these:
                port = wanted.port
                for place in _places(address):
                    port = _bind(place, port, these)
                held.push(these.pop_all())
                return port
        except OSError as error:
            last = error
    raise refused(address, wanted, last) from last


def _places(address: str) -> list[str]:
    """A wildcard stands for both families: `localhost` may lead to either, and has to lead to one server."""
    if address not in _WILDCARDS:
        return [address]
    return ["0.0.0.0", "::"] if address == "::" or _has_ipv6() else ["0.0.0.0"]


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as trial:
            trial.bind(("::", 0))
    except OSError:
        return False
    return True


def _bind(address: str, port: int, held: contextlib.ExitStack) -> int:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    trial = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
    # What a server that has just stopped leaves for a minute is no obstacle; one that listens is.
    trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if address == "::":
        trial.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    trial.bind((address, port))
    trial.listen(1)
    number: int = trial.getsockname()[1]
    return number
