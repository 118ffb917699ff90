"""The invariants of the server over random schedules, small ones that shrink and seeded ones by the hundred."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from serving.messages import Answer
from tests.simulation.conftest import bundles_of, prepare_worker
from tests.simulation.invariants import claims
from tests.simulation.schedules import ALPHA, KINDS, Step, seeded, simulate

SEEDED, LONG, SHARE = 600, 100_000, 1_000
FALSE_ALARM = 1e-6
BEST = next(pick for pick in range(4_096) if pick % 12 == 6 and pick // 8 % 3 == 2 and pick // 16 % 3 == 2)
"""A request for the best of 640 draws in five seconds."""
ENDS = {"Answer", "DeadlinePassed", "Internal", "Overloaded", "Unavailable", "cancelled"}


STEPS = st.lists(st.builds(Step, st.sampled_from(KINDS), st.integers(0, 4_095), st.integers(0, 40)), max_size=20)


@settings(max_examples=150, deadline=None)
@given(steps=STEPS, replicas=st.integers(1, 3))
def test_any_schedule_keeps_the_invariants(bundles, steps, replicas):
    """Small schedules, shrunk when they fail."""
    assert simulate(bundles, steps, replicas=replicas).broken == {}


def test_seeded_schedules_keep_the_invariants_and_alpha(bundles):
    holds(*counted(bundles, range(SEEDED)))


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_a_hundred_thousand_schedules_keep_the_invariants_and_alpha(folder):
    starts = range(SEEDED, SEEDED + LONG, SHARE)
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), prepare_worker) as pool:
        ends, false, broken = zip(*pool.map(_share, [folder] * len(starts), starts), strict=True)
    holds(sum(ends, Counter()), sum(false, Counter()), list(itertools.chain(*broken)))


def _share(folder, start):
    return counted(bundles_of(folder), range(start, start + SHARE))


def counted(bundles, seeds):
    """How the requests of some schedules ended, whether each input's first answer was false, and what broke."""
    ends, false, broken = Counter(), Counter(), []
    for seed in seeds:
        world = seeded(bundles, seed)
        ends.update(type(asked.answers[0][1]).__name__ if asked.answers else "cancelled" for asked in world.asked)
        false.update(claims(world))
        broken += [(seed, name, what) for name, what in world.broken.items()]
    return ends, false, broken


def holds(ends, false, broken):
    """Every kind of end was met, nothing broke, and no more answers are false than alpha allows."""
    print(f"\n{dict(ends)}")
    assert broken == []
    assert set(ends) == ENDS
    # The half-space spreads alpha over more claims: among a few thousand of its inputs there may be no false answer at all.
    assert false["class-alone", True] > 0
    for model in ("class-alone", "half-space"):
        found, inputs = false[model, True], false[model, True] + false[model, False]
        limit = binom.isf(FALSE_ALARM, inputs, ALPHA)
        print(f"{model}: {found} of {inputs} inputs with a false answer at alpha {ALPHA}, the limit is {limit:.0f}")
        assert found <= limit, "more false answers than alpha allows"


@pytest.mark.parametrize("end", ["die", "stop"])
def test_a_task_that_another_replica_finishes_has_the_answer_of_the_first(bundles, end):
    """To the last bit, after its replica was lost in the midst of its draws."""
    whole = simulate(bundles, [Step("arrive", BEST, 0)])
    cut = simulate(bundles, [Step("arrive", BEST, 0), Step(end, 1, 30)])
    ((early, first),), ((late, again),) = whole.asked[0].answers, cut.asked[0].answers
    assert isinstance(again, Answer)
    assert (whole.broken, cut.broken) == ({}, {})
    assert late > early + 0.2
    assert first.predictions[0].certificate == again.predictions[0].certificate
    assert first.predictions[0].ood == again.predictions[0].ood
    assert first.predictions[0].draws == again.predictions[0].draws == 640


def test_a_batch_that_never_comes_back_leaves_an_answer_at_the_deadline(bundles):
    """From the draws before it. The next engine, a minute later, makes it whole."""
    steps = [Step("lose", 0, 0)] * 3 + [
        Step("arrive", BEST, 0),
        Step("arrive", BEST, 30_000),
        Step("arrive", BEST, 40_000),
    ]
    world = simulate(bundles, steps, replicas=1)
    assert world.broken == {}
    (late, hung), (_, still), (_, healed) = (asked.answers[0] for asked in world.asked)
    assert late == pytest.approx(5.0, abs=0.01)
    assert [type(each).__name__ for each in (hung, still)] == ["DeadlinePassed"] * 2
    assert healed.predictions[0].draws == 640
