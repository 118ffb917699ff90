"""A server with TLS and keys, on Ray Serve and in one process: who is let in, and that nothing tells a key.

On Ray there are two gateways, and clients need a certificate; in one process they need none.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
import psutil
import pytest

from protos.certserve.v1 import certserve_pb2 as pb
from serving.commands.cli import main
from serving.security import keys
from serving.wires.http.server import build_app
from tests.certificates import Authority, Pair
from tests.contract.door import QUOTA, Bearers, bearers, bearing, differences
from tests.e2e import faults
from tests.half_space import write_half_space
from tests.servers import Address, Ending, command_line, post_rows
from tests.serving.security.credentials import key
from tests.serving.wires.fake_gateway import FakeGateway

pytestmark = pytest.mark.e2e
AUTHORITY = Authority()
CLIENT = AUTHORITY.pair("client")
PREDICT = "/v1/models/half-space:predict"
# In engines of one thread a share of the largest certificate is larger than that.
SMALL = {"RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH": "20000"}
ROWS = [[150, 1, 2, 3], [120, 4, 5, 6]]
LARGEST = {"certify": "fixed", "draws": 100_000, "deadline_ms": 60_000}


@dataclass
class Home:
    address: Address
    folder: Path
    who: Bearers
    watched: dict[str, str]
    """What another bears who may draw no more than `QUOTA` in a day."""
    ending: Ending

    @property
    def context(self) -> ssl.SSLContext:
        return trusting(self.folder, CLIENT)

    @asynccontextmanager
    async def clients(self, shown: Pair | None = CLIENT):
        """Of HTTP and gRPC, with this certificate to show, if any."""
        pair = (shown.key, shown.certificate) if shown else ()
        credentials = grpc.ssl_channel_credentials(AUTHORITY.certificate, *pair)
        context = trusting(self.folder, shown)
        async with (
            httpx.AsyncClient(base_url=self.address.http, verify=context, timeout=30) as http,
            grpc.aio.secure_channel(self.address.grpc, credentials) as channel,
        ):
            yield http, channel

    async def ask(self, **options):
        settings = {"verify": self.context, "headers": self.who.by_scope["infer"]}
        options = {"deadline_ms": 60_000, **options}
        return await post_rows(self.address, "half-space", ROWS, client_settings=settings, **options)


def trusting(folder: Path, shown: Pair | None) -> ssl.SSLContext:
    """Believes the authority of the tests, and shows a certificate, if any."""
    context = ssl.create_default_context(cadata=AUTHORITY.certificate.decode())
    if shown:
        context.load_cert_chain(*shown.write(folder, "shown"))
    return context


@pytest.fixture(scope="module", params=["ray", "local"])
def home(request, tmp_path_factory):
    folder, who = tmp_path_factory.mktemp("door"), bearers()
    text, watched = key("watched", ["infer"], draws_per_day=QUOTA)
    write_half_space(folder / "models")
    (folder / "keys").write_bytes(keys.written([*who.records, watched]))
    (folder / "authority").write_bytes(AUTHORITY.certificate)
    certificate, private = AUTHORITY.pair().write(folder)
    settings = ["--keys-file", folder / "keys", "--tls-cert-file", certificate, "--tls-key-file", private]
    if request.param == "ray":
        settings += ["--engines", "2", "--gateways", "2", "--tls-client-ca-file", folder / "authority"]
    arguments, local = [*map(str, settings), "--threads", "1"], request.param == "local"
    context = trusting(folder, CLIENT)
    about = {"environment": SMALL, "context": context, "ending": (ending := Ending())}
    with command_line(folder / "models", *arguments, local=local, **about) as address:
        yield Home(address, folder, who, bearing(text), ending)


async def test_every_route_and_method_lets_in_whom_it_should_over_tls(home):
    table = build_app(FakeGateway())
    async with home.clients() as (http, channel):
        cells, wrong = await differences(table, http, channel, home.who)
    assert (cells > 500, wrong) == (True, [])


async def test_whoever_has_a_key_gets_an_answer_on_both_wires(home):
    assert [row["certificate"]["status"] for row in await home.ask(certify="target")]
    message = pb.PredictRequest(model="half-space", grid=pb.GridTensor(shape=[1, 4], data=ROWS[0]))
    async with home.clients() as (_, channel):
        call = channel.unary_unary("/certserve.v1.CertificationService/Predict")
        answer = await call(message.SerializeToString(), metadata=list(home.who.by_scope["infer"].items()), timeout=30)
    assert pb.PredictResponse.FromString(answer).predictions


async def test_metrics_are_told_over_tls_alone_and_name_callers_but_no_key(home):
    await home.ask()
    async with home.clients() as (http, _):
        await http.get("/v2", headers=home.who.unknown["wrong"])
        said = (await http.get(home.address.metrics)).text
    assert 'certserve_caller_requests_total{caller="infer",code="OK"}' in said
    assert 'certserve_caller_draws_total{caller="infer"}' in said
    assert 'certserve_refused_callers_total{code="UNAUTHENTICATED"}' in said
    assert "cs-" not in said
    with pytest.raises(httpx.TransportError):
        httpx.get(home.address.metrics.replace("https", "http"), timeout=10)


async def test_a_certificate_that_is_replaced_is_shown_and_a_key_that_is_revoked_is_refused_without_a_restart(home):
    async def serial(port):
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=home.context, server_hostname="localhost")
        found = writer.get_extra_info("ssl_object").getpeercert()["serialNumber"]
        writer.transport.abort()
        return found

    places = [home.address.http, home.address.grpc, home.address.metrics.removesuffix("/metrics")]
    ports = [int(place.rpartition(":")[2]) for place in places]
    before = [await serial(port) for port in ports]
    for path in AUTHORITY.pair().write(home.folder, "next"):
        os.replace(path, home.folder / f"tls{path.suffix}")
    async with asyncio.timeout(20):
        while any(now == then for now, then in zip([await serial(port) for port in ports], before, strict=True)):
            await asyncio.sleep(0.05)
    async with home.clients() as (http, _):
        fields = home.who.by_scope["read"]
        assert (await http.get("/v2", headers=fields)).status_code == 200
        assert main(["keys", "revoke", str(home.folder / "keys"), "read"]) == 0
        began = asyncio.get_running_loop().time()
        async with asyncio.timeout(20):
            while (await http.get("/v2", headers=fields)).status_code != 401:
                await asyncio.sleep(0.02)
        print(f"\nrefused {asyncio.get_running_loop().time() - began:.2f} s after the key was revoked")


async def test_whoever_has_drawn_its_quota_is_refused_on_both_wires_and_others_are_not(home):
    """The caller sees what is left, and when to come back."""
    body, fields = {"instances": ROWS}, home.who.metered
    message = pb.PredictRequest(model="half-space", grid=pb.GridTensor(shape=[1, 4], data=ROWS[0])).SerializeToString()
    async with home.clients() as (http, channel):
        answer = await http.post(PREDICT, json=body, headers=fields)
        assert answer.status_code == 200
        drawn = sum(row["draws"] + 1 for row in answer.json()["predictions"])
        assert answer.headers["ratelimit"].startswith(f'"day";r={QUOTA - drawn};t=')
        while answer.status_code == 200:
            answer = await http.post(PREDICT, json=body, headers=fields)
        assert (answer.status_code, answer.headers["ratelimit"].startswith('"day";r=0;')) == (429, True)
        assert 0 < int(answer.headers["retry-after"]) <= 86_400
        call = channel.unary_unary("/certserve.v1.CertificationService/Predict")

        async def ask_until_refused():  # by another gateway, if it is one, once that has heard of it
            while True:
                await call(message, metadata=list(fields.items()), timeout=30)

        with pytest.raises(grpc.aio.AioRpcError) as error:
            await asyncio.wait_for(ask_until_refused(), 60)
    assert error.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.value.trailing_metadata())["ratelimit"].startswith('"day";r=0;')
    assert await home.ask()


@pytest.mark.parametrize("home", ["ray"], indirect=True)
@pytest.mark.parametrize("shown", [None, Authority("another").pair("client")], ids=["none", "another authority's"])
async def test_whoever_shows_no_certificate_of_the_authority_is_refused_on_every_port(home, shown):
    """Though it bears a key. Each request is a connection of its own, so that it meets either gateway."""
    fields = home.who.by_scope["infer"]
    for _ in range(8):
        async with home.clients(shown) as (http, channel):
            for place in ("/v2/health/live", PREDICT, home.address.metrics):
                with pytest.raises((httpx.TransportError, ssl.SSLError)):
                    await http.get(place, headers=fields)
            with pytest.raises(grpc.aio.AioRpcError) as error:
                await channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=30)
        assert error.value.code() is grpc.StatusCode.UNAVAILABLE
    async with home.clients() as (http, channel):
        for place in ("/v2/health/live", home.address.metrics):
            assert (await http.get(place)).status_code == 200
        await channel.unary_unary("/inference.GRPCInferenceService/ServerLive")(b"", timeout=30)


@asynccontextmanager
async def each_gateway(home):
    """A client of one connection to each of the two gateways, found by connecting until both have been met."""
    clients = {}
    async with AsyncExitStack() as opened:
        async with asyncio.timeout(30):
            while len(clients) < 2:
                http, _ = await opened.enter_async_context(home.clients())
                answer = await http.get("/v2/health/live")
                clients[holder(answer.extensions["network_stream"].get_extra_info("client_addr"))] = http
        yield list(clients.values())


def holder(client: tuple[str, int]) -> int:
    """The process that holds the other end of a client's connection."""
    return next(each.pid for each in psutil.net_connections("tcp") if each.raddr == client)


def rest(answer: httpx.Response) -> int:
    """What a caller may still draw in this day, as the gateway that answered knows it."""
    return int(re.match(r'"day";r=(\d+);', answer.headers["ratelimit"])[1])


@pytest.mark.parametrize("home", ["ray"], indirect=True)
async def test_two_gateways_refuse_a_caller_who_has_drawn_its_quota_at_both_and_serve_others(home):
    """What is drawn at one counts at the other, to the draw. The one that does not know yet is asked for little."""
    drawn = 0

    async def ask(http, certify, fields=home.watched) -> httpx.Response:
        nonlocal drawn
        body = {"instances": ROWS}
        answer = await http.post(PREDICT, params={"certify": certify}, json=body, headers=fields)
        assert answer.status_code in (200, 429), answer.text
        if answer.status_code == 200 and fields is home.watched:
            drawn += sum(row["draws"] + 1 for row in answer.json()["predictions"])
        return answer

    async with each_gateway(home) as (one, other), asyncio.timeout(60):
        while drawn < QUOTA / 2:
            assert (await ask(one, "target")).status_code == 200
        while rest(await ask(other, "off")) != QUOTA - drawn:
            await asyncio.sleep(0.05)
        counted = [drawn]
        while (answer := await ask(other, "target")).status_code == 200:
            counted.append(drawn)
        # That gateway knows all: it answers as long as anything is left, and never after.
        assert counted[-2] < QUOTA <= counted[-1]
        while (refused := await ask(one, "off")).status_code == 200:
            await asyncio.sleep(0.05)
        assert rest(answer) == rest(refused) == 0
        others = [await ask(http, "target", home.who.by_scope["infer"]) for http in (one, other)]
    assert [answer.status_code for answer in others] == [200, 200]
    print(f"\n{counted[0]} draws and then {counted[-1] - counted[0]} of {QUOTA}; {drawn - counted[-1]} before all knew")


@pytest.mark.parametrize("home", ["ray"], indirect=True)
async def test_what_goes_wrong_in_a_replica_is_told_in_the_log(home):
    await home.ask()
    with pytest.raises(AssertionError, match="log says more"):
        await home.ask(**LARGEST)
    for _ in range(50):
        if "RESOURCE_EXHAUSTED" in (log := home.address.log.read_text()):
            break
        await asyncio.sleep(0.1)
    assert re.search(r"certserve\.\w+ ERROR \[request \S+ trace \S+\] request \S+ of infer failed", log), log
    assert "Traceback" in log
    assert "GET /v2/health/ready" not in log


def test_no_key_is_in_the_log_or_in_the_list_of_processes(home):
    """Whoever started the server, and whoever asked it in the tests before this one, gave keys away to nobody."""
    borne = [fields.get("authorization") for fields in (home.who.unknown | home.who.by_scope).values()]
    process = psutil.Process(home.address.process)
    said = home.address.log.read_text()
    for each in [process, *process.children(recursive=True)]:
        said += " ".join(each.cmdline()) + str(each.environ())
    assert not [text for text in borne if text and text.split()[-1] in said]
    assert "PRIVATE KEY" not in said


@pytest.mark.parametrize("home", ["ray"], indirect=True)
async def test_a_raylet_that_is_killed_ends_all_of_it(home):
    """The last test of this server: clients get an error at once. Other processes are killed in `test_stops`."""

    async def asking():
        while True:
            await home.ask()

    clients = [asyncio.create_task(asking()) for _ in range(4)]
    await asyncio.sleep(0.5)
    home.ending.exit_code = 1
    await asyncio.to_thread(faults.all_end_with, home.address, "raylet")
    outcomes = await asyncio.wait_for(asyncio.gather(*clients, return_exceptions=True), 30)
    assert [each for each in outcomes if not isinstance(each, AssertionError | httpx.TransportError)] == []
