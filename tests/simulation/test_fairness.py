"""Requests share one device: nobody is locked out by what another may ask for. On a virtual clock, with certain votes."""

from __future__ import annotations

import asyncio
import itertools

import numpy as np
import pytest

from serving.config import Limits
from serving.errors import Overloaded
from serving.gateway.gateway import Gateway
from serving.messages import Answer, Options, PredictRequest
from serving.models.catalogue import Catalogue
from serving.security.callers import ANONYMOUS, INFER, Caller
from tests.simulation.replica import Replica, two_at_most
from tests.virtual_loop import run_virtually

CLIENTS, SECONDS = 8, 2.0
TARGET = Options(certify="target", target_radius=8.0, deadline_ms=10_000)
BEST = Options(certify="best", max_draws=100_000, deadline_ms=60_000)
LESS = Options(certify="best", max_draws=4_000, deadline_ms=10_000)
PLAIN = Options(certify="off", outputs=("probabilities",), deadline_ms=2_000)


class Certain:
    """Every vote is for the second class."""

    def noisy(self, batch):
        rows = sum(part.rows for part in batch.plan.slices)
        return np.ones(rows, dtype=np.int64), np.zeros(rows, dtype=np.float32)


class Crowd:
    """One replica, and what its clients have got."""

    def __init__(self, bundle, *callers: Caller) -> None:
        """`callers` are of the clients and of the others; without, all are nobody in particular."""
        self._bundle = bundle
        self._clients, self._others = callers or (ANONYMOUS, ANONYMOUS)
        self._inputs = itertools.count()
        self.seconds = SECONDS
        self.failures: list[str] = []
        self.drawn = 0
        """Draws of the clients."""

    async def answered(self, options: Options, *others: tuple[int, int, Options]) -> tuple[int, int]:
        """What 8 clients of one row got answered and refused, beside so many requests of so many rows of something else."""
        self._replica = Replica(
            [self._bundle], Certain(), {}, self._broken, print, two_at_most, max_pending_draws=200_000, base_s=0.001
        )
        self._gateway = Gateway(Catalogue([self._bundle]), self._replica_port(), b"s" * 32, Limits())
        beside = [
            asyncio.ensure_future(self._ask(rows, asked, self._others)) for n, rows, asked in others for _ in range(n)
        ]
        await asyncio.sleep(0.1)
        got = await asyncio.gather(*(self._client(options) for _ in range(CLIENTS)))
        for each in beside:
            each.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        return sum(answers for answers, _ in got), sum(refused for _, refused in got)

    def _replica_port(self):
        replica = self._replica

        class Port:
            async def predict(self, task):
                outcome = await replica.predict(task)
                if isinstance(outcome, Exception):
                    raise outcome
                return outcome

        return Port()

    def _broken(self, name: str, what: str) -> None:
        self.failures.append(f"{name}: {what}")

    async def _ask(self, rows: int, options: Options, caller: Caller) -> Answer:
        first = next(self._inputs)
        inputs = np.array([[200, first % 256, first // 256 % 256, row % 256] for row in range(rows)])
        return await self._gateway.predict(
            PredictRequest(model="half-space", version=None, inputs=inputs, options=options, caller=caller)
        )

    async def _client(self, options: Options) -> tuple[int, int]:
        answers, refused = 0, 0
        until = asyncio.get_running_loop().time() + self.seconds
        while asyncio.get_running_loop().time() < until:
            try:
                answer = await self._ask(1, options, self._clients)
                self.drawn += sum(row.draws for row in answer.predictions)
                answers += 1
            except Overloaded as error:
                refused += 1
                await asyncio.sleep(error.retry_after_s or 1.0)
        return answers, refused


def measured(bundles, options, *others):
    return simulated(bundles, options, *others)[:2]


def simulated(bundles, options, *others, callers=(), seconds=SECONDS):
    """Answers, refusals and draws."""
    crowd = Crowd(next(bundle for bundle in bundles if bundle.manifest.name == "half-space"), *callers)
    crowd.seconds = seconds
    answers, refused = run_virtually(crowd.answered(options, *others))
    assert not crowd.failures
    return answers, refused, crowd.drawn


@pytest.mark.parametrize(
    "others", [(1, 1_024, BEST), (200, 1, BEST), (8, 256, BEST)], ids=["one large", "many", "some"]
)
def test_clients_who_want_a_decision_keep_half_of_their_rate_beside_the_largest_requests(bundles, others):
    alone, _ = measured(bundles, TARGET)
    beside, refused = measured(bundles, TARGET, others)
    assert beside >= alone / 2
    assert not refused


def caller(name, weight=1):
    return Caller(name=name, scopes=frozenset({INFER}), weight=weight)


@pytest.mark.parametrize(
    ("others", "weight", "share"), [((200, 1, BEST), 1, 0.5), ((1, 1_024, BEST), 3, 0.75)], ids=["many", "one large"]
)
def test_callers_have_their_shares_whatever_each_asks_for(bundles, others, weight, share):
    """By need alone those who want less would have nearly all."""
    callers = caller("modest", weight), caller("greedy")
    *_, alone = simulated(bundles, LESS, seconds=4.0)
    _, refused, beside = simulated(bundles, LESS, others, callers=callers, seconds=4.0)
    assert share - 0.05 <= beside / alone <= share + 0.15
    assert not refused


def test_plain_predictions_of_one_row_do_not_wait_for_requests_of_many(bundles):
    alone, _ = measured(bundles, PLAIN)
    beside, refused = measured(bundles, PLAIN, (50, 1_024, PLAIN))
    assert beside >= alone / 8  # there are 58 who take turns, and 8 alone
    assert not refused
