"""Callers share a device under load, each by its weight, whatever they ask for; nobody has to wait for more than that."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from certify.claims.procedures import SLICE
from serving.engine.fair import Party, Turns
from serving.engine.scheduler import Demand, Scheduler

ROWS = 128
LARGE, SMALL = 100_000, 64


class Crowd:
    """Callers that always have some jobs of some draws in a scheduler, and what each has got."""

    def __init__(self, **callers):
        """By name: weight, jobs at once, draws of each, and models in turn."""
        self.scheduler, self.got, self._numbers = Scheduler(), Counter(), 0
        self._callers, self._of, self._left = callers, {}, {}
        for name, (_, jobs, *_rest) in callers.items():
            for _ in range(jobs):
                self._ask(name)

    def _ask(self, name):
        weight, _, draws, *models = self._callers[name]
        self._numbers += 1
        model = (models or ["m/1"])[self._numbers % max(1, len(models))]
        demand = Demand(model, ROWS, draws, draws, least=draws, base=False, party=Party(name, weight))
        self.scheduler.add(self._numbers, demand)
        self._of[self._numbers], self._left[self._numbers] = name, draws

    def run(self, batches):
        for _ in range(batches):
            for part in self.scheduler.plan_noisy().slices:
                name = self._of[part.job]
                self.got[name] += part.rows
                self._left[part.job] -= part.rows
                self.scheduler.settle(part)
                if self._left[part.job] <= 0:
                    self.scheduler.remove(part.job)
                    self._ask(name)
                else:
                    self.scheduler.update(part.job, self._left[part.job])
        return self.got


@pytest.mark.parametrize(
    "greedy",
    [(1, 200, LARGE), (1, 1, LARGE), (1, 1_000, SMALL), (1, 50, 1_000)],
    ids=lambda each: f"{each[1]}x{each[2]}",
)
@pytest.mark.parametrize(
    "modest", [(1, 1, LARGE), (1, 4, SMALL), (1, 2, 1_000)], ids=lambda each: f"{each[1]}x{each[2]}"
)
def test_two_callers_get_as_much_whatever_each_asks_for(greedy, modest):
    got = Crowd(greedy=greedy, modest=modest).run(600)
    assert got["modest"] == pytest.approx(got["greedy"], rel=0.1)


@pytest.mark.parametrize("weights", [(3, 1), (1, 3), (10, 1), (1, 1, 2)])
def test_shares_are_in_proportion_to_weights(weights):
    callers = {str(place): (weight, 3 + 20 * place, LARGE) for place, weight in enumerate(weights)}
    got = Crowd(**callers).run(900)
    for place, weight in enumerate(weights):
        assert got[str(place)] / got.total() == pytest.approx(weight / sum(weights), rel=0.1)


def test_callers_share_whatever_models_they_ask():
    got = Crowd(one=(1, 5, LARGE, "m/1"), two=(1, 50, LARGE, "m/1", "n/1", "o/1")).run(900)
    assert got["one"] == pytest.approx(got["two"], rel=0.1)


def test_whoever_is_alone_has_the_device_and_what_one_leaves_is_for_another_before_any_draw_in_vain():
    crowd = Crowd(alone=(1, 1, LARGE))
    assert crowd.run(10)["alone"] == 10 * ROWS
    scheduler = Scheduler()
    scheduler.add(1, Demand("m/1", ROWS, 1_000, SLICE, party=Party("a")))
    scheduler.add(2, Demand("m/1", ROWS, 1_000, SLICE, party=Party("b")))
    scheduler.add(3, Demand("m/1", ROWS, 1_000, SLICE, party=Party("c")))
    assert {part.job for part in scheduler.plan_noisy().slices[:3]} == {1, 2, 3}


def test_nobody_saves_up_while_away():
    crowd = Crowd(early=(1, 2, LARGE))
    crowd.run(1_000)
    crowd._callers["late"] = (1, 2, LARGE)
    crowd._ask("late")
    before = crowd.got["early"]
    got = crowd.run(200)
    assert got["late"] == pytest.approx(got["early"] - before, rel=0.1)


def test_coming_and_going_buys_nothing():
    """One job at a time, gone in between: no more than the share by weight."""
    turns, parties, got = Turns(), {"heavy": Party("heavy", 3), "light": Party("light", 1)}, Counter()
    for name in parties:
        turns.comes(name)
    for _ in range(4_000):
        name = turns.first(parties)
        got[name] += 1
        turns.served(parties[name], ROWS)
        if name == "light":
            turns.leaves(name)
            turns.comes(name)
    assert got["heavy"] == pytest.approx(3 * got["light"], rel=0.02)


def test_any_number_of_names_takes_little_memory():
    turns = Turns()
    turns.comes("always")
    for name in map(str, range(20_000)):
        turns.comes(name)
        turns.served(Party(name), ROWS)
        turns.leaves(name)
        turns.served(Party("always"), ROWS)
    assert len(turns._gone) <= 1_025


def newcomer(weight=1, **callers):
    """Draws that come before a new caller's request of 256, beside callers of so many jobs of 256 and of a weight."""
    scheduler, number = Scheduler(), 0
    for name, (jobs, of) in callers.items():
        for _ in range(jobs):
            number += 1
            scheduler.add(number, Demand("m/1", ROWS, 256, 256, least=256, party=Party(name, of)))
    return scheduler.owed_before(256, 256, Party("new", weight))


def test_a_newcomer_waits_for_its_share_and_not_for_all_that_others_are_owed():
    assert newcomer(many=(1_000, 1)) == 256
    assert newcomer(weight=4, many=(1_000, 1)) == 64
    assert newcomer(many=(1_000, 1), others=(1_000, 3)) == 4 * 256
    assert newcomer(few=(1, 3)) == 256  # no more than there is
    assert newcomer(new=(10, 1)) == 10 * 256  # its own come first
    assert newcomer(new=(2, 1), many=(1_000, 1)) == 2 * 256 + 3 * 256


def test_base_predictions_take_turns_by_caller():
    scheduler = Scheduler(base_rows=1)
    for job in range(1_000):
        scheduler.add(job, Demand("m/1", ROWS, 0, 0, party=Party("many")))
    scheduler.add(2_000, Demand("m/1", ROWS, 0, 0, party=Party("one")))
    assert 2_000 in [scheduler.plan_base().jobs[0] for _ in range(2)]
    assert scheduler.base_before(1, "one") == 1
    assert scheduler.base_before(1, "many") == 998 + 0 or scheduler.base_before(1, "many") == 999


@pytest.mark.parametrize("seed", range(5))
def test_what_is_owed_to_each_is_forgotten_with_its_last_job(seed):
    """Whatever the order in which jobs come, change, lose slices and go."""
    chance, scheduler, live = random.Random(seed), Scheduler(base_rows=3), {}
    for job in range(600):
        name = chance.choice(["", "a", "b", "c"])
        draws = chance.choice([0, 40, 256, 5_000])
        scheduler.add(
            job, Demand("m/1", ROWS, draws, draws, least=min(draws, 256), party=Party(name, ord(name or "a") % 5 + 1))
        )
        live[job] = name
        if chance.random() < 0.5 and (plan := scheduler.plan_noisy()):
            for part in plan.slices:
                (scheduler.again if chance.random() < 0.1 else scheduler.settle)(part)
                scheduler.update(part.job, chance.randrange(300))
        if chance.random() < 0.5:
            scheduler.plan_base()
        if chance.random() < 0.6:
            scheduler.remove(live.popitem()[0])
    for job in live:
        scheduler.remove(job)
    assert (scheduler.owed, scheduler._lines, scheduler._base_lines, scheduler._owed._callers) == (0, {}, {}, {})
    assert (scheduler._callers, scheduler._turns._here) == ({}, {})
    assert scheduler._owed._weight == 0
