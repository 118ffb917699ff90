from __future__ import annotations

import contextlib
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.budget import BufferedBytes
from serving.errors import Overloaded, TooLarge


def test_what_is_held_comes_back_whatever_happens():
    budget = BufferedBytes(1000)
    with budget.hold() as held:
        held.grow(100)
        held.grow(50)
        held.shrink(120)
        assert (held.size, budget.held) == (30, 30)
    assert budget.held == 0
    with contextlib.suppress(KeyError), budget.hold() as held:
        held.grow(100)
        {}["anything"]
    assert budget.held == 0


def test_what_can_never_fit_is_too_large_and_what_may_fit_later_says_when():
    budget = BufferedBytes(1000)
    with budget.hold() as held:
        held.grow(500)
        with pytest.raises(TooLarge, match="needs 501 bytes of memory, over the limit of 500"):
            held.grow(1)
        assert held.size == 500
        with budget.hold() as other, pytest.raises(Overloaded, match="try again") as refused:
            other.grow(251)
        assert refused.value.retry_after_s
        assert budget.held == 500
    budget.acquire(251)
    assert budget.held == 251


def test_many_that_take_all_they_can_leave_room_for_a_small_one():
    budget = BufferedBytes(2**20)
    for _ in range(12):
        size = 2**20
        while size:
            try:
                budget.acquire(size)
                break
            except (Overloaded, TooLarge):
                size //= 2
    budget.acquire(32)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 400)), max_size=60))
def test_the_limit_holds_in_any_order(steps):
    budget = BufferedBytes(1000)
    holders = [budget.hold() for _ in range(5)]
    for place, size in steps:
        before = holders[place].size
        try:
            holders[place].grow(size)
        except (Overloaded, TooLarge):
            assert holders[place].size == before
            holders[place].shrink(before)
        assert budget.held == sum(each.size for each in holders) <= budget.limit
        assert all(each.size <= budget.limit // 2 for each in holders)


def test_what_is_over_takes_no_more():
    budget = BufferedBytes(1000)
    with budget.hold() as held:
        held.check(400)
        assert budget.held == 0
    with pytest.raises(Overloaded):
        held.grow(1)
    assert (held.size, budget.held) == (0, 0)


def test_threads_may_share_it():
    budget = BufferedBytes(10**9)

    def work():
        for _ in range(2000):
            with budget.hold() as held:
                held.grow(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert budget.held == 0
