from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certify.claims.procedures import SLICE
from serving.engine.line import Entry, Slice, size
from serving.engine.scheduler import BasePlan, Demand, NoisyPlan, Scheduler


def of(*jobs, model="m/1", rows=32):
    """A scheduler with jobs of (number, max_draws, expected)."""
    scheduler = Scheduler()
    for job, draws, expected in jobs:
        scheduler.add(job, Demand(model, rows, draws, expected))
    return scheduler


def test_one_batch_holds_draws_of_three_requests():
    scheduler = of((1, 10_000, 64), (2, 10_000, 32), (3, 10_000, 32), rows=128)
    assert scheduler.plan_noisy() == NoisyPlan(
        "m/1", 128, (Slice(2, 0, 32), Slice(3, 0, 32), Slice(1, 0, 32), Slice(1, 32, 32))
    )


def test_base_predictions_go_oldest_first_and_share_a_batch_of_one_model():
    scheduler = Scheduler(base_rows=2)
    scheduler.add(1, Demand("m/1", 32, 64, 64))
    assert scheduler.plan_base() == BasePlan("m/1", (1,))
    for job, model in [(2, "m/1"), (3, "n/1"), (4, "m/1"), (5, "m/1")]:
        scheduler.add(job, Demand(model, 32, 64, 64))
    plans = [scheduler.plan_base() for _ in range(4)]
    assert plans == [BasePlan("m/1", (2, 4)), BasePlan("n/1", (3,)), BasePlan("m/1", (5,)), None]


def test_a_lone_job_fills_the_batch_beyond_its_forecast():
    scheduler = of((1, 100, 32), rows=128)
    slices = (Slice(1, 0, 32), Slice(1, 32, 32), Slice(1, 64, 32), Slice(1, 96, 4))
    assert scheduler.plan_noisy() == NoisyPlan("m/1", 128, slices)
    assert scheduler.plan_noisy() is None


def test_a_job_without_draws_and_a_removed_one_are_never_planned():
    scheduler = of((1, 0, 0), (2, 64, 64))
    scheduler.remove(2)
    assert (scheduler.plan_base(), scheduler.plan_base()) == (BasePlan("m/1", (1,)), None)
    assert scheduler.plan_noisy() is None
    assert scheduler.owed == 0


def test_a_lost_slice_comes_again_under_the_same_indices():
    scheduler = of((1, 1_000, 1_000))
    plan = scheduler.plan_noisy()
    scheduler.again(plan.slices[0])
    assert scheduler.plan_noisy().slices == plan.slices
    assert scheduler.plan_noisy().slices == (Slice(1, 32, 32),)


def test_a_batch_holds_one_model_in_its_own_number_of_rows():
    scheduler = of((1, 32, 32), rows=64)
    scheduler.add(2, Demand("n/1", 256, 320, 320))
    first, second = scheduler.plan_noisy(), scheduler.plan_noisy()
    assert (first.model, first.rows, [part.job for part in first.slices]) == ("m/1", 64, [1])
    assert (second.model, second.rows, [part.job for part in second.slices]) == ("n/1", 256, [2] * 8)


def test_nothing_starves_under_a_flow_of_shorter_jobs():
    scheduler = of((0, 10_000, 10_000))
    for job in range(1, 1_000):
        scheduler.add(job, Demand("m/1", 32, 32, 32))
        if scheduler.plan_noisy().slices[0].job == 0:
            break
    assert job <= 10_000 // 32 + 1


def test_a_batch_that_does_not_come_back_starves_no_other_model():
    """Job 1 has all that it is expected to need in flight; its model has other work, job 3 is of another model."""
    scheduler = of((1, 10_000, 32))
    assert [part.job for part in scheduler.plan_noisy().slices] == [1]
    scheduler.add(3, Demand("n/1", 32, 64, 64))
    for job in range(4, 100):
        scheduler.add(job, Demand("m/1", 32, 32, 32))
        if scheduler.plan_noisy().model == "n/1":
            break
    assert job <= 64 // 32 + 4


def test_rows_too_few_for_a_slice_hold_the_last_draws_of_other_jobs():
    scheduler = of((1, 8, 8), (2, 40, 40), (3, 1_000, 1_000), (4, 640, 640))
    assert scheduler.plan_noisy().slices == (Slice(1, 0, 8), Slice(2, 32, 8), Slice(3, 992, 8))
    assert scheduler.plan_noisy().slices == (Slice(2, 0, 32),)


def test_lost_last_draws_come_again_where_they_fit():
    scheduler = of((1, 40, 40), (2, 8, 8))
    plan = scheduler.plan_noisy()
    assert plan.slices == (Slice(2, 0, 8), Slice(1, 32, 8))
    for part in plan.slices:
        scheduler.again(part)
    assert scheduler.plan_noisy().slices == plan.slices
    assert scheduler.plan_noisy().slices == (Slice(1, 0, 32),)


def test_batches_go_together_as_far_as_they_are_wanted():
    asked = []

    def together(model, wanted):
        asked.append((model, wanted))
        return max(1, min(3, wanted))

    scheduler = of((1, 300, 300), rows=64)
    plan = scheduler.plan_noisy(together)
    assert (plan.rows, plan.batches, len(plan.slices)) == (64, 3, 6)
    plan = scheduler.plan_noisy(together)
    assert (plan.rows, plan.batches, len(plan.slices)) == (64, 1, 2)
    assert asked == [("m/1", 4), ("m/1", 1)]


def test_batches_of_what_stops_by_what_it_sees_go_one_by_one():
    scheduler = of((1, 10_000, 300), (2, 10_000, 10_000), rows=64)
    assert [scheduler.plan_noisy(lambda model, wanted: wanted).batches for _ in range(10)] == [1] * 10
    scheduler.remove(1)
    assert scheduler.plan_noisy(lambda model, wanted: min(3, wanted)).batches == 3


def test_before_a_job_is_seen_no_more_is_planned_than_is_wanted_at_first():
    scheduler = Scheduler()
    scheduler.add(1, Demand("m/1", 32, 1_000, 152, wanted=60))
    assert scheduler.owed == 153
    assert [scheduler.plan_noisy().slices[0].start for _ in range(2)] == [0, 32]
    assert scheduler.plan_noisy() is None
    scheduler.update(1, 152, wanted=64)  # its base prediction is there
    assert scheduler.plan_noisy() is None
    scheduler.update(1, 152)
    assert scheduler.plan_noisy() is not None


def test_what_failed_together_is_tried_again_batch_by_batch():
    scheduler = of((1, 300, 300), rows=64)
    plan = scheduler.plan_noisy(lambda model, wanted: wanted)
    for part in plan.slices:
        scheduler.again(part)
    retried = [scheduler.plan_noisy(lambda model, wanted: max(1, wanted)) for _ in range(plan.batches)]
    assert [each.batches for each in retried] == [1] * 4
    assert sum((each.slices for each in retried), ()) == plan.slices


def test_nothing_is_planned_where_what_is_under_way_is_expected_to_decide():
    scheduler = of((1, 10_000, 40), rows=32)
    first, second = scheduler.plan_noisy(), scheduler.plan_noisy()
    assert (first.slices, second.slices) == ((Slice(1, 0, 32),), (Slice(1, 32, 32),))
    assert not scheduler.draws_wait
    assert scheduler.plan_noisy() is None
    scheduler.settle(first.slices[0])
    scheduler.update(1, 33)
    assert scheduler.draws_wait
    assert scheduler.plan_noisy().slices == (Slice(1, 64, 32),)


def test_a_job_of_which_nothing_is_under_way_wants_draws_whatever_is_forecast():
    scheduler = of((1, 10_000, 0), rows=32)
    assert scheduler.draws_wait
    assert scheduler.plan_noisy().slices == (Slice(1, 0, 32),)
    assert scheduler.plan_noisy() is None


@pytest.mark.parametrize("rows", [0, 16, 100])
def test_a_batch_must_hold_whole_slices(rows):
    with pytest.raises(ValueError, match="whole slices"):
        Scheduler().add(1, Demand("m/1", rows, 64, 64))


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 500), st.integers(0, 600)), min_size=1, max_size=12), st.integers(0, 2**32))
def test_each_draw_is_planned_once_whatever_happens(jobs, seed):
    """Random forecasts, failures and orders: in the end each job was given each of its draws exactly once."""
    chance = random.Random(seed)
    scheduler = of(*((number, *job) for number, job in enumerate(jobs)), rows=64)
    given_out = {number: [] for number in range(len(jobs))}
    while (plan := scheduler.plan_noisy()) is not None:
        assert sum(part.rows for part in plan.slices) <= plan.rows == 64
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


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 600), st.booleans()), max_size=40), st.integers(0, 2_000))
def test_what_comes_before_a_request_is_the_sum_over_the_others_of_no_more_than_it_needs_itself(steps, draws):
    """Jobs 0 and 1 are of one request, the others each of one."""
    scheduler, needed = Scheduler(), {}
    for job, expected, leaves in steps:
        if leaves:
            scheduler.remove(job)
            needed.pop(job, None)
        elif job in needed:
            scheduler.update(job, expected)
            needed[job] = expected
        else:
            scheduler.add(job, Demand("m/1", 32, 1_000, expected, least=256, base=False, request=max(1, job)))
            needed[job] = expected
        least = {job: min(256, expected) for job, expected in needed.items()}
        together = size(needed.get(0, 0)) == size(needed.get(1, 0))
        first = [least.pop(0, 0), least.pop(1, 0)]
        requests = [*([sum(first)] if together else first), *least.values()]
        assert scheduler.owed_before(draws, 1_000) == sum(min(draws, request) for request in requests)
        assert scheduler.owed == sum(needed.values())


def test_whoever_is_decided_much_later_does_not_stand_before_a_new_request():
    scheduler = of((1, 100_000, 100_000), (2, 10_000, 100), (3, 10_000, 120))
    for job in (1, 2, 3):
        scheduler.update(job, {1: 100_000, 2: 100, 3: 120}[job])
    assert scheduler.owed_before(256, 100) == 0  # they may all be denied
    for job, expected in ((4, 100), (5, 100_000)):
        scheduler.add(job, Demand("m/1", 32, 100_000, expected, least=256))
    assert scheduler.owed_before(256, 100) == 100
    assert scheduler.owed_before(256, 100_000) == 356


def shares(scheduler, batches, large):
    """The rows of some batches that go to the jobs of `large`, and to others, of which one comes after each batch."""
    given_out = Counter()
    for number in range(batches):
        scheduler.add(10_000 + number, Demand("m/1", 32, 64, 64))
        plan = scheduler.plan_noisy()
        given_out.update(part.job in large for part in plan.slices for _ in range(part.rows))
        for part in plan.slices:
            scheduler.settle(part)
    return given_out[True], given_out[False]


@pytest.mark.parametrize("jobs", [1, 1_000])
def test_a_large_request_and_a_flow_of_small_ones_share_the_device_however_many_rows_it_has(jobs):
    scheduler = Scheduler()
    for job in range(jobs):
        scheduler.add(job, Demand("m/1", 32, 100_000, 100_000, request=0))
    large, small = shares(scheduler, 400, range(jobs))
    assert small >= 0.7 * (large + small)
    assert large >= 32


def test_many_large_requests_leave_small_ones_three_batches_of_four():
    scheduler = Scheduler()
    for job in range(200):
        scheduler.add(job, Demand("m/1", 32, 100_000, 100_000))
    large, small = shares(scheduler, 400, range(200))
    assert small >= 0.7 * (large + small)
    assert large >= 0.2 * (large + small)


def test_the_rows_of_a_large_request_get_as_many_draws_each():
    scheduler = Scheduler()
    for job in range(50):
        scheduler.add(job, Demand("m/1", 32, 100_000, 100_000, request=0))
    given_out = Counter()
    for _ in range(2_000):
        plan = scheduler.plan_noisy()
        given_out.update(part.job for part in plan.slices)
        for part in plan.slices:
            scheduler.settle(part)
            scheduler.update(part.job, 100_000 - 32 * given_out[part.job])
    assert max(given_out.values()) - min(given_out.values()) <= 0.5 * max(given_out.values())


def test_requests_take_turns_at_base_predictions():
    scheduler = Scheduler()
    for job in range(1_000):
        scheduler.add(job, Demand("m/1", 32, 0, 0, request=0))
    scheduler.add(1_000, Demand("m/1", 32, 0, 0, request=1))
    scheduler.add(1_001, Demand("n/1", 32, 0, 0, request=2))
    assert scheduler.base_before(1) == 3
    assert scheduler.base_before(10) == 12
    assert {scheduler.plan_base().jobs[0] for _ in range(4)} >= {1_000, 1_001}


def test_planning_takes_no_longer_beside_many_rows_that_wait(monkeypatch):
    """Counted in the entries that are looked at, not in time."""
    looked = Counter()

    honest = Entry.available

    def available(entry):
        looked["available"] += 1
        return honest(entry)

    monkeypatch.setattr(Entry, "available", available)

    def looks(rows):
        scheduler = Scheduler()
        for job in range(rows):
            scheduler.add(job, Demand("m/1", 128, 10_000, 10_000, request=job // 100))
        looked.clear()
        for _ in range(40):
            for part in scheduler.plan_noisy().slices:
                scheduler.settle(part)
        return sum(looked.values())

    assert looks(10_000) <= 2 * looks(100)
