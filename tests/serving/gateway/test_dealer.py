"""A certificate dealt out to two real engines in this process: the answer of one, whatever happens to a share."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving.config import Limits
from serving.engine.engine import Engine, Served
from serving.engine.scheduler import Scheduler
from serving.errors import Overloaded, Unavailable
from serving.gateway.dealer import Dealer
from serving.gateway.gateway import Gateway
from serving.messages import Options, PredictRequest
from serving.models.catalogue import Catalogue
from tests.half_space import write_half_space
from tests.serving.wrapped import Wrapped

ROWS = [[150, 1, 2, 3], [128, 4, 5, 6]]
LARGE = [{"certify": "fixed", "draws": 10_000}, {"certify": "best", "max_draws": 9_999}]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


class Two:
    """Two engines: the first is sent whole tasks and the ranges that begin at 0."""

    def __init__(self, bundle):
        self.runtimes = [Wrapped(bundle), Wrapped(bundle)]
        self.engines = [started(bundle, runtime) for runtime in self.runtimes]
        self.sent = []

    async def predict(self, task):
        self.sent.append(range(task.max_draws))
        return await self.engines[0].predict(task)

    async def count(self, task, draws):
        self.sent.append(draws)
        return await self.engines[draws.start > 0].count(task, draws)


def started(bundle, runtime):
    return Engine([Served(bundle, runtime)], Scheduler(), 1, 200_000)


@pytest.fixture
def two(bundle):
    found = Two(bundle)
    yield found
    for engine, runtime in zip(found.engines, found.runtimes, strict=True):
        runtime.go.set()
        engine.close()


async def ask(predictor, bundle, rows=ROWS, **options):
    gateway = Gateway(Catalogue([bundle]), predictor, b"s" * 32, Limits())
    request = PredictRequest(
        model="half-space", version=None, inputs=np.array(rows, dtype=np.int64), options=Options(**options)
    )
    return (await gateway.predict(request)).predictions


def claims(answers):
    """All that the answers hold, exactly."""
    return [
        (
            *(each.certificate, each.ood, each.mixture, each.class_index, each.probabilities.tobytes()),
            *(each.draws, each.lost_draws, each.granted_draws, each.alpha, each.alpha_split),
        )
        for each in answers
    ]


def drawn(runtime):
    """How many noisy passes it made."""
    return sum(map(len, runtime.batches))


@pytest.mark.parametrize("options", LARGE, ids=["fixed", "best"])
async def test_two_engines_give_the_answer_of_one_and_each_makes_its_half(two, bundle, options):
    alone = claims(await ask(two.engines[0], bundle, **options))
    made = drawn(two.runtimes[0])
    assert claims(await ask(Dealer(two, Catalogue([bundle]), 2), bundle, **options)) == alone
    assert [len(draws) for draws in two.sent] == [4_992, alone[0][5] - 4_992]
    assert abs(drawn(two.runtimes[0]) - made - made / 2) <= 256
    assert abs(drawn(two.runtimes[1]) - made / 2) <= 256


@pytest.mark.parametrize("fail", [0, 1])
async def test_a_slice_that_is_lost_counts_against_every_claim(two, bundle, fail):
    two.runtimes[fail].fail_noisy = 2
    (answer,) = await ask(Dealer(two, Catalogue([bundle]), 2), bundle, ROWS[:1], **LARGE[1])
    assert (answer.draws, answer.lost_draws) == (9_999, 128)
    (whole,) = await ask(two.engines[0], bundle, ROWS[:1], **LARGE[1])
    assert answer.certificate.radius < whole.certificate.radius


async def test_a_deadline_in_the_first_range_ends_what_is_counted(two, bundle):
    two.runtimes[0].go.clear()
    dealer = Dealer(two, Catalogue([bundle]), 2)
    cut = [(await ask(dealer, bundle, deadline_ms=400, **each))[0] for each in LARGE]
    assert [(row.draws, row.certificate.status, row.class_index) for row in cut] == [(0, "undecided", 1)] * 2


async def test_a_deadline_in_the_second_range_leaves_the_first(two, bundle):
    two.runtimes[1].go.clear()
    dealer = Dealer(two, Catalogue([bundle]), 2)
    asked = [ask(dealer, bundle, ROWS[:1], deadline_ms=3_000, **each) for each in LARGE]
    (fixed,), (best,) = await asyncio.gather(*asked)
    assert (fixed.draws, fixed.certificate.status) == (4_992, "undecided")
    alone = await ask(two.engines[0], bundle, ROWS[:1], certify="best", max_draws=4_992)
    assert claims([best]) == claims(alone)


@pytest.mark.parametrize("gone", [0, 1])
async def test_a_range_that_no_engine_answers_ends_what_is_counted(two, bundle, gone):
    async def unreachable(task, draws):
        raise Unavailable("gone", retry_after_s=2)

    two.engines[gone].count = unreachable
    asking = ask(Dealer(two, Catalogue([bundle]), 2), bundle, ROWS[:1], **LARGE[1])
    if gone == 0:
        with pytest.raises(Unavailable, match="gone"):
            await asking
        return
    alone = await ask(two.engines[0], bundle, ROWS[:1], certify="best", max_draws=4_992)
    assert claims(await asking) == claims(alone)


@pytest.mark.parametrize("options", LARGE, ids=["fixed", "best"])
@pytest.mark.parametrize("gone", [1, 2])
async def test_what_lies_beyond_a_range_that_nobody_answered_is_not_counted(two, bundle, gone, options):
    """Three ranges, the middle or the last lost: the certificate is that of the draws before it."""
    cuts, honest = [0, 3_328, 6_656], two.count

    async def but_one(task, draws):
        if draws.start == cuts[gone]:
            raise Unavailable("gone", retry_after_s=2)
        return await honest(task, draws)

    two.count = but_one
    answers = await ask(Dealer(two, Catalogue([bundle]), 3), bundle, **options)
    assert sorted(draws.start for draws in two.sent) == sorted(set(cuts) - {cuts[gone]})
    assert [each.draws for each in answers] == [cuts[gone]] * len(ROWS)
    if options["certify"] == "best":
        alone = await ask(two.engines[0], bundle, certify="best", max_draws=cuts[gone])
        assert claims(answers) == claims(alone)
    else:
        assert {each.certificate.status for each in answers} == {"undecided"}


async def test_engines_of_two_runtimes_answer_whole_tasks(two, bundle):
    two.engines[1].close()
    two.runtimes[1].description = "another"
    two.engines[1] = started(bundle, two.runtimes[1])
    dealer = Dealer(two, Catalogue([bundle]), 2)
    alone = claims(await ask(two.engines[0], bundle, **LARGE[0]))
    for sent in [[4_992, 5_008, 10_000], [10_000]]:
        assert claims(await ask(dealer, bundle, **LARGE[0])) == alone
        assert [len(draws) for draws in two.sent] == sent
        two.sent.clear()


async def test_a_refusal_of_one_engine_ends_the_work_of_the_other(two, bundle):
    async def full(task, draws):
        raise Overloaded("full", retry_after_s=3)

    two.engines[1].count = full
    two.runtimes[0].go.clear()
    with pytest.raises(Overloaded, match="full"):
        await ask(Dealer(two, Catalogue([bundle]), 2), bundle, **LARGE[0])
    assert two.engines[0].load().owed == 0


async def test_cancelled_work_leaves_both_engines(two, bundle):
    for runtime in two.runtimes:
        runtime.go.clear()
    asking = asyncio.ensure_future(ask(Dealer(two, Catalogue([bundle]), 2), bundle, **LARGE[0]))
    while not all(engine.load().owed for engine in two.engines):
        await asyncio.sleep(0.01)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [engine.load().owed for engine in two.engines] == [0, 0]


async def test_a_later_range_makes_no_base_prediction(two, bundle):
    two.runtimes[1].base = None
    assert (await ask(Dealer(two, Catalogue([bundle]), 2), bundle, **LARGE[0]))[0].draws == 10_000
