"""New exports and mixed processors, replicas restarted one by one: no answer is named after what did not make it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from serving.engine import workload
from serving.gateway import gateway
from tests.half_space import write_half_space
from tests.simulation import rollout
from tests.simulation.conftest import bundles_of
from tests.simulation.rollout import PROCESSORS, roll_out, seeded
from tests.simulation.schedules import Step
from tests.simulation.test_schedules import BEST

SEEDS = range(150)
AVX2, AVX512 = PROCESSORS


@pytest.fixture(scope="module")
def contents(bundles, tmp_path_factory):
    """The folder before and after an export: the same names and versions, other digests."""
    again = tmp_path_factory.mktemp("again")
    write_half_space(again, description="exported anew")
    write_half_space(again, "class-alone", description="exported anew", class_alone=True)
    return [bundles, bundles_of(again)]


def test_seeded_rollouts_keep_the_invariants(contents):
    """Every kind of end was met, answers of both contents, and replicas that may not serve."""
    ends, digests, refused, broken = Counter(), set(), 0, []
    for seed in SEEDS:
        world = seeded(contents, seed)
        ends.update("answered" if each else "not" for each in world.answered())
        digests |= {each.model.digest for each in world.answered() if each}
        refused += len(world.refused)
        broken += [(seed, name, what) for name, what in world.broken.items()]
    assert broken == []
    assert min(ends["answered"], ends["not"], refused) > 30
    assert digests == {bundle.digest for each in contents for bundle in each}


def arrive(pause=0):
    return Step("arrive", BEST, pause)


def test_a_rolling_upgrade_is_answered_throughout_each_gateway_by_its_own(contents):
    """Two replicas and the gateway restart one by one after an export; somebody asks at every stage."""
    old, new = (each[0].digest for each in contents)
    first, second = (Step("die", place, 3_000) for place in (0, 1))  # what was asked before is answered by then
    stages = [arrive(), Step("export", 1, 0), arrive(), first, arrive(1_500), Step("renew", 0, 0), arrive(), second]
    world = roll_out(contents, [*stages, arrive(1_500)])
    assert world.broken == {}
    assert [each and each.model.digest for each in world.answered()] == [old, old, old, new, new]


def test_a_gateway_that_no_replica_follows_any_more_refuses_and_says_why(contents):
    """Until it is renewed; the replicas restarted in between."""
    both = [Step("die", 0, 0), Step("die", 1, 0)]
    world = roll_out(contents, [Step("export", 1, 0), *both, arrive(1_500), Step("renew", 0, 6_000), arrive()])
    assert world.broken == {}
    refused, answered = (asked.answers[0][1] for asked in world.asked)
    for each in contents:
        assert each[0].digest in refused.message
    assert (refused.http_status, answered.model.digest) == (503, contents[1][0].digest)


def test_in_a_deployment_of_mixed_processors_the_first_proven_replica_decides(contents):
    """Whoever starts on another kind stays out and says what differs; who comes back to the first kind serves again."""
    lost = [Step("move", 1, 0), Step("die", 0, 0)]
    gone = roll_out(contents, [arrive(), *lost, arrive(1_500), Step("die", 1, 1_500), arrive(1_500)])
    assert gone.broken == {}
    assert [each and each.model.runtime for each in gone.answered()] == [AVX2, AVX2, None]
    assert gone.refused
    assert all("has avx512f and lacks avx2" in each for each in gone.refused)
    back = roll_out(contents, [arrive(), *lost, Step("die", 1, 0), Step("move", 1, 1_500), arrive(1_500)])
    assert back.broken == {}
    assert [each and each.model.runtime for each in back.answered()] == [AVX2, AVX2]


@pytest.mark.parametrize("setting", PROCESSORS)
def test_a_setting_decides_whoever_is_first(contents, setting):
    world = roll_out(contents, [Step("move", 1, 0), Step("die", 0, 0), arrive(1_500), arrive()], setting=setting)
    assert world.broken == {}
    assert {each.model.runtime for each in world.answered()} == {setting}
    assert world.refused


def breaks(contents, name):
    return any(name in seeded(contents, seed).broken for seed in SEEDS)


def test_engines_and_gateways_that_look_at_no_digest_are_found(contents, monkeypatch):
    for where in (workload, gateway):
        monkeypatch.setattr(where, "refuse_others", lambda *_: None)
    assert breaks(contents, "names_what_made_it")


def test_a_gateway_that_stamps_its_own_digest_is_found(contents, monkeypatch):
    monkeypatch.setattr(workload, "refuse_others", lambda *_: None)
    honest = gateway.Gateway._identity
    monkeypatch.setattr(
        gateway.Gateway,
        "_identity",
        lambda self, task, reply: honest(self, task, replace(reply, digest=task.digest)),
    )
    assert breaks(contents, "names_what_made_it")


def test_a_deployment_that_takes_any_runtime_is_found(contents, monkeypatch):
    """A gateway alone does not give answers of two; the next gateway would."""
    everybody = [Step("move", 1, 0), Step("die", 0, 0), Step("die", 1, 0)]
    steps = [arrive(), Step("renew", 0, 3_000), *everybody, arrive(1_500)]
    assert roll_out(contents, steps).broken == {}
    monkeypatch.setattr(rollout, "join", lambda *_: None)
    assert set(roll_out(contents, steps).broken) == {"one_runtime"}
