"""Ports and host, checked before anything starts. Each test takes ports of its own that were free a moment before."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import grpc
import pytest

from serving import ports
from serving.commands.cli import main
from serving.config import Settings
from serving.ports import PortError, Wanted
from tests.half_space import write_half_space
from tests.servers import free_ports

OPTIONS = ("--http-port", "--grpc-port", "--metrics-port")
IPV6 = socket.has_dualstack_ipv6()  # containers often have none
NAMES = dict(zip(OPTIONS, ("HTTP port", "gRPC port", "metrics port"), strict=True))


@contextlib.contextmanager
def held(address: str, port: int, *, shared: bool = False):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            taken.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        taken.bind((address, port))
        taken.listen()
        yield


def settings(numbers, host="127.0.0.1"):
    http, grpc_port, metrics = numbers
    return Settings(models=Path("m"), host=host, http_port=http, grpc_port=grpc_port, metrics_port=metrics)


@pytest.mark.parametrize("home", [["--local"], []], ids=["one process", "Ray"])
@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_taken_port_is_one_line_that_names_it_and_nothing_is_started(
    option, shared, home, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    write_half_space(tmp_path / "models")
    chosen = dict(zip(OPTIONS, free_ports(3), strict=True))
    with held("127.0.0.1", chosen[option], shared=shared):
        words = [str(part) for pair in chosen.items() for part in pair]
        assert main(["serve", str(tmp_path / "models"), *home, *words]) == 1
    said = capsys.readouterr().err
    assert said == (
        f"certserve: {NAMES[option]} {chosen[option]} of 127.0.0.1 cannot be had (it is taken); choose another: {option}\n"
    )
    assert not (tmp_path / "state").exists()


def test_the_shared_port_of_another_grpc_server_is_noticed():
    server = grpc.server(None, options=[("grpc.so_reuseport", 1)])
    port = server.add_insecure_port("127.0.0.1:0")
    try:
        with pytest.raises(PortError, match=f"gRPC port {port} of 127.0.0.1 .*--grpc-port"):
            ports.check_free("127.0.0.1", [Wanted("gRPC port", port, "--grpc-port")])
    finally:
        server.stop(None)


def test_zeros_become_true_ports_that_differ_from_each_other_and_from_those_named():
    (named,) = free_ports(1)
    for host in ("127.0.0.1", "0.0.0.0"):
        found = ports.settled(settings((0, named, 0), host))
        assert found.grpc_port == named
        assert len({found.http_port, found.grpc_port, found.metrics_port, 0}) == 4
    assert ports.settled(settings((named, 0, 0))).http_port == named


def test_a_wildcard_notices_a_port_that_is_taken_on_one_address_only():
    (port,) = free_ports(1)
    wanted = [Wanted("HTTP port", port, "--http-port")]
    for address in ("0.0.0.0", "::") if IPV6 else ("0.0.0.0",):
        for one in ("127.0.0.1", "::1") if IPV6 else ("127.0.0.1",):
            with held(one, port), pytest.raises(PortError, match=rf"port {port} of {address} cannot be had"):
                ports.check_free(address, wanted)
        assert ports.check_free(address, wanted) == [port]


def test_a_port_that_was_just_used_is_free():
    """Its connections stay with the system for a minute; a restart does not wait for them."""
    with ports.listening("127.0.0.1", Wanted("HTTP port", 0, "--http-port")) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listening.accept()
        accepted.close()
        client.close()
    assert ports.check_free("127.0.0.1", [Wanted("HTTP port", port, "--http-port")]) == [port]


def test_a_listening_socket_names_its_protocol():
    """asyncio sets TCP_NODELAY on what such a socket accepts, and on no other."""
    with ports.listening("127.0.0.1", Wanted("HTTP port", 0, "--http-port")) as listening:
        assert listening.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "0.0.0.0", *(["::1", "::"] if IPV6 else [])])
def test_an_address_is_listened_on_as_it_is(host):
    assert ports.settled(settings((0, 0, 0), host)).host == host


def test_a_name_is_resolved_once_so_that_all_ports_are_of_one_address():
    assert ports.settled(settings((0, 0, 0), "localhost")).host == "127.0.0.1"


NO_HOSTS = ["no-such-name.invalid", "[::1]", "http://127.0.0.1", "127.0.0.1:8000", "256.0.0.1", "a" * 70, "a b", ".."]


@pytest.mark.parametrize("host", [*NO_HOSTS, "\u00e9" * 70])
def test_a_host_that_does_not_resolve_is_one_line(host, capsys, tmp_path):
    assert main(["serve", str(tmp_path), "--host", host]) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "does not resolve" in said
    assert "--host" in said


def test_a_host_of_another_machine_is_refused():
    with pytest.raises(PortError, match=r"192\.0\.2\.1 is no address of this machine; choose another: --host"):
        ports.settled(settings((0, 0, 0), "192.0.2.1"))


def test_an_address_and_a_port_in_one_text():
    assert (ports.at("::1", 1), ports.at("127.0.0.1", 1)) == ("[::1]:1", "127.0.0.1:1")
    assert [ports.reachable(each) for each in ("0.0.0.0", "::", "10.0.0.1")] == ["127.0.0.1", "::1", "10.0.0.1"]


def test_a_kept_port_is_for_those_who_share_it_alone():
    """Whether one of them listens at the moment or not: another server never gets between."""
    with ports.kept("127.0.0.1", Wanted("HTTP port", 0, "--http-port")) as kept:
        wanted = Wanted("HTTP port", kept.getsockname()[1], "--http-port")
        for _ in range(2):
            for take in (ports.kept, ports.listening, lambda *place: ports.check_free(place[0], [place[1]])):
                with pytest.raises(
                    ports.PortError, match=f"HTTP port {wanted.port} of 127.0.0.1 cannot be had .*taken"
                ):
                    take("127.0.0.1", wanted)
            with (
                ports.listening("127.0.0.1", wanted, shared=True),
                ports.listening("127.0.0.1", wanted, shared=True),
                pytest.raises(ports.PortError),
            ):
                ports.kept("127.0.0.1", wanted)
    with ports.kept("127.0.0.1", wanted):
        pass
