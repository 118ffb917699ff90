"""What is said of a request until its answer: a base prediction, what is proven meanwhile, and the answer as ever."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from dataclasses import replace

import numpy as np
import pytest

from serving.config import Limits
from serving.deployments.on_ray import EngineReplica, _Engines
from serving.engine.engine import Engine, Served
from serving.engine.following import pause
from serving.engine.scheduler import Scheduler
from serving.errors import Internal, InvalidInput, Unavailable
from serving.events import Base, Events, Final, Progress, newest
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.gateway.retry import Lost, Resending
from serving.messages import Options, PredictRequest
from serving.models.catalogue import Catalogue
from serving.runtimes.onnx_runtime import OnnxRuntime
from serving.security.signing import Signer
from tests.half_space import write_half_space
from tests.serving.handed_clock import until
from tests.serving.wrapped import Wrapped

ROWS = [[150, 1, 2, 3], [126, 4, 5, 6]]
LONG = {"certify": "best", "max_draws": 8_000}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("bundle"))


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Progress whenever there is some."""
    monkeypatch.setattr("serving.engine.following._PACE_S", 0.0)


class Stepped(Wrapped):
    """A runtime whose noisy batches each wait for a permit, once it is told so."""

    def __init__(self, bundle):
        super().__init__(bundle)
        self.stepping = False
        self.permits = threading.Semaphore(0)

    def noisy(self, draws):
        if self.stepping:
            assert self.permits.acquire(timeout=60)
        return super().noisy(draws)

    def step(self):
        """Let a turn of the engine go, however many batches it has."""
        self.permits.release()

    def free(self):
        """Let every batch go, those that wait and those to come."""
        self.stepping = False
        self.step()


@pytest.fixture(scope="module")
def opened(bundle):
    """A session for all runtimes of this module: to open one takes longer than most tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tests.serving.wrapped.OnnxRuntime", functools.cache(OnnxRuntime))
        yield


@pytest.fixture
def start(bundle, opened):
    """Starts an engine, and gives it with its runtime."""
    with contextlib.ExitStack() as stack:

        def started():
            runtime = Stepped(bundle)
            engine = Engine([Served(bundle, runtime)], Scheduler(), 1, 200_000, Signer(b"k" * 32))
            stack.callback(engine.close)
            stack.callback(runtime.free)
            return engine, runtime

        yield started


@pytest.fixture
def started(start):
    return start()


@pytest.fixture
def engine(started):
    return started[0]


@pytest.fixture
def runtime(started):
    return started[1]


def send(engine):
    async def sent(task):
        return await engine.predict(task)

    return sent


def stream(engine):
    return lambda task: aiter(engine.predict(task))


HOMES = {
    "alone": lambda bundle, engine: engine,
    "dealer": lambda bundle, engine: Dealer(engine, Catalogue([bundle]), 1),
    "resending": lambda bundle, engine: Resending(send(engine), stream(engine)),
}


@pytest.fixture(params=HOMES)
def server(request, bundle, engine):
    """A gateway over one engine, by each part of the way between them that there may be."""
    return gateway(bundle, HOMES[request.param](bundle, engine))


def gateway(bundle, predictor):
    return Gateway(Catalogue([bundle]), predictor, b"s" * 32, Limits())


def asked(rows=ROWS, **options):
    inputs = np.array(rows, dtype=np.int64)
    return PredictRequest(model="half-space", version=None, inputs=inputs, options=Options(**options))


async def all_of(events):
    return [event async for event in events]


def claims(answer, *, receipts=True):
    """All that an answer holds, exactly."""
    return [
        (
            *(row.certificate, row.ood, row.mixture, row.class_index, row.probabilities.tobytes(), row.alpha),
            *(row.draws, row.lost_draws, row.granted_draws, row.input, row.receipt if receipts else None),
        )
        for row in answer.predictions
    ]


def draws(event):
    return sum(row.draws for row in event.said.predictions)


@pytest.mark.parametrize("options", [{}, LONG, {"certify": "fixed"}, {"certify": "off"}, {"receipt": True}], ids=str)
async def test_the_last_event_is_the_unary_answer_and_the_first_the_base_prediction(server, runtime, options):
    alone = await server.predict(asked(**options))
    runtime.go.clear()
    events = server.events(asked(**options))
    first = await anext(events)
    runtime.go.set()
    *between, last = await all_of(events)
    assert (type(first), {type(each) for each in between} <= {Progress}, type(last)) == (Base, True, Final)
    assert claims(last.said) == claims(alone)
    assert {event.said.model for event in (first, *between, last)} == {alone.model}
    for row, whole in zip(first.said.predictions, alone.predictions, strict=True):
        assert (row.class_index, row.draws, row.receipt) == (whole.class_index, 0, None)
        assert np.array_equal(row.probabilities, whole.probabilities)
        assert (row.certificate, row.ood, row.mixture) == (None, None, None)


async def test_the_base_prediction_comes_before_any_draw_is_made(server, runtime):
    runtime.stepping = True
    events = server.events(asked(**LONG))
    assert type(await anext(events)) is Base
    assert not runtime.batches
    await events.aclose()


async def test_progress_is_what_an_answer_would_say_that_ended_there(server, runtime):
    """At every look, and of every row: nobody is told more than what the counts prove, nor less."""
    runtime.stepping = True
    events, seen = server.events(asked(ROWS[:1], **LONG)), []
    await anext(events)
    for _ in range(6):
        runtime.step()
        seen.append(await anext(events))
    await events.aclose()
    runtime.free()
    assert {type(each) for each in seen} == {Progress}
    assert sorted({draws(each) for each in seen}) == [draws(each) for each in seen]
    for each in seen:
        cut = await server.predict(asked(ROWS[:1], **{**LONG, "max_draws": draws(each)}))
        assert claims(each.said, receipts=False) == claims(cut, receipts=False)


async def test_who_reads_slowly_gets_the_newest_and_misses_none_but_old_ones(server, runtime):
    alone = await server.predict(asked(**LONG))
    runtime.go.clear()
    events = server.events(asked(**LONG))
    await anext(events)
    made = len(runtime.batches)
    runtime.go.set()
    await until(lambda: len(runtime.batches) > made + 20)
    rest = await all_of(events)
    assert len(rest) < 20
    assert claims(rest[-1].said) == claims(alone)


async def test_who_leaves_ends_the_draws(server, engine, runtime):
    runtime.stepping = True
    events = server.events(asked(**LONG))
    await anext(events)
    runtime.step()
    await anext(events)
    await events.aclose()
    await until(lambda: engine.load().requests == 0)
    begun = runtime.begun
    runtime.free()
    await until(lambda: engine.load().running == 0)
    assert runtime.begun <= begun + 12
    assert engine.load().owed == 0


async def test_who_is_cancelled_while_it_waits_ends_the_draws(server, engine, runtime):
    runtime.stepping = True
    events = server.events(asked(**LONG))
    await anext(events)
    waiting = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: engine.load().requests == 0)


async def test_errors_end_the_events_as_they_end_an_answer(server, engine, runtime):
    with pytest.raises(InvalidInput, match="max_draws"):
        await anext(server.events(asked(certify="best", max_draws=0)))
    runtime.fail_base = 2
    with pytest.raises(Internal, match="base network failed twice"):
        await anext(server.events(asked(ROWS[:1])))
    runtime.stepping = True
    events = server.events(asked(deadline_ms=300, **LONG))
    await anext(events)
    closing = threading.Thread(target=engine.close)
    closing.start()
    with pytest.raises(Unavailable):
        await all_of(events)
    runtime.free()
    await asyncio.to_thread(closing.join)


async def test_a_deadline_gives_what_is_proven_by_then(server, runtime):
    runtime.stepping = True
    runtime.permits.release()
    events = await all_of(server.events(asked(ROWS[:1], deadline_ms=500, **LONG)))
    assert type(events[-1]) is Final
    assert 0 < draws(events[-1]) < LONG["max_draws"]


async def test_whoever_asks_for_the_answer_alone_has_nothing_composed_for_it(server, monkeypatch):
    def never(*_):
        raise AssertionError("nobody asked for this")

    monkeypatch.setattr("serving.engine.workload.Workload.so_far", never)
    monkeypatch.setattr("serving.engine.waiting.Waiting.stir", never)
    assert (await server.predict(asked(**LONG))).predictions[0].draws == LONG["max_draws"]


async def test_a_large_certificate_is_made_by_one_engine_where_its_events_are_asked_for(bundle, engine):
    class Counting:
        predict = staticmethod(engine.predict)

        def count(self, task, draws):
            raise AssertionError("no part of it is anybody else's")

    server = gateway(bundle, Dealer(Counting(), Catalogue([bundle]), 2))
    *_, last = await all_of(server.events(asked(**LONG)))
    assert draws(last) == 2 * LONG["max_draws"]


async def test_a_replica_that_dies_on_the_way_is_followed_by_another_and_nothing_is_said_twice(bundle, start):
    """The same draws by another: what it says is heard again once it has counted more than the first had."""
    engines, runtimes = zip(start(), start(), strict=True)
    alone = await gateway(bundle, engines[0]).predict(asked(**LONG))
    runtimes[0].stepping, tried = True, []

    async def dying(task):
        async with contextlib.aclosing(aiter(engines[len(tried) % 2].predict(task))) as events:
            tried.append(task.runtime)
            async for event in events:
                yield event
                if len(tried) == 1 and isinstance(event, Progress):
                    raise Lost
                if len(tried) == 1:
                    runtimes[0].step()

    events = await all_of(gateway(bundle, Resending(send(engines[0]), dying)).events(asked(**LONG)))
    assert tried == ["", "wrapped"]
    counted = [draws(each) for each in events[:-1]]
    assert counted == sorted(set(counted))
    assert [type(each) for each in events].count(Base) <= 1
    assert claims(events[-1].said) == claims(alone)


async def test_without_a_stream_there_is_the_final_event(bundle, engine):
    (only,) = await all_of(gateway(bundle, Resending(send(engine))).events(asked()))
    assert type(only) is Final


class Handle:
    """A Serve handle whose one replica is here: its stream is closed when it is cancelled, as Ray closes it."""

    def __init__(self, engine):
        self._replica = EngineReplica.__new__(EngineReplica)
        self._replica._engine = engine
        self.closed, self.dies = 0, False
        self.events = self

    def options(self, *, stream):
        assert stream
        return self

    def remote(self, task):
        self._events = self._replica.events(task)
        return self

    def __anext__(self):
        return anext(self._events)

    def cancel(self):
        self.closed += 1


async def test_events_and_refusals_cross_ray_as_values_and_who_reads_slowly_gets_the_newest(bundle, engine, runtime):
    handle = Handle(engine)
    server = gateway(bundle, Dealer(_Engines(handle), Catalogue([bundle]), 2))
    alone = await gateway(bundle, engine).predict(asked(**LONG))
    runtime.go.clear()
    events, made = server.events(asked(**LONG)), len(runtime.batches)
    assert type(await anext(events)) is Base
    runtime.go.set()
    await until(lambda: len(runtime.batches) > made + 20)
    rest = await all_of(events)
    assert (len(rest) < 20, type(rest[-1]), handle.closed) == (True, Final, 1)
    assert claims(rest[-1].said) == claims(alone)
    engine.close()
    with pytest.raises(Unavailable, match="stopping"):
        await all_of(server.events(replace(asked(), options=Options(deadline_ms=300))))


@pytest.mark.parametrize("followed", [1, 30, 1_000])
@pytest.mark.parametrize("took", [0.0, 0.0002, 0.2])
def test_all_who_watch_together_take_a_tenth_of_the_engine_s_time_at_most(monkeypatch, took, followed):
    monkeypatch.setattr("serving.engine.following._PACE_S", 0.25)
    assert followed * took / pause(took, followed) <= 0.1 + 1e-9
    assert (pause(took, followed) == 0.25) == (followed * took <= 0.025)


async def test_the_newest_event_is_what_a_reader_finds():
    """Ten come while nobody looks: the last of them is there, then the final one; and what ends it is raised."""

    async def ten(error=None):
        for number in range(10):
            yield Progress(number)
        await asyncio.sleep(0.05)
        if error:
            raise error
        yield Final("the end")

    events = newest(ten())
    read = [(await anext(events)).said]
    await asyncio.sleep(0.02)
    read += [event.said async for event in events]
    assert read == [9, "the end"]
    events = newest(ten(Internal("broken")))
    assert (await anext(events)).said == 9
    with pytest.raises(Internal, match="broken"):
        await anext(events)


async def test_the_base_event_is_kept_for_whoever_reads_slowly():
    """However much came since: first the base event, then the newest, which may be the last."""

    async def all_at_once():
        yield Base("the base")
        for number in range(10):
            yield Progress(number)
        yield Final("the end")

    assert [event.said async for event in newest(all_at_once())] == ["the base", "the end"]


async def test_to_await_the_events_is_to_wait_for_the_last_and_to_make_no_other():
    async def last():
        return "the end"

    def stream():
        raise AssertionError("nobody iterates")

    assert await Events(last, stream) == "the end"
