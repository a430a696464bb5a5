"""pass@k is what it says: held against counting all subsets, in fractions; intervals cover what they should."""

from fractions import Fraction
from itertools import combinations

import numpy as np
import pytest

from llm.passk import difference, interval, pass_at_k


def counted(n, c, k):
    """Share of the subsets of k of n samples, c of which pass, that hold one that passes."""
    subsets = list(combinations([place < c for place in range(n)], k))
    return Fraction(sum(map(any, subsets)), len(subsets))


@pytest.mark.parametrize("n", range(1, 9))
def test_it_is_the_share_of_subsets_that_hold_a_pass(n):
    for k in range(1, n + 1):
        found = pass_at_k([n] * (n + 1), range(n + 1), k)
        exact = [counted(n, c, k) for c in range(n + 1)]
        assert [Fraction(float(value)).limit_denominator(1000) for value in found] == exact
        np.testing.assert_allclose(found, [float(one) for one in exact], rtol=0, atol=1e-15)


def test_problems_may_have_different_numbers_of_samples():
    found = pass_at_k([5, 8, 2], [2, 3, 2], 2)
    np.testing.assert_allclose(found, [float(counted(n, c, 2)) for n, c in ((5, 2), (8, 3), (2, 2))])


def test_it_is_unbiased():
    """Over all outcomes of n samples of a model that passes with probability p, the mean is 1 - (1 - p)^k, exactly."""
    p, n = Fraction(3, 10), 6
    for k in (1, 3, 6):
        mean = Fraction(0)
        for outcome in range(2**n):
            c = outcome.bit_count()
            mean += p**c * (1 - p) ** (n - c) * counted(n, c, k)
        assert mean == 1 - (1 - p) ** k
        values = pass_at_k([n] * (n + 1), range(n + 1), k)
        weights = np.bincount([outcome.bit_count() for outcome in range(2**n)]) * np.array(
            [float(p**c * (1 - p) ** (n - c)) for c in range(n + 1)]
        )
        assert weights @ values == pytest.approx(float(mean), abs=1e-14)


def test_many_samples_lose_no_digits():
    """1 - C(n - c, k) / C(n, k) for numbers whose binomials overflow floats."""
    exact = 1 - Fraction(1)
    product = Fraction(1)
    for i in range(1000):
        product *= Fraction(9990 - i, 10000 - i)
    exact = 1 - product
    assert pass_at_k([10000], [10], 1000)[0] == pytest.approx(float(exact), abs=1e-12)


@pytest.mark.parametrize(
    "arguments,message",
    [
        (([3, 1], [1, 0], 2), r"k: pass@2 needs 2 samples of each problem, but 1 of 2 have fewer \(1 at least\)"),
        (([3], [1], 0), "k: must be at least 1"),
        (([3], [4], 1), "passed: from 0"),
        (([3], [-1], 1), "passed: from 0"),
        (([], [], 1), "samples: one number for each problem"),
        (([3, 3], [1], 1), "samples: one number for each problem"),
        (([3.0], [1.0], 1), "samples: whole numbers"),
    ],
)
def test_what_is_no_estimate_is_refused(arguments, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        pass_at_k(*arguments)


def test_intervals_cover_the_mean_about_as_often_as_they_say():
    rng = np.random.default_rng(0)
    hits, runs = 0, 300
    for seed in range(runs):
        values = rng.beta(0.5, 0.7, 80)
        found = interval(values, seed, draws=1000)
        hits += found.low <= 0.5 / 1.2 <= found.high
        assert found.low <= found.value <= found.high
    assert 0.90 < hits / runs < 0.98


def test_the_interval_is_that_of_the_mean():
    values = np.random.default_rng(1).random(400)
    found = interval(values, 3)
    error = values.std() / 20
    assert found.value == values.mean()
    assert (found.low, found.high) == pytest.approx(
        (values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.002
    )
    assert found == interval(values, 3) != interval(values, 4)
    wider = interval(values, 3, level=0.99)
    assert wider.low < found.low and wider.high > found.high


def test_a_paired_difference_is_sharper_than_two_intervals():
    rng = np.random.default_rng(2)
    hard = rng.random(200)
    one, other = hard, np.clip(hard + 0.03 + 0.01 * rng.standard_normal(200), 0, 1)
    found = difference(one, other, seed=0)
    assert found.value == pytest.approx((other - one).mean())
    assert 0 < found.low < found.high
    alone = interval(other, 0)
    assert found.high - found.low < 0.1 * (alone.high - alone.low)
    swapped = difference(other, one, seed=0)
    assert swapped.value == -found.value and swapped.high < 0


@pytest.mark.parametrize("values", [[], [[0.5]], [0.5, np.nan]])
def test_missing_values_are_refused(values):
    with pytest.raises(ValueError, match=r"^values: one finite number for each problem"):
        interval(np.array(values), 0)


def test_other_problems_are_no_pair():
    with pytest.raises(ValueError, match=r"^other: of the same problems"):
        difference(np.zeros(3), np.zeros(4), 0)
    with pytest.raises(ValueError, match=r"^level: must lie between 0 and 1"):
        interval(np.zeros(3), 0, level=1.0)
