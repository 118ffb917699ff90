from __future__ import annotations

import math
from functools import reduce
from operator import add

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from certify.bounds.binomial import TAIL_SLACK
from certify.ood.conformal import alarm_rank
from certify.ood.drift import BETS, DriftAlarm, Flags, flag_rate_bound, log_evidence

SIZE, FAR, ETA, LEVEL = 1000, 0.05, 0.01, 0.01
ALARM = DriftAlarm(calibration_size=SIZE, far=FAR, eta=ETA, alarm_level=LEVEL)
SEED, FALSE_ALARM = 20_240, 1e-6


def boundary(bound: float, level: float, requests: int) -> np.ndarray:
    """The least number of flags that raises the alarm after n requests, [1, n]; it never falls with n."""
    least = np.empty(requests + 1, dtype=np.int64)
    flagged = 0
    for n in range(requests + 1):
        while flagged <= n and log_evidence(Flags(n, flagged), bound) < -math.log(level):
            flagged += 1
        least[n] = flagged
    return least[1:]


def flag_counts(rates: np.ndarray, requests: int, rng) -> np.ndarray:
    """Running numbers of flags [runs, requests], each run at its own rate."""
    return np.cumsum(rng.random((len(rates), requests), dtype=np.float32) < rates[:, None], axis=1, dtype=np.int32)


def rates_of_calibration(runs: int, size: int, far: float, rng) -> np.ndarray:
    """The true rate of flags given a calibration set, by its exact law: Beta(m + 1 - k, k)."""
    rank = alarm_rank(size, far)
    return rng.beta(size + 1 - rank, rank, runs)


def alarms(rates: np.ndarray, requests: int, least: np.ndarray, rng, repeats: int = 1) -> float:
    """The share of runs that are ever alarmed within so many requests."""
    ever = 0
    for part in np.array_split(rates, max(1, len(rates) * requests // 10_000_000)):
        ever += int(np.any(repeats * flag_counts(part, requests, rng) >= least, axis=1).sum())
    return ever / len(rates)


def limit(runs: int, probability: float) -> float:
    return binom.isf(FALSE_ALARM, runs, probability) / runs


def test_the_bound_worked_out_beforehand():
    """a_bar = .0673 at m=1000, a=.05, eta=.01."""
    assert flag_rate_bound(1000, 0.05, 0.01) == pytest.approx(0.0673, abs=5e-5)


@given(st.integers(20, 3000), st.floats(0.05, 0.6), st.floats(1e-6, 0.5))
def test_the_bound_is_the_beta_quantile_on_the_safe_side(size, far, eta):
    bound, rank = flag_rate_bound(size, far, eta), alarm_rank(size, far)
    shapes = size + 1 - rank, rank
    tail = mpmath.betainc(*shapes, mpmath.mpf(bound), 1, regularized=True)
    assert tail <= eta
    assert tail >= eta * (1 - 10 * TAIL_SLACK) * (1 - 1e-9)


def evidence(requests: int, flagged: int, bound: float) -> mpmath.mpf:
    with mpmath.workdps(50):
        a = mpmath.mpf(bound)
        kept = [bet for bet in BETS if bet * bound <= 0.9]
        wealth = [(1 + bet * (1 - a)) ** flagged * (1 - bet * a) ** (requests - flagged) for bet in kept]
        return mpmath.log(sum(wealth) / len(wealth))


@given(st.integers(0, 10**9), st.floats(0, 1), st.floats(1e-6, 0.95))
def test_evidence_is_rounded_down_and_close(requests, share, bound):
    flagged = int(share * requests)
    exact, ours = evidence(requests, flagged, bound), log_evidence(Flags(requests, flagged), bound)
    assert ours <= exact
    assert ours >= exact - 1e-14 * (1 + 10 * requests)


@given(st.floats(0.001, 0.999), st.integers(0, 300), st.floats(0, 1))
def test_evidence_is_a_supermartingale_up_to_the_bound(bound, requests, share):
    """E(n+1) averages to at most E(n) at every rate up to the bound; it is linear in the rate, so the ends are enough."""
    flagged = int(share * requests)
    now, miss, hit = (
        evidence(*counts, bound)
        for counts in ((requests, flagged), (requests + 1, flagged), (requests + 1, flagged + 1))
    )
    for rate in (0.0, bound):
        assert rate * mpmath.exp(hit - now) + (1 - rate) * mpmath.exp(miss - now) <= 1 + 1e-13


@given(st.lists(st.integers(0, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))), st.randoms())
def test_merged_in_any_order_gives_one_evidence(counts, random):
    """The counters of replicas add up."""
    parts = [Flags(*each) for each in counts]
    whole = reduce(add, parts, Flags())
    random.shuffle(parts)
    assert reduce(add, parts, Flags()) == whole == Flags(sum(n for n, _ in counts), sum(k for _, k in counts))
    assert log_evidence(reduce(add, parts, Flags()), 0.1) == log_evidence(whole, 0.1)


def test_the_alarm_is_raised_at_one_over_its_level():
    least = boundary(ALARM.flag_rate_bound, LEVEL, 500)
    for n in (50, 118, 500):
        assert not ALARM.raised(Flags(n, int(least[n - 1]) - 1))
        assert ALARM.raised(Flags(n, int(least[n - 1])))
    assert not ALARM.raised(Flags())
    assert ETA + LEVEL <= ALARM.false_alarms < ETA + LEVEL + 1e-12


@pytest.mark.parametrize(
    "change", [{"eta": 0.0}, {"eta": 1.0}, {"alarm_level": 0.0}, {"alarm_level": 1.0}, {"alarm_level": math.nan}]
)
def test_levels_outside_the_open_interval_are_refused(change):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        DriftAlarm(**{"calibration_size": 100, "far": 0.05, "eta": 0.01, "alarm_level": 0.01, **change})


def test_too_few_calibration_scores_and_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="at least 19 are needed"):
        DriftAlarm(calibration_size=18, far=0.05, eta=0.01, alarm_level=0.01)
    with pytest.raises(ValueError, match="got 3 of 2"):
        Flags(2, 3)


def ever(bound: float, rate: float, level: float, requests: int) -> float:
    """The exact probability of an alarm within so many requests, by dynamic programming over the number of flags."""
    alive, alarmed = np.zeros(requests + 2), 0.0
    alive[0] = 1.0
    for least in boundary(bound, level, requests):
        alive[1:], alive[0] = alive[1:] * (1 - rate) + alive[:-1] * rate, alive[0] * (1 - rate)
        alarmed += alive[least:].sum()
        alive[least:] = 0.0
    return alarmed


@pytest.mark.parametrize(("bound", "level"), [(0.0673, 0.01), (0.3, 0.1), (0.9, 0.1)])
def test_exact_false_alarms_at_the_worst_rate(bound, level):
    """At a rate equal to the bound the alarm is ever raised with at most its level, and not for nothing."""
    found = ever(bound, bound, level, 3_000)
    assert 0.05 * level < found <= level
    assert ever(bound, 0.8 * bound, level, 3_000) < found


def test_false_alarms_over_real_calibration_sets():
    """P(ever a false alarm) <= eta + a_alarm. Literal p-values; 300 sets, 2,000 requests, limit at 1e-6."""
    rng, runs, requests, eta, level = np.random.default_rng(SEED), 300, 2_000, 0.1, 0.1
    size, far = 100, 0.1
    least = boundary(flag_rate_bound(size, far, eta), level, requests)
    found = 0
    for _ in range(runs):
        calibration = np.sort(rng.random(size))
        at_least = size - np.searchsorted(calibration, rng.random(requests), side="left")
        found += bool(np.any(np.cumsum((1 + at_least) / (size + 1) <= far) >= least))
    assert 0 < found / runs <= limit(runs, eta + level)


def simulated(runs: int, requests: int) -> tuple[float, float, float, float]:
    """Shares of runs ever alarmed: under the law of the calibration set; with the target rate taken for the bound; with
    every request counted 100 times; at the bound itself."""
    rng = np.random.default_rng(SEED)
    honest = boundary(ALARM.flag_rate_bound, LEVEL, 100 * requests)
    plugged = boundary(FAR, LEVEL, requests)
    rates = rates_of_calibration(runs, SIZE, FAR, rng)
    return (
        alarms(rates, requests, honest[:requests], rng),
        alarms(rates, requests, plugged, rng),
        alarms(rates, min(requests, 300), honest[99 : 100 * min(requests, 300) : 100], rng, repeats=100),
        alarms(np.full(runs, ALARM.flag_rate_bound), requests, honest[:requests], rng),
    )


def check_simulated(runs: int, requests: int) -> None:
    honest, plugged, repeated, worst = simulated(runs, requests)
    print(f"\n{runs} runs of {requests}: {honest:.5f} alarmed, at the bound {worst:.5f};", end=" ")
    print(f"mutants: target rate for the bound {plugged:.3f}, each request counted 100 times {repeated:.3f}")
    assert honest <= limit(runs, ETA + LEVEL)
    assert 0 < worst <= limit(runs, LEVEL)
    assert plugged > limit(runs, ETA + LEVEL)
    assert repeated > 0.3


def test_false_alarms_under_the_law_of_the_calibration_set():
    """Every request sent 100 times; the short form. Limits at a false-alarm rate of 1e-6."""
    check_simulated(2_000, 2_000)


@pytest.mark.slow
def test_false_alarms_under_the_law_of_the_calibration_set_long():
    """1e5 streams of 10,000 requests, each with the true rate of a calibration set of its own."""
    check_simulated(100_000, 10_000)


def test_counting_each_input_once_mends_repeated_requests():
    """Every request 100 times, and no alarm: keyed noise repeats the flag, so the input counts once."""
    rng, runs, inputs = np.random.default_rng(SEED), 200, 300
    least = boundary(ALARM.flag_rate_bound, LEVEL, inputs)
    flags = rng.random((runs, inputs)) < rates_of_calibration(runs, SIZE, FAR, rng)[:, None]
    stream = [(index, flag) for index, flag in enumerate(flags[0]) for _ in range(100)]
    assert sum(dict(stream).values()) == flags[0].sum()
    assert np.any(np.cumsum(flags, axis=1) >= least, axis=1).mean() <= limit(runs, ETA + LEVEL)


def test_the_mutant_histogram_of_p_values_alarms_without_drift():
    """A plug-in histogram martingale on p-values of one fixed set is no martingale: 20 of 20 false alarms."""
    rng, runs, requests, bins = np.random.default_rng(SEED), 20, 20_000, 10
    wealth, alarmed = np.zeros(runs), np.zeros(runs, dtype=bool)
    seen = np.ones((runs, bins))
    calibration = np.sort(rng.random((runs, SIZE)), axis=1)
    fresh = rng.random((runs, requests))
    above = np.stack([SIZE - np.searchsorted(*pair) for pair in zip(calibration, fresh, strict=True)])
    chosen = np.minimum((1 + above) * bins // (SIZE + 1), bins - 1)
    for step in range(requests):
        at = np.arange(runs), chosen[:, step]
        wealth += np.log(seen[at] / seen.sum(axis=1) * bins)
        seen[at] += 1
        alarmed |= wealth >= -math.log(LEVEL)
    assert alarmed.mean() > 0.8


def test_median_delay_when_the_rate_of_flags_rises():
    """Median delay 118 requests when the flag rate becomes 15 %."""
    rng, runs, requests = np.random.default_rng(SEED), 2_000, 2_000
    crossed = flag_counts(np.full(runs, 0.15), requests, rng) >= boundary(ALARM.flag_rate_bound, LEVEL, requests)
    assert crossed.any(axis=1).all()
    assert np.median(crossed.argmax(axis=1) + 1) == pytest.approx(118, rel=0.15)


def test_evidence_that_reaches_its_limit_by_rounding_alone_raises_nothing():
    bound, limits = ALARM.flag_rate_bound, []
    for flagged in range(20, 60):
        found = log_evidence(Flags(200, flagged), bound)
        at_limit = DriftAlarm(calibration_size=SIZE, far=FAR, eta=ETA, alarm_level=math.exp(-found * (1 - 2e-16)))
        above = DriftAlarm(calibration_size=SIZE, far=FAR, eta=ETA, alarm_level=math.exp(-found) * (1 + 1e-10))
        limits.append((at_limit.raised(Flags(200, flagged)), above.raised(Flags(200, flagged))))
    assert set(limits) == {(False, True)}
