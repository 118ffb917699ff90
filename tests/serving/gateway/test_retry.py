"""Sending a task again, on a virtual clock: the pauses, the deadlines and the grace are exact."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

from serving.errors import CertserveError, Internal, NotFound, Overloaded, Unavailable
from serving.gateway.retry import GRACE_S, PAUSE_S, Lost, Resending
from serving.messages import PARTS, Reply, Task
from tests.certify.gaussian import asked
from tests.virtual_loop import Stuck, run_virtually

DEADLINE_S = 3.0
REPLY = Reply(rows=(), queue_s=0.0, compute_s=0.0, digest="sha256:d", runtime="r")


def task():
    return Task(
        model="m",
        version="1",
        digest="sha256:d",
        rows=np.zeros((1, 4), np.int32),
        keys=(b"k" * 16,),
        procedure=asked("target", 1.0),
        max_draws=64,
        alpha=0.01,
        timeout_s=DEADLINE_S,
        parts=frozenset(PARTS),
    )


def ask(*outcomes, each_s=0.0):
    """What comes of a task where each attempt takes `each_s` and then ends thus; the last outcome stays."""
    sent = []

    async def send(each):
        sent.append(each)
        await asyncio.sleep(each_s)
        outcome = outcomes[min(len(sent), len(outcomes)) - 1]
        if isinstance(outcome, Exception) and (
            isinstance(outcome, Internal) or not isinstance(outcome, CertserveError)
        ):
            raise outcome
        return outcome

    async def main():
        (found,) = await asyncio.gather(Resending(send).predict(task()), return_exceptions=True)
        return found, asyncio.get_running_loop().time()

    return *run_virtually(main()), sent


@pytest.mark.parametrize("gone", [Lost(), Unavailable("stopping")], ids=["died", "stopping"])
def test_a_task_goes_to_another_replica_with_the_time_that_is_left(gone):
    found, now, sent = ask(gone, REPLY, each_s=0.1)
    assert (found, now) == (REPLY, pytest.approx(0.2 + PAUSE_S))
    assert [each.timeout_s for each in sent] == pytest.approx([DEADLINE_S, DEADLINE_S - 0.1 - PAUSE_S])
    assert {each.keys for each in sent} == {task().keys}


@pytest.mark.parametrize("final", [NotFound("no such model"), Internal("a defect of ours")], ids=["refused", "defect"])
def test_a_refusal_and_a_defect_are_final(final):
    found, _, sent = ask(final, REPLY)
    assert (found, len(sent)) == (final, 1)


def test_what_was_accepted_waits_for_a_replica_that_is_busy():
    """Not so what no replica has taken in yet: it is refused at once."""
    busy = Overloaded("too much to draw", retry_after_s=1)
    found, now, sent = ask(Lost(), busy, busy, REPLY)
    assert (found, len(sent), now) == (REPLY, 4, pytest.approx(3 * PAUSE_S))
    assert ask(busy, REPLY)[0] is busy
    found, now, _ = ask(Lost(), busy)
    assert (type(found), now) == (Unavailable, pytest.approx(DEADLINE_S))


def test_where_no_replica_lives_the_answer_comes_at_the_deadline():
    """Not a pause after it."""
    found, now, _ = ask(Lost(), each_s=0.11)
    assert (type(found), found.retry_after_s) == (Unavailable, 2)
    assert now == pytest.approx(DEADLINE_S, abs=0.11)
    assert ask(Lost())[1] == pytest.approx(DEADLINE_S)


def test_a_silent_replica_is_given_up_after_the_grace():
    found, now, sent = ask(REPLY, each_s=100.0)
    assert (type(found), now, len(sent)) == (Unavailable, pytest.approx(DEADLINE_S + GRACE_S), 1)


def test_a_cancelled_request_is_given_up_at_the_replica():
    given_up = []

    async def send(_):
        try:
            await asyncio.sleep(100.0)
        except asyncio.CancelledError:
            given_up.append(asyncio.get_running_loop().time())
            raise

    async def main():
        asking = asyncio.ensure_future(Resending(send).predict(task()))
        await asyncio.sleep(1.0)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

    run_virtually(main())
    assert given_up == [1.0]


@pytest.mark.parametrize("turns", range(4))
def test_a_request_cancelled_as_its_replica_stops_is_not_sent_again(turns):
    """Whatever turn of the loop it comes in: `asyncio.wait_for` of Python 3.11 would swallow it in one of them."""
    sent = []

    async def send(each):
        sent.append(each)
        await asyncio.sleep(1.0)
        return Unavailable("stopping")

    async def main():
        asking = asyncio.ensure_future(Resending(send).predict(task()))
        await asyncio.sleep(0)
        await asyncio.sleep(1.0)
        for _ in range(turns):
            await asyncio.sleep(0)
        asking.cancel()
        (found,) = await asyncio.gather(asking, return_exceptions=True)
        return found, asyncio.get_running_loop().time()

    found, now = run_virtually(main())
    assert (type(found), now, len(sent)) == (asyncio.CancelledError, 1.0, 1)


def test_the_virtual_loop_says_when_nobody_can_go_on():
    async def forever():
        await asyncio.get_running_loop().create_future()

    with pytest.raises(Stuck):
        run_virtually(forever())
