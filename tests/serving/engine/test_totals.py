"""What the engine keeps instead of looking at everybody: always what a look at everybody would give."""

from __future__ import annotations

import math
import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.deadlines import Deadlines
from serving.engine.line import size
from serving.engine.proven import Proven
from serving.engine.scheduler import Scheduler
from serving.engine.totals import CappedTotal
from serving.engine.workload import BaseBatch, Workload
from serving.errors import CertserveError
from serving.messages import PARTS, Task
from serving.models.catalogue import Catalogue
from tests.certify.gaussian import asked
from tests.half_space import write_half_space
from tests.simulation.device import Device, base

NUMBERS = st.integers(0, 2**20) | st.integers(0, 300)


@given(st.lists(st.tuples(st.integers(0, 9), NUMBERS), max_size=60), NUMBERS)
def test_a_capped_total_is_the_sum_over_everybody(changes, cap):
    total, numbers = CappedTotal(), dict.fromkeys(range(10), 0)
    for who, number in changes:
        total.change(numbers[who], number)
        numbers[who] = number
        assert total.capped(cap) == sum(min(each, cap) for each in numbers.values())


def test_a_capped_total_keeps_nothing_of_those_who_are_gone():
    total, numbers = CappedTotal(), (1, 7, 256, 256, 100_000)
    for number in numbers:
        total.change(0, number)
    for number in numbers:
        total.change(number, 0)
    assert not total._lengths


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "pass"]), st.integers(0, 200)), max_size=300))
def test_deadlines_are_those_of_everybody_who_is_there(steps):
    deadlines, there, now = Deadlines(), {}, 0
    for number, (kind, value) in enumerate(steps):
        if kind == "add":
            there[number] = now + value
            deadlines.add(number, now + value)
        elif kind == "remove":
            there.pop(value, None)
            deadlines.remove(value)
        else:
            now += value // 20
            found = [(there.pop(who), who) for who in deadlines.due(now)]
            assert found == sorted(found)
            assert all(when <= now for when, _ in found)
        assert deadlines.next() == min(there.values(), default=math.inf)
    assert min(there.values(), default=math.inf) > now or kind != "pass"


def test_deadlines_hold_no_more_than_twice_those_who_are_there():
    deadlines = Deadlines()
    for number in range(10_000):
        deadlines.add(number, 1e9 + number)
        deadlines.remove(number - 10)
        assert len(deadlines._heap) <= 2 * 10 + 66
    assert deadlines.next() == 1e9 + 9_990


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [write_half_space(folder, name) for name in ("half-space", "another")]


class Walk:
    """Requests that come, finish, expire, are cancelled or fail in a random order, and who is in flight by our account."""

    def __init__(self, bundles, seed):
        self.chance = random.Random(seed)
        self.bundles, self.device = bundles, Device(bundles[0])
        self.scheduler = Scheduler(base_rows=2)
        catalogue = Catalogue(Proven(bundle, "virtual") for bundle in bundles)
        self.work = Workload(catalogue, self.scheduler, max_pending_draws=100_000)
        self.now, self.there, self.flying, self.outcomes = 0.0, {}, [], Counter()

    def admit(self):
        number = self.chance.randrange(10**9)
        rows = self.chance.choice((1, 1, 3, 9))
        task = Task(
            model=(bundle := self.chance.choice(self.bundles)).manifest.name,
            version="1",
            digest=bundle.digest,
            rows=np.array([[self.chance.randrange(256), number % 256, row, 1] for row in range(rows)], np.int32),
            keys=tuple((number + row).to_bytes(16, "big") for row in range(rows)),
            procedure=asked(self.chance.choice(("target", "best", "off"))),
            max_draws=self.chance.choice((40, 200, 1_000)),
            alpha=0.01,
            timeout_s=self.chance.choice((0.1, 1.0, 10.0)),
            parts=frozenset(PARTS),
        )
        try:
            admitted = self.work.admit(self.work.prepare(task), task.timeout_s, self.now, 1e6)
        except CertserveError:
            return
        self.there[admitted] = self.now + task.timeout_s

    def cancel(self):
        if self.there:
            number = self.chance.choice(list(self.there))
            del self.there[number]
            self.work.cancel(number)

    def take(self):
        batch = self.work.next_batch(self.now, self.chance.random() < 0.3)
        if batch is not None:
            self.flying.append(batch)

    def deliver(self):
        if not self.flying:
            return
        batch = self.flying.pop(self.chance.randrange(len(self.flying)))
        failed = self.chance.random() < 0.1
        if isinstance(batch, BaseBatch):
            found = None if failed else np.stack([base(lattice) for lattice in batch.lattices])
            self.work.deliver_base(batch, found, self.now)
        else:
            self.work.deliver_noisy(batch, None if failed else self.device.noisy(batch), self.now)

    def expire(self):
        self.now += self.chance.choice((0.01, 0.3, 3.0))
        self.work.expire(self.now)

    def step(self):
        kinds = (self.admit, self.take, self.deliver, self.cancel, self.expire)
        self.chance.choices(kinds, (4, 8, 8, 1, 1))[0]()
        for number, outcome in self.work.take_outcomes():
            del self.there[number]
            self.outcomes[type(outcome).__name__] += 1


def scanned(scheduler, draws, expected, rows):
    """What is owed in all, what comes before a new request, and base predictions before it, by a look at everybody."""
    requests, waiting = Counter(), Counter()
    for _, entry in scheduler._entries.values():
        requests[entry.request, size(entry.remaining)] += min(entry.remaining, entry.least)
    for model, request in scheduler._base.values():
        waiting[model, request] += 1
    return (
        sum(entry.remaining for _, entry in scheduler._entries.values()) + len(scheduler._base),
        sum(min(owed, draws) for (_, at), owed in requests.items() if at <= size(expected)),
        sum(min(count, rows) for count in waiting.values()),
    )


def test_totals_and_deadlines_equal_what_a_scan_gives_whatever_happens(bundles):
    outcomes = Counter()
    for seed in range(8):
        walk = Walk(bundles, seed)
        for _ in range(150):
            walk.step()
            assert len(walk.work) == len(walk.there)
            assert walk.work.next_deadline() == min(walk.there.values(), default=math.inf)
            draws, expected, rows = walk.chance.choice(((10, 40, 1), (256, 1_000, 3), (5_000, 10**6, 100)))
            found = walk.work.owed, walk.scheduler.owed_before(draws, expected), walk.scheduler.base_before(rows)
            assert found == scanned(walk.scheduler, draws, expected, rows)
        outcomes += walk.outcomes
    assert min(outcomes[name] for name in ("Reply", "DeadlinePassed")) > 5


class CountsLooks(dict):
    """A dictionary that says how often somebody goes through all of it."""

    looks = 0

    def _counted(self, found):
        type(self).looks += len(self)
        return found

    def __iter__(self):
        return self._counted(super().__iter__())

    def values(self):
        return self._counted(super().values())

    def items(self):
        return self._counted(super().items())


def test_no_turn_looks_at_every_request_in_flight(bundles, monkeypatch):
    """With many in flight, batches are planned, delivered and admitted without one pass over the requests."""
    walk = Walk(bundles, 0)
    for name in ("_requests", "_rows"):
        monkeypatch.setattr(walk.work, name, CountsLooks())
    for name in ("_entries", "_base"):
        monkeypatch.setattr(walk.scheduler, name, CountsLooks())
    for _ in range(300):
        walk.admit()
    assert len(walk.work) > 100
    for _ in range(100):
        for turn in (walk.admit, walk.take, walk.take, walk.deliver, walk.deliver):
            turn()
        walk.work.next_deadline()
    assert CountsLooks.looks == 0
