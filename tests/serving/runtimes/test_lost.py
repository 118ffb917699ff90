"""A device that is lost under load: whoever waits is answered by another engine, and the one that lost it is replaced."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace

import numpy as np
import pytest

from serving.config import Limits, Settings
from serving.deployments import on_ray
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.errors import Unavailable
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.gateway.retry import Resending
from serving.messages import Options, PredictRequest
from serving.models.catalogue import Catalogue
from serving.runtimes.open import RUNTIMES
from serving.runtimes.runtime import DeviceLost
from tests.half_space import write_half_space
from tests.serving.runtimes.fake_runtime import ON_FAKE_DEVICE

FAILURES = {
    "device lost": "CUDA_ERROR_DEVICE_UNAVAILABLE",
    "out of memory": "CUDA_ERROR_OUT_OF_MEMORY",
    "driver reset": "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH",
}

ROWS_ASKED = ([150, 1, 2, 3], [90, 1, 2, 3])


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


def replica_of(engine):
    """A replica as Ray has it, without Ray."""
    replica = on_ray.EngineReplica.__new__(on_ray.EngineReplica)
    replica._engine = engine
    return replica


class Home:
    """Replicas on fake devices behind one gateway, which asks the first and, when it refuses, the next."""

    def __init__(self, bundle, provider="fake-cuda", engines=2):
        self.runtimes = [ON_FAKE_DEVICE[provider](bundle, provider, 1, seed) for seed in range(engines)]
        self.drivers = [runtime._line._driver for runtime in self.runtimes]
        self.engines = [Engine([Served(bundle, each)], Scheduler(), 1, 10**6) for each in self.runtimes]
        self.replicas = [replica_of(engine) for engine in self.engines]
        self.asked = []
        catalogue = Catalogue([bundle])
        self.gateway = Gateway(catalogue, Dealer(self, catalogue, engines), b"s" * 32, Limits())

    def _next(self):
        self.asked.append(min(len(self.asked), len(self.engines) - 1))
        return self.replicas[self.asked[-1]]

    def predict(self, task):
        return Resending(lambda again: self._next().predict(again), lambda again: self._next().events(again)).predict(
            task
        )

    async def count(self, task, draws):
        return await Resending(lambda again: self._next().count(again, draws)).answer(task)

    async def answer(self, *rows, draws=400):
        return essence(await self.gateway.predict(request_of(rows, draws)))

    async def close(self):
        for engine in self.engines:
            await asyncio.to_thread(engine.close)


def request_of(rows, draws=400):
    options = Options(certify="best", max_draws=draws)
    return PredictRequest(model="half-space", version=None, inputs=np.array(rows, np.int64), options=options)


def essence(answer):
    return [(each.certificate, each.ood, each.draws, each.lost_draws) for each in answer.predictions]


def fail(driver, moment, says):
    """From its next call of this kind on, the device answers with an error."""

    def failing(what):
        if what == moment:
            raise RuntimeError(f"the CUDA driver answered {says}")

    driver._fail = failing


@pytest.fixture(scope="module")
def undisturbed(bundle):
    async def ask():
        home = Home(bundle, engines=1)
        found = await home.answer(*ROWS_ASKED)
        await home.close()
        return found

    return asyncio.run(ask())


@pytest.mark.parametrize(("provider", "failure"), zip(ON_FAKE_DEVICE, FAILURES, strict=True))
async def test_what_a_lost_device_had_in_hand_is_answered_by_another_alike(
    bundle, undisturbed, provider, failure, caplog
):
    home = Home(bundle, provider)
    fail(home.drivers[0], "wait", FAILURES[failure])
    with caplog.at_level(logging.ERROR, "certserve.engine"):
        assert await home.answer(*ROWS_ASKED) == undisturbed
    assert home.asked == [0, 1]
    home.replicas[1].check_health()
    with pytest.raises(RuntimeError, match="the engine has failed"):
        home.replicas[0].check_health()
    (line,) = [record.getMessage() for record in caplog.records if record.name == "certserve.engine"]
    assert line == f"the engine has failed: the device failed: the CUDA driver answered {FAILURES[failure]}"
    await home.close()


@pytest.mark.parametrize("moment", ["copy", "add_noise", "network", "after"])
async def test_it_is_lost_whatever_it_is_asked_when_it_fails(bundle, undisturbed, moment):
    home = Home(bundle)
    fail(home.drivers[0], moment, "CUDA_ERROR_ILLEGAL_ADDRESS")
    assert await home.answer(*ROWS_ASKED) == undisturbed
    assert not home.engines[0].healthy()
    await home.close()


async def test_whoever_follows_a_request_is_told_on_by_the_next(bundle, undisturbed):
    home = Home(bundle)
    fail(home.drivers[0], "wait", "CUDA_ERROR_ILLEGAL_ADDRESS")
    said = [event async for event in home.gateway.events(request_of(ROWS_ASKED))]
    assert essence(said[-1].said) == undisturbed
    assert home.asked == [0, 1]
    await home.close()


async def test_the_share_of_a_large_certificate_is_drawn_by_another_as_well(bundle):
    whole, parted = Home(bundle, engines=1), Home(bundle)
    expected = await whole.answer([150, 1, 2, 3], draws=5_000)
    fail(parted.drivers[1], "wait", "CUDA_ERROR_ILLEGAL_ADDRESS")
    order = iter([0, 1, 0, 0])
    parted._next = lambda: parted.replicas[next(order)]
    assert await parted.answer([150, 1, 2, 3], draws=5_000) == expected
    assert [next(order, None)] == [0], "two shares, of which one was sent twice"
    await whole.close()
    await parted.close()


async def test_an_engine_without_its_device_takes_nothing_more_and_keeps_nothing(bundle):
    home = Home(bundle, engines=1)
    fail(home.drivers[0], "gather_results", "CUDA_ERROR_ECC_UNCORRECTABLE")
    (engine,) = home.engines
    with pytest.raises(Unavailable):
        await asyncio.wait_for(home.gateway.predict(_short()), 10)
    assert (engine.load().requests, engine.load().owed) == (0, 0)
    calls = len(home.drivers[0].calls)
    with pytest.raises(Unavailable):
        await home.gateway.predict(_short())
    assert len(home.drivers[0].calls) == calls, "nothing is asked of a device that failed"
    await home.close()


def _short():
    inputs = np.array([[150, 1, 2, 3]], np.int64)
    return PredictRequest(model="half-space", version=None, inputs=inputs, options=Options(deadline_ms=300))


def test_a_network_that_fails_without_noise_loses_the_device_as_well(bundle):
    """Base predictions do not go through the line, and their device is the same."""
    runtime = ON_FAKE_DEVICE["fake-tensorrt"](bundle)
    fail(runtime._line._driver, "network", "CUDA_ERROR_ILLEGAL_ADDRESS")
    for _ in range(2):
        with pytest.raises(DeviceLost, match="ILLEGAL_ADDRESS"):
            runtime.base(bundle.golden.base_input)
    fail(runtime._line._driver, None, "")
    with pytest.raises(DeviceLost, match="failed before"):
        runtime.base(bundle.golden.base_input)


@pytest.mark.parametrize(
    ("provider", "wanted"), [(each, "num_cpus" if each == "cpu" else "num_gpus") for each in RUNTIMES]
)
def test_each_engine_replica_asks_ray_for_one_device_of_its_own(tmp_path, provider, wanted):
    settings = replace(Settings(models=tmp_path), provider=provider, engines=3)
    application = on_ray.build(settings, tmp_path)
    gateway = application._bound_deployment
    (engine,) = [each._bound_deployment for each in gateway.init_args if hasattr(each, "_bound_deployment")]
    assert engine.ray_actor_options[wanted] == 1
    assert ("num_gpus" in engine.ray_actor_options) == (wanted == "num_gpus")
    assert engine.num_replicas == 3
    assert gateway.ray_actor_options.get("num_gpus", 0) == 0
    assert engine._deployment_config.health_check_period_s <= 5
