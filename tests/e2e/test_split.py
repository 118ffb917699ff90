"""Large certificates on two engines under Ray: the answers of one engine, also where an engine is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import json

import httpx
import pytest

from tests.e2e.test_kill import replicas, settled
from tests.servers import post_rows

pytestmark = pytest.mark.e2e
ROWS = [[150, 1, 2, 3], [120, 4, 5, 6]]
LARGE = [{"certify": "fixed", "draws": 10_000}, {"certify": "best", "max_draws": 20_000}]
LARGEST = {"certify": "fixed", "draws": 100_000, "deadline_ms": 60_000}


@pytest.fixture
def local(shared):
    return shared.running("local")


@pytest.fixture
def two(shared):
    return shared.running("two")


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


@contextlib.asynccontextmanager
async def stream(address, **options):
    """Name and prediction of each event of one row."""

    async def events(lines):
        name = None
        async for line in lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                yield name, json.loads(line.removeprefix("data: "))["prediction"]

    url = f"{address.http}/v1/models/half-space:stream"
    query = {"deadline_ms": 60_000, **options}
    async with (
        httpx.AsyncClient(timeout=120) as client,
        client.stream("POST", url, params=query, json={"instances": ROWS[:1]}) as said,
    ):
        assert said.status_code == 200
        yield events(said.aiter_lines())


async def test_what_is_said_meanwhile_comes_over_ray_in_order_and_ends_with_the_answer(two):
    options = {"certify": "best", "max_draws": 800_000}
    (alone,) = await ask(two, ROWS[:1], **options)
    async with stream(two, **options) as events:
        said = [each async for each in events]
    names, draws = [name for name, _ in said], [prediction["draws"] for _, prediction in said]
    print(f"\n{len(said) - 2} certificates came before the last")
    assert names == ["base", *["certificate"] * (len(said) - 2), "final"]
    assert len(said) > 2
    assert draws == sorted(set(draws))
    assert (draws[0], draws[-1]) == (0, 800_000)
    assert said[-1][1] == alone


async def test_whoever_leaves_the_stream_takes_its_draws_off_the_engines(two):
    def figures():
        lines = httpx.get(two.metrics).text.splitlines()
        values = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return float(values["certserve_draws_total"]), float(values["certserve_draws_pending"])

    before, wanted = figures()[0], 3_000_000
    async with stream(two, certify="best", max_draws=wanted) as events:
        names = [name async for name, _ in _first(events, 2)]
    assert names == ["base", "certificate"]
    for _ in range(600):
        if not figures()[1]:
            break
        await asyncio.sleep(0.05)
    drawn, pending = figures()
    print(f"\n{drawn - before:,.0f} of {wanted:,} draws were made")
    assert (pending, drawn - before < wanted) == (0, True)


async def _first(events, count):
    async for each in events:
        yield each
        count -= 1
        if not count:
            return


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
