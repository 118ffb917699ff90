"""One classifier: what is asked of one bundle and runtime is never answered by another, nor under another's name.

Real engines in this process, of two bundles under one name and version, as after a new export, and of two runtimes.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import ndtr

from serving.config import Limits
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.errors import Unavailable
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.gateway.retry import Resending
from serving.messages import PARTS, Options, PredictRequest, Task
from serving.models.catalogue import Catalogue
from serving.models.identity import OtherRuntime, differing, join, other_runtime
from serving.security.signing import Signer, parse
from tests import half_space
from tests.certify.gaussian import asked
from tests.serving.wrapped import Wrapped

ROW = [150, 1, 2, 3]
SMALL, LARGE = {"certify": "best", "max_draws": 2_000}, {"certify": "best", "max_draws": 8_000}
AVX2, AVX512 = "onnxruntime 1.2.3 CPU, x86_64 avx2 fma", "onnxruntime 1.2.3 CPU, x86_64 avx2 avx512f fma"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """The same name and version twice; at `ROW` the first votes "above" with .92, the second with .26."""
    with pytest.MonkeyPatch.context() as patch:
        found = [half_space.write_half_space(tmp_path_factory.mktemp("first"))]
        patch.setattr(half_space, "CUT", 160)
        return [*found, half_space.write_half_space(tmp_path_factory.mktemp("second"))]


@pytest.fixture
def start(bundles):
    """Starts an engine of one of the bundles, on a runtime with this description."""
    with contextlib.ExitStack() as stack:

        def started(which, description="wrapped"):
            runtime = Wrapped(bundles[which])
            runtime.description = description
            engine = Engine([Served(bundles[which], runtime)], Scheduler(), 1, 200_000, Signer(b"k" * 32))
            stack.callback(engine.close)
            return engine

        yield started


def task(bundle, **changes):
    found = Task(
        model="half-space",
        version="1",
        digest=bundle.digest,
        rows=np.array([ROW], np.int32),
        keys=(b"k" * 16,),
        procedure=asked("best"),
        max_draws=64,
        alpha=0.01,
        timeout_s=20.0,
        parts=frozenset(PARTS),
    )
    return replace(found, **changes)


def gateway(bundle, predictor, **settings):
    return Gateway(Catalogue([bundle]), predictor, b"s" * 32, Limits(), **settings)


async def ask(server, **options):
    request = PredictRequest(
        model="half-space", version=None, inputs=np.array([ROW]), options=Options(deadline_ms=20_000, **options)
    )
    return await server.predict(request)


class Engines:
    """Engines behind a gateway as replicas are: a refused task goes to the next. The first counts what begins at 0."""

    def __init__(self, *engines):
        self.engines, self.turn, self.sent = engines, 0, []

    async def predict(self, task):
        return await Resending(self._whole).predict(task)

    async def count(self, task, draws):
        return await self.engines[draws.start > 0].count(task, draws)

    async def _whole(self, task):
        self.turn += 1
        self.sent.append(self.turn % len(self.engines))
        try:
            return await self.engines[self.sent[-1]].predict(task)
        except Unavailable as error:
            return error


async def test_whatever_an_engine_counts_names_its_bundle_and_runtime(start, bundles):
    for which, runtime in ((0, AVX2), (1, AVX512)):
        engine, asked = start(which, runtime), task(bundles[which], max_draws=128)
        for reply in (await engine.predict(asked), await engine.count(asked, range(64, 128))):
            assert (reply.digest, reply.runtime) == (bundles[which].digest, runtime)


@pytest.mark.parametrize("mode", ["off", "target", "best", "fixed", "precision"])
async def test_an_engine_refuses_what_was_asked_of_another_bundle(start, bundles, mode):
    """Whatever is asked: the answer without a certificate is another network's, too."""
    engine = start(1)
    for count in (False, True):
        wanted = task(bundles[0], procedure=asked(mode, tolerance=1.0))
        with pytest.raises(Unavailable) as refused:
            await (engine.count(wanted, range(0, 64)) if count else engine.predict(wanted))
        assert refused.value.http_status == 503
        assert all(each.digest in refused.value.message for each in bundles)


async def test_an_engine_refuses_what_another_runtime_has_to_answer(start, bundles):
    engine = start(0, AVX512)
    assert (await engine.predict(task(bundles[0], runtime=AVX512))).runtime == AVX512
    for calling in (
        engine.predict(task(bundles[0], runtime=AVX2)),
        engine.count(task(bundles[0], runtime=AVX2), range(0, 64)),
    ):
        with pytest.raises(Unavailable, match="has avx512f"):
            await calling


async def test_a_replica_that_restarted_after_a_new_export_certifies_nothing_under_the_old_digest(start, bundles):
    """The whole answer, its receipt and the split one."""
    server = gateway(bundles[0], start(1))
    for options in (SMALL, {**SMALL, "receipt": True}, {"certify": "off"}):
        with pytest.raises(Unavailable, match="exported anew"):
            await ask(server, **options)
    engines = Engines(start(0), start(1))
    split = Dealer(engines, Catalogue([bundles[0]]), 2)
    answer = await ask(gateway(bundles[0], split), **LARGE, alpha=1e-6)
    (found,) = answer.predictions
    assert (answer.model.digest, found.certificate.class_index) == (bundles[0].digest, 1)
    assert found.draws == 4_000
    assert 0.5 < found.certificate.p_a_lower < ndtr(22.5 / 16)


async def test_another_replica_answers_for_one_with_another_bundle(start, bundles):
    engines = Engines(start(0), start(1))
    for which in (0, 1):
        server = gateway(bundles[which], engines)
        engines.turn = which  # so that the other is asked first
        answer = await ask(server, **SMALL, receipt=True)
        assert engines.sent[-2:] == [1 - which, which]
        receipt = parse(answer.predictions[0].receipt).receipt.model
        assert answer.model.digest == receipt.digest == bundles[which].digest
        assert answer.model.runtime == receipt.runtime == "wrapped"
        assert answer.predictions[0].certificate.class_index == 1 - which


async def test_where_no_replica_has_the_bundle_the_refusal_says_what_differs(start, bundles):
    engine = start(1)

    async def send(again):
        try:
            return await engine.predict(again)
        except Unavailable as error:
            return error

    with pytest.raises(Unavailable, match="before the deadline") as refused:
        await Resending(send).predict(task(bundles[0], timeout_s=0.5))
    assert all(each.digest in refused.value.message for each in bundles)


@pytest.mark.parametrize("options", [SMALL, LARGE, {"certify": "off"}], ids=["whole", "split", "off"])
@pytest.mark.parametrize("changes", [{"digest": "sha256:other"}, {"runtime": AVX512}], ids=["bundle", "runtime"])
async def test_a_gateway_stamps_nothing_of_its_own_on_the_answer_of_another(start, bundles, options, changes):
    """Not even where whoever answers refuses nothing."""
    engine = start(0, AVX2)

    class Careless:
        async def predict(self, task):
            return replace(await engine.predict(replace(task, runtime="")), **changes)

        async def count(self, task, draws):
            return replace(await engine.count(replace(task, runtime=""), draws), **changes)

    server = gateway(bundles[0], Dealer(Careless(), Catalogue([bundles[0]]), 2), runtime=AVX2)
    with pytest.raises(Unavailable, match="sha256:other|avx512f"):
        await ask(server, **options)


async def test_shares_are_not_merged_by_another_bundle_than_they_were_counted_for(start, bundles):
    """The dealer's own copy of the repository may be another than the gateway's: then the task stays whole."""
    engine = start(0)
    dealer = Dealer(Engines(engine, engine), Catalogue([bundles[1]]), 2)
    answer, alone = [await ask(gateway(bundles[0], each), **LARGE) for each in (dealer, engine)]
    assert answer.model == alone.model
    assert answer.predictions[0].certificate == alone.predictions[0].certificate


@pytest.mark.parametrize("fixed", ["", AVX2, AVX512])
async def test_one_gateway_never_gives_answers_of_two_runtimes(start, bundles, fixed):
    """One after the other and at once: the first to answer is the only one, unless a setting says which."""
    engines = Engines(start(0, AVX2), start(0, AVX512))
    at_once, later = gateway(bundles[0], engines, runtime=fixed), gateway(bundles[0], engines, runtime=fixed)
    found = await asyncio.gather(*(ask(at_once, **SMALL) for _ in range(6)), return_exceptions=True)
    runtimes = {each.model.runtime for each in found if not isinstance(each, Unavailable)}
    assert runtimes == {fixed} if fixed else len(runtimes) == 1
    runtimes = {(await ask(later, **SMALL)).model.runtime for _ in range(4)}
    assert runtimes == {fixed} if fixed else len(runtimes) == 1


def test_the_first_proven_replica_fixes_the_runtime_of_a_deployment():
    kept = {}
    join({"a/1": AVX2, "b/1": AVX2}, kept.setdefault)
    join({"a/1": AVX2}, kept.setdefault)
    for other in ({"a/1": AVX512}, {"b/1": AVX512}, {"a/1": AVX2, "b/1": AVX512}):
        with pytest.raises(OtherRuntime, match="has avx512f"):
            join(other, kept.setdefault)
    with pytest.raises(OtherRuntime, match="lacks avx2"):
        join({"a/1": AVX512.replace("avx2 ", "")}, lambda *_: AVX512)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (AVX512, "has avx512f"),
        (AVX2.replace(" fma", ""), "lacks fma"),
        (AVX2.replace("1.2.3", "1.2.4"), "has 1.2.4 and lacks 1.2.3"),
        (AVX2.replace("CPU,", "CUDA, device 10de:2330"), "has 10de:2330 CUDA, device and lacks CPU, avx2 fma x86_64"),
        ("fma avx2 x86_64 CPU, 1.2.3 onnxruntime", "reordered"),
        ("", "lacks"),
    ],
)
def test_what_differs_is_said_in_words(found, said):
    assert said.split(" and ")[0] in other_runtime("m/1", AVX2, found)
    assert other_runtime("m/1", AVX2, AVX2) == other_runtime("m/1", "", found) == ""


def test_a_gateway_is_told_which_of_its_bundles_an_engine_has_not():
    own = {"a/1": "sha256:1", "b/1": "sha256:2"}
    assert differing(own, own | {"c/1": "sha256:3"}) == ""
    assert "sha256:4" in differing(own, own | {"b/1": "sha256:4"})
    assert "b/1" in differing(own, {"a/1": "sha256:1"})
    assert "this engine has none" in differing(own, {"a/1": "sha256:1"})
