"""TLS on both wires: modern, reloaded, and not to be held up by whoever never ends a handshake."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl

import grpc
import httpx
import pytest
import uvloop

from serving.config import Settings
from serving.deployments.both_wires import Wires
from serving.security.tls import Tls
from serving.security.watched import SecurityError
from serving.wires import handshake
from tests.certificates import Authority
from tests.contract.test_callers import Asked
from tests.servers import free_ports

READY = "/grpc.health.v1.Health/Check"
AUTHORITY, STRANGER = Authority(), Authority("another authority")


@pytest.fixture(params=["asyncio", "uvloop"])
def event_loop_policy(request):
    """Both loops that serve: each has a TLS of its own."""
    return uvloop.EventLoopPolicy() if request.param == "uvloop" else asyncio.DefaultEventLoopPolicy()


class Served:
    """Both wires with TLS, and how to ask them."""

    def __init__(self, folder, settings):
        self.folder, self.settings = folder, settings
        self.http, self.grpc = f"https://127.0.0.1:{settings.http_port}", f"127.0.0.1:{settings.grpc_port}"

    def context(self, ca=None, **pair):
        context = ssl.create_default_context(cadata=(ca or AUTHORITY.certificate).decode())
        if pair:
            context.load_cert_chain(**pair)
        return context

    async def over_http(self, context=None):
        async with httpx.AsyncClient(verify=context or self.context()) as client:
            return (await client.get(f"{self.http}/v2/health/live")).status_code

    async def over_grpc(self, timeout=2, **credentials):
        credentials.setdefault("root_certificates", AUTHORITY.certificate)
        async with grpc.aio.secure_channel(self.grpc, grpc.ssl_channel_credentials(**credentials)) as channel:
            return await channel.unary_unary(READY)(b"", timeout=timeout)

    async def serial(self, port):
        """Of the certificate that a new connection gets."""
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=self.context(), server_hostname="localhost")
        found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.transport.abort()
        return found


@pytest.fixture
async def served(tmp_path, request):
    certificate, key = AUTHORITY.pair().write(tmp_path)
    more = {}
    if getattr(request, "param", None) == "mtls":
        more["tls_client_ca_file"] = tmp_path / "ca"
        more["tls_client_ca_file"].write_bytes(AUTHORITY.certificate)
    http, rpc = free_ports(2)
    settings = Settings(
        models=tmp_path, http_port=http, grpc_port=rpc, tls_cert_file=certificate, tls_key_file=key, **more
    )
    wires = Wires(Asked(), settings, shared=False)
    await wires.open()
    yield Served(tmp_path, settings)
    await wires.close()


async def test_clients_that_believe_the_authority_are_served_and_others_believe_nothing(served):
    assert await served.over_http() == 200
    assert await served.over_grpc()
    with pytest.raises(httpx.ConnectError, match="certificate verify failed"):
        await served.over_http(served.context(STRANGER.certificate))
    with pytest.raises(grpc.aio.AioRpcError):
        await served.over_grpc(root_certificates=STRANGER.certificate)


async def test_whoever_speaks_in_the_clear_is_not_served(served):
    with pytest.raises(httpx.TransportError):
        async with httpx.AsyncClient() as client:
            await client.get(served.http.replace("https", "http") + "/v2/health/live")
    async with grpc.aio.insecure_channel(served.grpc) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary(READY)(b"", timeout=1)
    assert await served.over_http() == 200


@pytest.mark.parametrize("served", ["mtls"], indirect=True)
async def test_with_an_authority_for_clients_only_those_that_it_certified_are_let_in(served):
    for authority in (AUTHORITY, STRANGER):
        pair = authority.pair("client")
        certificate, key = pair.write(served.folder, "client")
        context = served.context(certfile=certificate, keyfile=key)
        chain = {"private_key": pair.key, "certificate_chain": pair.certificate}
        if authority is AUTHORITY:
            assert await served.over_http(context) == 200
            assert await served.over_grpc(**chain)
        else:
            with pytest.raises(httpx.TransportError):
                await served.over_http(context)
            with pytest.raises(grpc.aio.AioRpcError):
                await served.over_grpc(**chain)
    with pytest.raises(httpx.TransportError):
        await served.over_http()
    with pytest.raises(grpc.aio.AioRpcError):
        await served.over_grpc()


@pytest.mark.parametrize("wire", ["http", "grpc"])
async def test_old_versions_and_weak_ciphers_are_refused(served, wire):
    port = served.settings.http_port if wire == "http" else served.settings.grpc_port
    for minimum, most, ciphers, agreed in (
        (ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0", None),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0", None),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "DEFAULT", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, "DEFAULT", "TLSv1.3"),
    ):
        context = served.context()
        context.set_ciphers(ciphers)
        context.minimum_version, context.maximum_version = minimum, most
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            found = writer.get_extra_info("ssl_object").version()
            writer.transport.abort()
        except (OSError, ssl.SSLError):
            found = None
        assert found == agreed


def replaced(folder, pair):
    """As a tool does that writes one file after the other, each at once."""
    for path in pair.write(folder, "next"):
        os.replace(path, folder / f"tls{path.suffix}")


async def test_certificates_change_under_load_and_no_request_fails(served):
    """Clients with one connection each, and clients that connect anew each time, on both wires."""
    ports = (served.settings.http_port, served.settings.grpc_port)
    before, stop, asked = [await served.serial(port) for port in ports], asyncio.Event(), [0] * 4
    context = served.context()

    async def keeps_http():
        async with httpx.AsyncClient(verify=context) as client:
            while not stop.is_set():
                assert (await client.get(f"{served.http}/v2/health/live")).status_code == 200
                asked[0] += 1

    async def connects_http():
        while not stop.is_set():
            assert await served.over_http(context) == 200
            asked[1] += 1

    async def keeps_grpc():
        credentials = grpc.ssl_channel_credentials(AUTHORITY.certificate)
        async with grpc.aio.secure_channel(served.grpc, credentials) as channel:
            while not stop.is_set():
                assert await channel.unary_unary(READY)(b"", timeout=10)
                asked[2] += 1

    async def connects_grpc():
        while not stop.is_set():
            assert await served.over_grpc(10)
            asked[3] += 1

    async def changes():
        try:
            for _ in range(3):
                replaced(served.folder, AUTHORITY.pair())
                async with asyncio.timeout(5):
                    while before == (now := [await served.serial(port) for port in ports]) or now[0] != now[1]:
                        await asyncio.sleep(0.02)
                before[:] = now
        finally:
            stop.set()

    await asyncio.gather(changes(), keeps_http(), connects_http(), keeps_grpc(), connects_grpc())
    assert min(asked) > 0


async def test_a_pair_that_cannot_be_used_leaves_the_one_before(served, caplog):
    before = await served.serial(served.settings.http_port)
    (served.folder / "tls.key").write_bytes(AUTHORITY.pair().key)
    async with asyncio.timeout(5):
        while "cannot be had" not in caplog.text:
            await asyncio.sleep(0.05)
    assert await served.serial(served.settings.http_port) == before
    assert "PRIVATE" not in caplog.text


async def test_handshakes_that_never_end_keep_nobody_out_and_hold_few_descriptors(served, monkeypatch):
    """1,000 of them, silent or stopped in the midst of a greeting, beside 8 clients that connect anew for each request."""
    hello = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        served.context().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    half, slow = hello.read()[:100], []
    ports = (served.settings.http_port, served.settings.grpc_port)

    async def strangers():
        for place in range(1_000):
            connection = socket.socket()
            connection.setblocking(False)
            slow.append(connection)
            await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", ports[place % 2]))
            with contextlib.suppress(OSError):
                connection.send(half[: place % 100])

    async def good(place):
        answers = []
        while len(answers) < 5 or not trouble.done():
            answers.append(await (served.over_http() if place % 2 else served.over_grpc(10)))
            await asyncio.sleep(0.1)
        return answers

    trouble = asyncio.create_task(strangers())
    try:
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(good(place) for place in range(8)))
        await trouble
        assert all(answer == 200 or isinstance(answer, bytes) for each in answers for answer in each)
        left = [each for each in slow if not ended(each)]
        assert len(left) <= handshake._affordable()
    finally:
        for each in slow:
            each.close()


def ended(connection):
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


async def test_a_handshake_has_its_time(served, monkeypatch):
    monkeypatch.setattr(handshake, "_SECONDS", 0.2)
    shakes = handshake.Handshakes(0.2)
    made = []
    context = Tls(served.settings.tls_cert_file, served.settings.tls_key_file)
    server = await asyncio.get_running_loop().create_server(
        lambda: shakes.before(lambda: made.append(1) or asyncio.Protocol(), lambda: context.http), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert not made
    writer.close()
    server.close()


@pytest.mark.parametrize("broken", ["certificate", "key", "other key", "encrypted", "folder", "away"])
def test_files_that_are_no_pair_are_refused_at_the_start(tmp_path, broken):
    certificate, key = AUTHORITY.pair().write(tmp_path)
    if broken in ("certificate", "key"):
        (certificate if broken == "certificate" else key).write_bytes(b"-----BEGIN NOTHING-----")
    elif broken == "other key":
        key.write_bytes(AUTHORITY.pair().key)
    elif broken == "encrypted":
        from cryptography.hazmat.primitives import serialization

        found = serialization.load_pem_private_key(key.read_bytes(), None)
        key.write_bytes(
            found.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
    else:
        key.unlink()
        if broken == "folder":
            key.mkdir()
    with pytest.raises(SecurityError, match=r"tls\.key"):
        Tls(certificate, key)
