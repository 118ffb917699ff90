"""All garbage is looked for while little is alive, or when it has waited or may have grown for too long."""

from __future__ import annotations

import asyncio
import gc

import pytest

from serving import garbage

FEW, MANY, MIB = 40_000, 4_000_000, 2**20


class World:
    """What the rounds ask."""

    def __init__(self):
        self.alive, self.mib, self.now, self.collected = FEW, 100, 0.0, 0
        self.rounds = garbage.Rounds(lambda: self.alive, lambda: self.mib * MIB, self._collect, lambda: self.now)

    def _collect(self):
        self.collected += 1

    def look(self, **changes):
        before = self.collected
        vars(self).update(changes)
        self.rounds.look()
        return self.collected - before


@pytest.mark.parametrize(
    ("changes", "collects"),
    [
        pytest.param({}, 1, id="little is alive"),
        pytest.param({"alive": MANY, "now": 200.0, "mib": 300}, 0, id="much is alive"),
        pytest.param({"alive": MANY, "now": 301.0}, 1, id="for long"),
        pytest.param({"alive": MANY, "mib": 400}, 1, id="memory has grown"),
    ],
)
def test_it_is_looked_for_where_that_is_quick_or_cannot_wait(changes, collects):
    world = World()
    assert world.look(**changes) == collects
    assert world.look(alive=MANY) == 0, "what was looked for is not looked for again at once"
    assert world.look(alive=FEW) == 1


async def test_pythons_own_collector_leaves_the_old_alone_while_a_server_runs(monkeypatch):
    monkeypatch.setattr(garbage, "_LOOK_EVERY_S", 0.0)
    usual = gc.get_threshold()
    running = asyncio.create_task(garbage.kept_small())
    for _ in range(2):
        await asyncio.sleep(0)
    assert gc.get_threshold()[:2] == usual[:2]
    assert gc.get_threshold()[2] > 2**20
    assert not running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert gc.get_threshold() == usual
