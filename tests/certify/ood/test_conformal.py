from __future__ import annotations

import math
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom, norm

from certify.ood.conformal import (
    ByLabel,
    alarm_rank,
    discoveries,
    least_size,
    one_noise_level,
    p_value,
    p_value_of_count,
    pac_rank,
    pac_threshold,
)
from certify.smoothing.gaussian import Gaussian
from tests.certify.exact import tail_at_least

INF = math.inf


@pytest.mark.parametrize(
    ("score", "expected"),
    [
        (0.5, 1.0),  # nothing scores lower: everything is as far out
        (1.0, 1.0),
        (1.5, Fraction(4, 5)),
        (2.0, Fraction(4, 5)),  # both ties count
        (2.5, Fraction(2, 5)),
        (3.0, Fraction(2, 5)),
        (3.1, Fraction(1, 5)),
        (INF, Fraction(1, 5)),
        (math.nan, Fraction(1, 5)),  # not a number is the farthest there is
    ],
)
def test_p_value_by_hand(score, expected):
    assert p_value(np.array([1.0, 2.0, 2.0, 3.0]), score) == float(expected)


def test_an_infinite_calibration_score_is_tied_with_an_infinite_score():
    assert p_value(np.array([1.0, INF]), INF) == pytest.approx(2 / 3)
    assert p_value(np.array([1.0, INF]), math.nan) == pytest.approx(2 / 3)


@given(st.lists(st.integers(0, 5), min_size=1, max_size=12))
def test_p_values_of_exchangeable_scores_are_valid_for_every_level(scores):
    """Exactly, with ties: let each of m+1 scores be the new one in turn; at most a share `a` may have p <= a."""
    ps = np.array(
        [p_value(np.sort(np.delete(np.array(scores, float), i)), float(scores[i])) for i in range(len(scores))]
    )
    for level in np.unique(ps):
        assert np.mean(ps <= level) <= level + 1e-12


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=20), st.floats(-4, 4), st.floats(0, 2))
def test_p_value_never_rises_with_the_score(calibration, score, more):
    ordered = np.sort(np.array(calibration))
    assert p_value(ordered, score + more) <= p_value(ordered, score)


@given(st.integers(1, 5000), st.floats(1e-3, 0.999))
def test_the_alarm_rank_is_where_the_p_value_falls_to_the_level(size, far):
    """p <= a if and only if s > C_(k), k = ceil((m+1)(1-a)); a < 1/(m+1) is refused."""
    if 1 / (size + 1) > far:
        with pytest.raises(ValueError, match=f"at least {least_size(far)} are needed"):
            alarm_rank(size, far)
        return
    rank = alarm_rank(size, far)
    assert rank == math.ceil((size + 1) * (1 - Fraction(far)) - Fraction(1, 10**9))  # 1/3 means a third
    assert p_value_of_count(size - rank, size) <= far  # above C_(k)
    assert p_value_of_count(size - rank + 1, size) > far  # at C_(k)


@pytest.mark.parametrize(("far", "size"), [(0.05, 19), (0.1, 9), (0.7, 1), (1 / 3, 2), (1 / 49, 48), (0.999, 1)])
def test_the_least_size_reaches_the_level(far, size):
    assert least_size(far) == size
    assert 1 / (size + 1) <= far
    assert size == 1 or 1 / size > far


@pytest.mark.parametrize("far", [0.0, 1.0, math.nan])
def test_alarm_levels_outside_the_open_interval_are_refused(far):
    with pytest.raises(ValueError, match="far must lie strictly between 0 and 1"):
        alarm_rank(1000, far)
    with pytest.raises(ValueError, match="0 calibration scores"):
        alarm_rank(0, 0.5)
    assert alarm_rank(1, 0.5) == 1


def test_repeated_rows_need_noise_keyed_by_row():
    """20 distinct rows in 200, an alarm at p <= .05: keyed by row it holds, keyed by input not.

    20,000 seeded draws of rows and noise; binomial limit at a false-alarm rate of 1e-6. The mutant is off by .02.
    """
    rng, runs, far = np.random.default_rng(6), 20_000, 0.05
    alarms = {True: 0, False: 0}
    for _ in range(runs):
        rows, shared = rng.normal(size=20), rng.normal(scale=2.0, size=20)
        which, fresh = rng.integers(20, size=200), rng.normal(scale=2.0, size=201)
        mine = rng.integers(20)
        for keyed in (True, False):
            scores = rows[which] + (fresh[:200] if keyed else shared[which])
            alarms[keyed] += p_value(np.sort(scores), rows[mine] + fresh[200]) <= far
    limit = binom.isf(1e-6, runs, far)
    assert alarms[True] <= limit < alarms[False]


@pytest.mark.parametrize(("size", "rank"), [(90, 90), (200, 197), (500, 487), (1000, 966), (5000, 4786), (10000, 9551)])
def test_ranks_worked_out_beforehand(size, rank):
    assert pac_rank(size, 0.05, 0.01) == rank


@given(st.integers(1, 400), st.floats(0.01, 0.6), st.floats(0.001, 0.5))
def test_rank_is_the_least_that_is_proven(size, far, eta):
    exact = [tail_at_least(size, k, 1 - mpmath.mpf(far)) for k in range(size + 1)] if size <= 40 else None
    tail = exact or [binom.sf(k - 1, size, 1 - far) for k in range(size + 1)]
    proven = [k for k in range(size + 1) if tail[k] <= eta * (1 - 1e-8)]
    if not proven:
        return
    rank = pac_rank(size, far, eta)
    assert tail[rank] <= eta
    assert rank <= proven[0]


@pytest.mark.parametrize(("size", "far", "eta"), [(1, 0.6, 0.5), (2, 0.75, 0.5)])
def test_the_smallest_score_may_do(size, far, eta):
    assert pac_rank(size, far, eta) == 1


def test_a_tail_that_no_double_can_tell_from_eta_is_not_proven():
    tail = float(tail_at_least(200, 197, mpmath.mpf(1) - mpmath.mpf(0.05)))
    assert pac_rank(200, 0.05, tail * (1 + 1e-8)) == 197
    assert pac_rank(200, 0.05, tail * (1 + 1e-10)) == 198


def test_it_exists_from_the_stated_size_on():
    assert pac_rank(90, 0.05, 0.01) == 90
    with pytest.raises(ValueError, match="at least 90 are needed"):
        pac_rank(89, 0.05, 0.01)
    with pytest.raises(ValueError, match="0 calibration scores"):
        pac_rank(0, 0.05, 0.01)


@pytest.mark.parametrize(("far", "eta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0), (math.nan, 0.1)])
def test_levels_outside_the_open_interval_are_refused(far, eta):
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        pac_rank(1000, far, eta)


def test_threshold_is_that_order_statistic_in_any_order():
    scores = np.random.default_rng(3).permutation(1000).astype(float)
    assert pac_threshold(scores, 0.05, 0.01) == 965.0  # rank 966, counted from 0.0
    for seed in range(50):
        scores = np.random.default_rng(seed).permutation(300).astype(float)
        assert pac_threshold(scores, 0.05, 0.1) == pac_rank(300, 0.05, 0.1) - 1
    with pytest.raises(ValueError, match="^expected one vector of calibration scores without NaN"):
        pac_threshold(np.array([math.nan] * 100), 0.05, 0.01)


def failures(values, size: int, far: float, eta: float, runs: int) -> float:
    """How often a threshold from `size` scores has a true false-alarm rate above `far`; `values` are equally likely."""
    generator = np.random.default_rng(11)
    wrong = 0
    for _ in range(runs):
        threshold = pac_threshold(generator.choice(values, size).astype(float), far, eta)
        wrong += np.mean(values > threshold) > far
    return wrong / runs


@pytest.mark.parametrize("values", [np.arange(100_000), np.arange(10), np.array([0] * 94 + [1] * 6)])
def test_pac_failures_stay_below_eta(values):
    runs, eta = 3000, 0.1
    assert failures(values, 200, 0.05, eta, runs) <= binom.ppf(1 - 1e-6, runs, eta) / runs


def test_the_rank_below_would_fail(monkeypatch):
    """The same simulation sees a threshold one order statistic too low."""
    right = pac_rank
    monkeypatch.setattr("certify.ood.conformal.pac_rank", lambda *args: right(*args) - 1)
    assert failures(np.arange(100_000), 200, 0.05, 0.1, 3000) > binom.ppf(1 - 1e-6, 3000, 0.1) / 3000


@given(st.lists(st.integers(0, 40), min_size=0, max_size=12), st.sampled_from([0.0513, 0.1117, 0.3137]))
def test_discoveries_by_definition(fortieths, level):
    """The largest i whose i-th smallest p-value is at most level i / n, and all p-values up to it."""
    ps = np.array(fortieths, dtype=float) / 40
    passing = [p for p in ps if p <= level * sum(q <= p for q in ps) / len(ps)]
    assert discoveries(ps, level).tolist() == [bool(passing) and p <= max(passing) for p in ps]


def test_one_input_is_flagged_where_its_p_value_is():
    assert discoveries(np.array([0.05]), 0.05).tolist() == [True]
    assert discoveries(np.array([math.nextafter(0.05, 1)]), 0.05).tolist() == [False]
    for level in (0.0, 1.0):
        with pytest.raises(ValueError, match="level must lie strictly between 0 and 1"):
            discoveries(np.array([0.5]), level)


def false_discoveries(flag, *, runs: int, ties: bool, level: float = 0.2) -> tuple[float, float]:
    """The mean share of ordinary inputs among the flagged, and its standard error: 30 inputs, 10 of them far out."""
    rng, shares = np.random.default_rng(17), np.empty(runs)
    ordinary = np.arange(30) < 20
    for run in range(runs):
        scores = rng.normal(size=130) + 2.5 * np.concatenate([np.zeros(100), ~ordinary])
        scores = np.round(2 * scores) if ties else scores
        calibration = np.sort(scores[:100])
        ps = np.array([p_value(calibration, score) for score in scores[100:]])
        flagged = flag(ps, level)
        shares[run] = np.sum(flagged & ordinary) / max(1, flagged.sum())
    return float(shares.mean()), float(shares.std() / math.sqrt(runs))


def check_false_discoveries(runs: int) -> None:
    found = {ties: false_discoveries(discoveries, runs=runs, ties=ties) for ties in (False, True)}
    each_at_level, error = false_discoveries(lambda ps, level: ps <= level, runs=min(runs, 2_000), ties=False)
    print(f"\n{runs} batches at .2 (true ceiling .133): {found}; mutant, each at its own level: {each_at_level:.3f}")
    for mean, scatter in found.values():
        assert 0.05 < mean <= 0.2 * 20 / 30 + 5 * scatter
    assert each_at_level > 0.2 + 5 * error


def test_the_false_discovery_rate_is_controlled():
    """Benjamini-Hochberg on conformal p-values, and the mutant "p <= level for each"; false-alarm rate 3e-7."""
    check_false_discoveries(600)


@pytest.mark.slow
def test_the_false_discovery_rate_is_controlled_long():
    """Benjamini-Hochberg on conformal p-values, 1e5 batches with and without ties."""
    check_false_discoveries(100_000)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1)), min_size=4, max_size=14))
def test_p_values_by_label_are_valid_within_each_label(rows):
    """Exactly, with ties: each row in turn is the new one, the others calibrate; per label at most a share a has p <= a."""
    scores, labels = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    if min(np.bincount(labels.astype(int), minlength=2)) < 2:
        return
    ps = np.array(
        [
            ByLabel.of(np.delete(scores, i), np.delete(labels, i), 2, 0.5).p_value(int(labels[i]), scores[i])
            for i in range(len(rows))
        ]
    )
    for label in (0, 1):
        for level in np.unique(ps):
            assert np.mean(ps[labels == label] <= level) <= level + 1e-12


def false_alarms_by_label(by: str, runs: int) -> float:
    """The rate of p <= .1 among inputs predicted 1, where a fifth of class 0 is taken for 1 and scores high."""
    rng, alarms = np.random.default_rng(23), 0
    for _ in range(runs):
        truth = rng.random(200) < 0.5
        confused = ~truth & (rng.random(200) < 0.2)
        scores = rng.normal(size=200) + 3.0 * confused
        predicted = truth | confused
        (new, *_), rest = np.flatnonzero(predicted), np.ones(200, dtype=bool)
        rest[new] = False
        grouping = (predicted if by == "predicted" else truth)[rest].astype(int)
        alarms += ByLabel.of(scores[rest], grouping, 2, 0.1).p_value(1, scores[new]) <= 0.1
    return alarms / runs


def test_grouping_by_predicted_label_is_valid_and_by_true_label_is_not():
    """The true label of a served input is not known. Limits at a false-alarm rate of 1e-6."""
    limit = binom.isf(1e-6, 3000, 0.1) / 3000
    assert 0.05 < false_alarms_by_label("predicted", 3000) <= limit
    assert false_alarms_by_label("true", 3000) > limit + 0.05


@pytest.mark.slow
def test_grouping_by_predicted_label_is_valid_and_by_true_label_is_not_long():
    """Mondrian p-values, 1e5 calibration sets and inputs."""
    right, wrong = (false_alarms_by_label(by, 100_000) for by in ("predicted", "true"))
    print(f"\n1e5 sets, alarms at .1 among inputs predicted 1: {right:.4f}; mutant by true label {wrong:.4f}")
    assert 0.08 < right <= binom.isf(1e-6, 100_000, 0.1) / 100_000
    assert wrong > 0.2


def test_small_groups_and_unknown_labels_are_refused():
    """Each group needs at least 1/a - 1 scores."""
    scores, predicted = np.arange(30.0), np.array([0] * 12 + [1] * 18)
    with pytest.raises(ValueError, match=r"\{0: 12, 1: 18\} have fewer than the 19"):
        ByLabel.of(scores, predicted, 2, 0.05)
    groups = ByLabel.of(scores, predicted, 2, 0.1)
    assert groups.p_value(0, 11.5) == 1 / 13
    assert groups.p_value(1, 11.5) == 1.0
    with pytest.raises(ValueError, match="from 0 to 1, got 2"):
        groups.p_value(2, 0.0)


def level_of(far, *, radius, sigma, charge=0.0):
    return one_noise_level(far, radius=radius, law=Gaussian(sigma, charge))


def test_the_one_noise_level_worked_out_beforehand():
    """a=.05, R=sigma: a'=.0041, m >= 244."""
    level = level_of(0.05, radius=0.25, sigma=0.25)
    assert level == pytest.approx(0.0041, abs=5e-5)
    assert least_size(level) == 244
    assert level_of(0.05, radius=0.0, sigma=1.0) == pytest.approx(0.05, rel=1e-14)


@given(st.floats(1e-6, 0.999), st.floats(0, 5), st.floats(1e-3, 10), st.sampled_from([0.0, 1e-12, 1e-3]))
def test_the_one_noise_level_is_rounded_down(far, ratio, sigma, charge):
    radius = ratio * sigma
    with mpmath.workdps(50):

        def quantile(p):
            return mpmath.sqrt(2) * mpmath.erfinv(2 * p - 1)

        room = mpmath.mpf(far) - mpmath.mpf(charge)
        exact = mpmath.ncdf(quantile(room) - mpmath.mpf(radius) / sigma) - charge if room > 0 else mpmath.mpf(-1)
    if exact < 1e-12:
        return
    level = level_of(far, radius=radius, sigma=sigma, charge=charge)
    assert 0 < level <= exact
    assert level >= exact * (1 - 1e-11) - 1e-14


def test_what_the_charge_leaves_of_a_level_near_one_is_rounded_down():
    """There the quantile moves by far more than the last places that its argument loses."""
    rng = np.random.default_rng(8)
    with mpmath.workdps(50):
        for far, charge in zip(1 - rng.uniform(1e-9, 1e-7, 40), rng.uniform(1e-12, 1e-9, 40), strict=True):
            quantile = mpmath.sqrt(2) * mpmath.erfinv(2 * (mpmath.mpf(far) - mpmath.mpf(charge)) - 1)
            exact = mpmath.ncdf(quantile - 5) - mpmath.mpf(charge)
            assert level_of(float(far), radius=5.0, sigma=1.0, charge=float(charge)) <= exact


@pytest.mark.parametrize(
    "change", [{"far": 0.0}, {"far": 1.0}, {"radius": -1.0}, {"sigma": 0.0}, {"charge": -1.0}, {"far": math.nan}]
)
def test_meaningless_one_noise_tests_are_refused(change):
    with pytest.raises(
        ValueError, match="^(far must lie strictly between|sigma: expected a positive|charge: expected 0)"
    ):
        level_of(**{"far": 0.05, "radius": 1.0, "sigma": 1.0, "charge": 0.0, **change})


@pytest.mark.parametrize(
    "change", [{"charge": 0.05}, {"charge": 0.06}, {"charge": 1e-3, "radius": 2.0}, {"radius": 99.0}]
)
def test_a_level_that_nothing_is_left_of_is_refused(change):
    with pytest.raises(ValueError, match="no level is left"):
        level_of(**{"far": 0.05, "radius": 1.0, "sigma": 1.0, **change})


@pytest.mark.parametrize("size", [244, 1000, 100_000])
def test_the_linear_worst_case_under_attack_stays_at_the_level(size):
    """Exactly: one point mass of inputs, linear score. The rate at the rank is Beta; the attack adds R/sigma."""
    level = level_of(0.05, radius=1.0, sigma=1.0)

    def attacked(tested):
        rank = alarm_rank(size, tested)
        law = beta(size + 1 - rank, rank)
        integrand = lambda u: norm.sf(norm.isf(law.isf(u)) - 1)  # noqa: E731
        return quad(integrand, 0, 1, limit=200, points=[0.01, 0.99])[0]

    assert attacked(level) <= 0.05
    assert size < 100_000 or attacked(level) > 0.0495  # tight: nothing is given away
    assert attacked(0.05) > 0.2  # the mutant tests at the target itself


def attacked_alarms(level: float, runs: int, spread: float) -> float:
    """Literal p-values of inputs N(0, spread^2), one noise each, the new input moved up by R = sigma = .5."""
    rng, alarms, sigma, size = np.random.default_rng(29), 0, 0.5, 300
    for _ in range(runs):
        scores = spread * rng.normal(size=size + 1) + sigma * rng.normal(size=size + 1)
        alarms += p_value(np.sort(scores[:-1]), scores[-1] + sigma) <= level
    return alarms / runs


@pytest.mark.parametrize("spread", [0.0, 0.5])
def test_alarms_of_one_noisy_pass_under_attack(spread):
    """FAR <= a under any attack <= R; the mutant tests at a itself. Limits at a false-alarm rate of 1e-6."""
    limit = binom.isf(1e-6, 3000, 0.05) / 3000
    assert 0 < attacked_alarms(level_of(0.05, radius=0.5, sigma=0.5), 3000, spread) <= limit
    assert attacked_alarms(0.05, 3000, spread) > limit


@pytest.mark.slow
def test_alarms_of_one_noisy_pass_under_attack_long():
    """Single-sample robust mode, 1e5 calibration sets and attacked inputs."""
    level = level_of(0.05, radius=0.5, sigma=0.5)
    for spread in (0.0, 0.5):
        found = attacked_alarms(level, 100_000, spread)
        print(f"\n1e5 attacked inputs, spread {spread}: {found:.4f} alarms at a = .05")
        assert 0 < found <= binom.isf(1e-6, 100_000, 0.05) / 100_000
