"""What ten alternating pairs say of a loss: the interval is the exact one of the median."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks.pairs import interval


@pytest.mark.parametrize(("count", "place"), [(6, 0), (8, 0), (9, 1), (10, 1), (20, 5)])
def test_the_interval_is_between_the_order_statistics_of_the_sign_test(count, place):
    """Places from the published tables of the sign test at 5 %, both sides."""
    values = [float(i) for i in range(count)]
    assert interval(values) == (place, count - 1 - place)


def test_fewer_than_six_pairs_say_nothing():
    assert interval([2.0] * 5) == (-math.inf, math.inf)


def test_the_interval_holds_the_median_as_often_as_it_says():
    """10,000 samples of a skew law: 97.85 % expected, 95 % promised; five standard errors off once in a million runs."""
    samples = np.sort(np.random.default_rng(5).exponential(size=(10_000, 10)), axis=1)
    inside = np.mean([low <= math.log(2) <= high for low, high in map(interval, samples.tolist())])
    assert abs(inside - 0.9785) < 5 * 0.00145
