"""Large certificates on two engines under Ray: the answers of one engine, also where an engine is killed meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from tests.e2e.test_kill import replicas, settled
from tests.half_space import write_half_space
from tests.servers import command_line, post_rows

pytestmark = pytest.mark.e2e
ROWS = [[150, 1, 2, 3], [120, 4, 5, 6]]
LARGE = [{"certify": "fixed", "draws": 10_000}, {"certify": "best", "max_draws": 20_000}]
LARGEST = {"certify": "fixed", "draws": 100_000, "deadline_ms": 60_000}


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    write_half_space(folder)
    return folder


@pytest.fixture(scope="module")
def local(models):
    with command_line(models, local=True) as address:
        yield address


@pytest.fixture(scope="module")
def two(models):
    with command_line(models, "--engines", "2", "--threads", "1", local=False) as address:
        yield address


async def ask(address, rows=ROWS, **options):
    return await post_rows(address, "half-space", rows, **{"deadline_ms": 60_000, **options})


@pytest.mark.parametrize("options", LARGE, ids=["fixed", "best"])
async def test_two_engines_give_the_answer_of_one(two, local, options):
    alone = await ask(local, **options)
    assert [answer["draws"] for answer in alone] == [options.get("draws", 20_000)] * 2
    for _ in range(3):
        assert await ask(two, **options) == alone


async def test_both_engines_draw(two):
    """Each makes about half of the draws: the shares of a certificate go to different replicas."""
    engines = replicas(two, "engine")
    before = [sum(engine.cpu_times()[:2]) for engine in engines]
    await ask(two, ROWS * 20, **LARGE[1])
    spent = [sum(engine.cpu_times()[:2]) - start for engine, start in zip(engines, before, strict=True)]
    print(f"\nseconds of the processor: {spent}")
    assert len(spent) == 2
    assert min(spent) > max(spent) / 4


async def test_an_engine_that_is_killed_meanwhile_changes_nothing(two, local):
    """20 rows: each engine's share is 5 MB, more than Ray Serve lets pass between replicas by default."""
    alone = await ask(local, ROWS * 10, **LARGEST)
    engines = replicas(two, "engine")
    idle = [sum(engine.cpu_times()[:2]) for engine in engines]
    asking = asyncio.ensure_future(ask(two, ROWS * 10, **LARGEST))
    while min(sum(engine.cpu_times()[:2]) - start for engine, start in zip(engines, idle, strict=True)) < 0.05:
        assert not asking.done(), "answered before both engines were at work"
        await asyncio.sleep(0.02)
    engines[0].kill()
    assert not asking.done()
    assert await asking == alone
    await settled(two, "engine", engines[0].pid)
