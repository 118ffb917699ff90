"""Each invariant of the simulation can fail: a server with one defect breaks it, by name, within some hundred schedules."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from certify.bounds import anytime
from certify.claims import procedures
from serving.engine import job, scheduler, workload
from serving.engine.scheduler import Demand
from serving.gateway import retry
from tests.simulation.replica import WatchedScheduler
from tests.simulation.schedules import seeded
from tests.simulation.test_schedules import counted, holds

SEEDS = range(300)


def breaks(bundles, name):
    return any(name in seeded(bundles, seed).broken for seed in SEEDS)


class CountsTwice(job.Job):
    def receive(self, start, result):
        super().receive(start, result)
        super().receive(self._draws, result)


class KeyOfTheReplica(job.Job):
    def source(self, place):
        key, index = super().source(place)
        return id(self).to_bytes(len(key), "big"), index


class ScoreOfTheVotes(job.Job):
    """The score of fixed draws is of their own stream, where it has to be that of every other mode."""

    def source(self, place):
        return self._task.keys[self._row], super().source(place)[1]


class SkipsWhatIsLost(job.Job):
    """A lost draw leaves no trace, where it has to count against every claim."""

    def _count(self, result):
        super()._count(result)
        self._lost = 0


@pytest.mark.parametrize(
    ("mutant", "name"),
    [
        (CountsTwice, "counted_once"),
        (CountsTwice, "pure"),
        (KeyOfTheReplica, "counted_once"),
        (KeyOfTheReplica, "pure"),
        (ScoreOfTheVotes, "pure"),
        (SkipsWhatIsLost, "counted_once"),
    ],
)
def test_a_job_with_a_defect_is_found(bundles, monkeypatch, mutant, name):
    monkeypatch.setattr(workload, "Job", mutant)
    assert breaks(bundles, name)


def test_a_fixed_certificate_of_fewer_draws_is_found(bundles, monkeypatch):
    honest = procedures.Fixed.conclude
    monkeypatch.setattr(
        procedures.Fixed,
        "conclude",
        lambda self, terms, counts: honest(replace(self, draws=counts.draws or self.draws), terms, counts),
    )
    assert breaks(bundles, "fixed_cut_abstains")


def test_a_deadline_that_the_engine_ignores_is_found(bundles, monkeypatch):
    monkeypatch.setattr(workload.Workload, "expire", lambda self, now: None)
    monkeypatch.setattr(workload.Workload, "next_deadline", lambda self: float("inf"))
    assert breaks(bundles, "in_time")


def test_a_pause_past_the_deadline_is_found(bundles, monkeypatch):
    monkeypatch.setattr(retry, "min", lambda pause, left: pause, raising=False)
    assert breaks(bundles, "in_time")


def test_work_that_a_replica_does_not_give_up_is_found(bundles, monkeypatch):
    honest = retry.Resending.__init__
    monkeypatch.setattr(
        retry.Resending,
        "__init__",
        lambda self, send: honest(self, lambda task: asyncio.shield(asyncio.ensure_future(send(task)))),
    )
    assert breaks(bundles, "answered_once")


def test_an_outcome_that_is_told_twice_is_found(bundles, monkeypatch):
    honest = workload.Workload.take_outcomes
    monkeypatch.setattr(workload.Workload, "take_outcomes", lambda self: 2 * honest(self))
    assert breaks(bundles, "answered_once")


def test_work_that_stays_after_a_cancellation_is_found(bundles, monkeypatch):
    monkeypatch.setattr(workload.Workload, "cancel", lambda self, number: self._requests.pop(number, None))
    assert breaks(bundles, "nothing_raises")


def test_a_queue_without_age_starves_the_long(monkeypatch):
    """A long job, and a flow of short ones as fast as the device is."""

    def starved():
        found = []
        watched = WatchedScheduler(found.append)
        watched.add(0, Demand("m/1", 32, 10_000, 10_000))
        for short in range(1, 400):
            watched.add(short, Demand("m/1", 32, 32, 32))
            for part in watched.plan_noisy().slices:
                watched.settle(part)
                if part.job:
                    watched.remove(part.job)
        return found

    assert not starved()
    monkeypatch.setattr(scheduler, "_TURNS", 10**9)
    assert starved()


def test_a_share_of_votes_taken_for_a_bound_exceeds_alpha(bundles, monkeypatch):
    monkeypatch.setattr(anytime, "chosen_exceeds", lambda draws, hits, m, *_, **__: hits > m * draws)
    with pytest.raises(AssertionError, match="more false answers than alpha allows"):
        holds(*counted(bundles, SEEDS))
