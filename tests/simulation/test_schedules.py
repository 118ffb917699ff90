"""Invariants of the workload over random schedules: failures, cancellations, deadlines, overload, results out of order."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import Unavailable
from tests.half_space import write_half_space
from tests.simulation.schedules import Step, fresh

KINDS = ("arrive", "run", "finish", "run", "finish", "fail", "cancel")
SEEDED = 2_000


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_half_space(tmp_path_factory.mktemp("models"))


@settings(max_examples=150, deadline=None)
@given(steps=st.lists(st.builds(Step, st.sampled_from(KINDS), st.integers(0, 300), st.integers(0, 40)), max_size=40))
def test_any_schedule_keeps_the_invariants(bundle, steps):
    """Small schedules, shrunk when they fail: answered once, to whoever asked, as a pure function of the draws counted.

    acceptance: smoothing 12.6, claims 7.4.
    """
    run(bundle, steps)


def test_long_schedules_keep_the_invariants(bundle):
    """Seeded schedules of 25 to 60 steps; what they came to shows that every kind of end was met."""
    ends = Counter()
    for seed in range(SEEDED):
        chance = random.Random(seed)
        steps = [
            Step(chance.choice(KINDS), chance.randrange(300), chance.choice((0, 0, 1, 30)))
            for _ in range(chance.randrange(25, 60))
        ]
        ends.update(run(bundle, steps))
    print(f"\n{SEEDED} schedules: {dict(ends)}")
    assert {"Reply", "DeadlinePassed", "Internal", "cancelled", "refused"} <= set(ends)


def run(bundle, steps):
    world = fresh(bundle)
    for step in steps:
        world.take(step)
    world.drain()
    assert set(world.asked) == set(world.outcomes) | world.cancelled
    assert world.workload.scheduler.owed == 0
    assert all(1 <= hint <= 60 for hint in world.refused)
    return (
        [type(outcome).__name__ for outcome in world.outcomes.values()]
        + ["cancelled"] * len(world.cancelled)
        + (["refused"] * len(world.refused))
    )


def test_nothing_is_admitted_after_the_end(bundle):
    world = fresh(bundle)
    world.take(Step("arrive", 1, 0))
    world.workload.close()
    assert [type(outcome) for _, outcome in world.workload.take_outcomes()] == [Unavailable]
    with pytest.raises(Unavailable):
        world.arrive(2)
