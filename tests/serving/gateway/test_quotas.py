"""Quotas: over time nobody draws more than they may, in one gateway or several; who is refused is told when to come back."""

from __future__ import annotations

import random

import pytest

from serving.errors import Overloaded
from serving.gateway.quotas import Ledger
from serving.security.callers import Caller, Quota

NOON = 20_000 * 86_400 + 43_200.0


class Clock:
    def __init__(self, now=NOON):
        self.now = now

    def __call__(self):
        return self.now


def caller(name="camera", **quota):
    return Caller(name=name, scopes=frozenset({"infer"}), quota=Quota(**quota))


def ask(ledger, who, draws, rows=1, most=100_000):
    """Whether a request that takes so many draws is let in."""
    try:
        with ledger.charged(who, rows, most) as bill:
            bill.took(draws)
    except Overloaded:
        return False
    return True


@pytest.mark.parametrize("draws", [1, 300, 5_000, 90_000])
def test_over_time_a_caller_draws_what_it_may_and_no_more(draws):
    """Refused or not, it asks ten times a second for an hour."""
    clock, who, rate = Clock(), caller(draws_per_second=1_000), 1_000
    ledger, taken = Ledger(clock), 0
    for _ in range(36_000):
        taken += draws * ask(ledger, who, draws)
        clock.now += 0.1
    asked_for = 36_000 * draws
    allowed = 3_600 * rate
    assert taken <= allowed + 10 * rate + draws
    assert taken >= 0.95 * min(asked_for, allowed)


def test_ten_seconds_are_saved_up_and_no_more():
    clock, who = Clock(), caller(draws_per_second=100)
    ledger = Ledger(clock)
    clock.now += 1_000
    assert sum(ask(ledger, who, 50) for _ in range(100)) == 20
    clock.now += 1
    assert sum(ask(ledger, who, 50) for _ in range(100)) == 2


def test_a_day_begins_at_midnight():
    clock, who = Clock(), caller(draws_per_day=1_000)
    ledger = Ledger(clock)
    assert [ask(ledger, who, 400) for _ in range(4)] == [True, True, True, False]
    clock.now = NOON + 43_199
    with pytest.raises(Overloaded, match="of this day") as error, ledger.charged(who, 1, 1):
        pass
    assert error.value.retry_after_s == 1
    clock.now += 1
    assert ask(ledger, who, 400)


def test_who_is_refused_is_told_when_to_come_back_and_then_is_let_in():
    clock, who = Clock(), caller(draws_per_second=100)
    ledger = Ledger(clock)
    assert ask(ledger, who, 5_000)
    with pytest.raises(Overloaded) as error, ledger.charged(who, 1, 1):
        pass
    assert error.value.retry_after_s == 40
    clock.now += error.value.retry_after_s + 0.1
    assert ask(ledger, who, 1)


def test_requests_in_flight_count_by_what_rows_have_taken_lately():
    clock, who = Clock(), caller(draws_per_second=1_000)
    ledger = Ledger(clock)
    for _ in range(60):
        assert ask(ledger, who, 100)
        clock.now += 1
    open_, refused = [], 0
    for _ in range(1_000):
        charge = ledger.charged(who, 1, 100_000)
        try:
            charge.__enter__()
            open_.append(charge)
        except Overloaded:
            refused += 1
    assert 90 <= len(open_) <= 110
    assert refused
    for charge in open_:
        charge.__exit__(None, None, None)


def test_callers_do_not_pay_for_each_other_and_an_error_costs_nothing():
    ledger, first, second = Ledger(Clock()), caller("a", draws_per_day=100), caller("b", draws_per_day=100)
    assert ask(ledger, first, 1_000)
    assert not ask(ledger, first, 1)
    assert ask(ledger, second, 1)
    for _ in range(100):
        with pytest.raises(ValueError, match="wrong"), ledger.charged(second, 1, 100_000):
            raise ValueError("wrong")
    assert ask(ledger, second, 1)


def test_whoever_leaves_before_the_answer_pays_what_was_expected():
    ledger, who = Ledger(Clock()), caller(draws_per_day=10_000)
    for _ in range(100):
        try:
            charge = ledger.charged(who, 1, 100_000)
            charge.__enter__()
            charge.__exit__(GeneratorExit, GeneratorExit(), None)
        except (Overloaded, GeneratorExit):
            pass
    assert not ask(ledger, who, 1)


def test_what_is_left_is_said_and_nothing_to_whoever_has_no_quota():
    clock = Clock()
    ledger, who = Ledger(clock), caller(draws_per_second=100, draws_per_day=5_000)
    assert ledger.said(who) == ""
    assert ask(ledger, who, 250)
    assert ledger.said(who) == '"second";r=750;t=3, "day";r=4750;t=43200'
    assert ledger.said(Caller(name="free", scopes=frozenset())) == ""


@pytest.mark.parametrize("every", [1, 5])
def test_gateways_of_one_deployment_share_a_quota(every):
    """Three of them, which hear of each other some times a second: the excess is what is drawn meanwhile."""
    clock, who, rate = Clock(), caller(draws_per_second=1_000, draws_per_day=400_000), 1_000
    ledgers, taken, chance = [Ledger(clock) for _ in range(3)], 0, random.Random(1)
    for step in range(6_000):
        taken += 60 * ask(chance.choice(ledgers), who, 60)
        clock.now += 0.05
        if step % every == 0:
            told = {str(place): ledger.told()[1] for place, ledger in enumerate(ledgers)}
            for place, ledger in enumerate(ledgers):
                ledger.heard({name: paid for name, paid in told.items() if name != str(place)})
    assert taken <= 300 * rate + 3 * 10 * rate
    assert taken >= 0.9 * 300 * rate
    for _ in range(6_000):
        taken += 60 * ask(chance.choice(ledgers), who, 60)
        clock.now += 0.05
        told = {str(place): ledger.told()[1] for place, ledger in enumerate(ledgers)}
        for place, ledger in enumerate(ledgers):
            ledger.heard({name: paid for name, paid in told.items() if name != str(place)})
    assert 400_000 <= taken <= 400_200


def test_a_gateway_that_is_new_counts_what_others_paid_today():
    clock, who = Clock(), caller(draws_per_second=100, draws_per_day=1_000)
    fresh = Ledger(clock)
    fresh.heard({"old": {"camera": 990}})
    assert ask(fresh, who, 20)
    assert not ask(fresh, who, 1)


def test_any_number_of_callers_takes_little_memory():
    ledger = Ledger(Clock())
    for number in range(20_000):
        assert ask(ledger, caller(str(number), draws_per_day=10), 1)
    assert len(ledger._accounts) <= 10_000
