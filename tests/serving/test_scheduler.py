from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.procedures import SLICE
from serving.scheduler import BasePlan, NoisyPlan, Scheduler, Slice


def drain_base(scheduler):
    """The base batches that wait, which come first, and the first noisy one."""
    plans = []
    while isinstance(plan := scheduler.plan(), BasePlan):
        plans.append(plan)
    return plans, plan


def test_one_batch_holds_draws_of_three_requests():
    scheduler = Scheduler(batch_rows=128)
    for job, expected in [(1, 64), (2, 32), (3, 32)]:
        scheduler.add(job, "m/1", 10_000, expected)
    _, plan = drain_base(scheduler)
    assert plan == NoisyPlan("m/1", (Slice(2, 0, 32), Slice(3, 0, 32), Slice(1, 0, 32), Slice(1, 32, 32)))


def test_base_predictions_go_first_and_share_a_batch_of_one_model():
    scheduler = Scheduler(base_rows=2)
    scheduler.add(1, "m/1", 64, 64)
    first = scheduler.plan()
    for job, model in [(2, "m/1"), (3, "n/1"), (4, "m/1"), (5, "m/1")]:
        scheduler.add(job, model, 64, 64)
    assert first == BasePlan("m/1", (1,))
    assert drain_base(scheduler)[0] == [BasePlan("m/1", (2, 4)), BasePlan("n/1", (3,)), BasePlan("m/1", (5,))]


def test_a_lone_job_fills_the_batch_beyond_its_forecast():
    scheduler = Scheduler()
    scheduler.add(1, "m/1", 100, 32)
    _, plan = drain_base(scheduler)
    assert plan.slices == (Slice(1, 0, 32), Slice(1, 32, 32), Slice(1, 64, 32), Slice(1, 96, 4))
    assert scheduler.plan() is None


def test_a_job_without_draws_and_a_removed_one_are_never_planned():
    scheduler = Scheduler()
    scheduler.add(1, "m/1", 0, 0)
    scheduler.add(2, "m/1", 64, 64)
    scheduler.remove(2)
    assert drain_base(scheduler) == ([BasePlan("m/1", (1,))], None)
    assert scheduler.owed == 0


def test_a_lost_slice_comes_again_under_the_same_indices():
    scheduler = Scheduler(batch_rows=32)
    scheduler.add(1, "m/1", 1_000, 1_000)
    _, plan = drain_base(scheduler)
    scheduler.again(plan.slices[0])
    assert scheduler.plan().slices == plan.slices
    assert scheduler.plan().slices == (Slice(1, 32, 32),)


def test_a_batch_holds_one_model():
    scheduler = Scheduler()
    scheduler.add(1, "m/1", 32, 32)
    scheduler.add(2, "n/1", 32, 32)
    _, plan = drain_base(scheduler)
    other = scheduler.plan()
    assert {(plan.model, plan.slices[0].job), (other.model, other.slices[0].job)} == {("m/1", 1), ("n/1", 2)}


def test_nothing_starves_under_a_flow_of_shorter_jobs():
    scheduler = Scheduler(batch_rows=32)
    scheduler.add(0, "m/1", 10_000, 10_000)
    for job in range(1, 1_000):
        scheduler.add(job, "m/1", 32, 32)
        _, plan = drain_base(scheduler)
        if plan.slices[0].job == 0:
            break
    assert job <= 10_000 // 32 + 1


def test_a_flood_of_base_predictions_leaves_half_of_the_rows_to_draws():
    scheduler = Scheduler(batch_rows=32, base_rows=8)
    scheduler.add(0, "m/1", 10_000, 10_000)
    kinds = []
    for turn in range(100):
        for job in range(8):
            scheduler.add(1 + turn * 8 + job, "m/1", 0, 0)
        kinds.append(type(scheduler.plan()))
    assert kinds == [*[BasePlan] * 4, NoisyPlan] * 20
    assert scheduler.owed >= 160


def test_a_batch_must_hold_whole_slices():
    with pytest.raises(ValueError, match="whole slices"):
        Scheduler(batch_rows=100)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 600)), min_size=1, max_size=12), st.integers(0, 2**32))
def test_each_draw_is_planned_once_whatever_happens(jobs, seed):
    """Random forecasts, failures and orders: in the end each job was given each of its draws exactly once."""
    chance = random.Random(seed)
    scheduler = Scheduler(batch_rows=64)
    for number, (draws, expected) in enumerate(jobs):
        scheduler.add(number, "m/1", draws, expected)
    given_out = {number: [] for number in range(len(jobs))}
    while (plan := scheduler.plan()) is not None:
        if isinstance(plan, BasePlan):
            continue
        assert sum(part.rows for part in plan.slices) <= 64
        assert all(part.start % SLICE == 0 and part.rows <= SLICE for part in plan.slices)
        for part in plan.slices:
            if chance.random() < 0.2:
                scheduler.again(part)
                continue
            scheduler.settle(part)
            scheduler.update(part.job, chance.randrange(600))
            given_out[part.job] += range(part.start, part.start + part.rows)
    for number, (draws, _) in enumerate(jobs):
        assert sorted(given_out[number]) == list(range(draws))
