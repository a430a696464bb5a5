"""The temporal prior, the fixed price, and how the one stands for the other."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from libraries import LIBRARIES, library

from ra3sim.abstraction import TemporalPrior, ThoughtPrice

KEEPS = st.floats(0, 1)
LATENTS = st.integers(2, 50)


@given(latents=st.integers(1, 50), keep=KEEPS)
def test_the_matrix_is_the_published_one(latents, keep):
    prior = TemporalPrior(latents, keep)
    matrix = np.array([[keep * (i == j) + (1 - keep) / latents for j in range(latents)] for i in range(latents)])
    np.testing.assert_allclose(prior.matrix(), matrix, rtol=1e-14)
    np.testing.assert_allclose(prior.matrix().sum(1), 1, rtol=1e-13)
    new = matrix[0, 1:].sum()
    assert prior.think_rate == pytest.approx(new, rel=1e-12, abs=1e-300)
    assert prior.think_rate < 1
    assert prior.log_keep == pytest.approx(math.log(matrix[0, 0]), abs=1e-13)
    assert math.exp(prior.log_think) == pytest.approx(matrix[0, 1] if latents > 1 else 0.0, rel=1e-12)


def test_the_start():
    free, fixed = TemporalPrior(4, 0.5), TemporalPrior(4, 0.5, start=2)
    np.testing.assert_array_equal(free.first(), [0.25] * 4)
    assert free.log_first == -math.log(4)
    np.testing.assert_array_equal(fixed.first(), [0.125, 0.125, 0.625, 0.125])
    assert ThoughtPrice(4, 1.0).log_first == 0
    for prior in (fixed, ThoughtPrice(4, 1.0, start=0)):
        with pytest.raises(ValueError, match="start: fixed at"):
            _ = prior.log_first


def test_limits():
    never, one = TemporalPrior(3, 1.0), TemporalPrior(1, 0.3)
    for prior in (never, one):
        assert (prior.think_rate, prior.log_keep, prior.log_think, prior.price) == (0.0, 0.0, -math.inf, math.inf)
    assert ThoughtPrice(3, 0.0).temporal() == TemporalPrior(3, 0.0)
    assert ThoughtPrice(3, math.inf, start=1).temporal() == TemporalPrior(3, 1.0, start=1)
    assert TemporalPrior(3, 0.0).price == 0


@given(latents=LATENTS, price=st.floats(0, 15))
def test_a_price_and_its_prior_have_the_same_odds(latents, price):
    prior = ThoughtPrice(latents, price).temporal()
    matrix = prior.matrix()
    assert matrix[0, 1] / matrix[0, 0] == pytest.approx(math.exp(-price), rel=1e-8)
    assert prior.price == pytest.approx(price, rel=1e-8, abs=1e-12)


@given(latents=LATENTS, keep=st.floats(0, 0.999))
def test_a_prior_and_its_price(latents, keep):
    assert ThoughtPrice(latents, TemporalPrior(latents, keep).price).temporal().keep == pytest.approx(keep, abs=1e-12)


@pytest.mark.parametrize("name", LIBRARIES)
def test_log_prob_in_every_library(name):
    think = np.array([[True, False], [False, True]])
    prior = TemporalPrior(3, 0.4)
    cost = ThoughtPrice(3, prior.price)
    with library(name) as lib:
        array = lib.put(think)
        double = lib.put(np.zeros(1)).dtype
        single = lib.put(np.zeros(1, np.float32)).dtype
        assert prior.log_prob(array, double).dtype == double
        assert cost.log_prob(array, dtype=single).dtype == single
        temporal = lib.call(prior.log_prob, think, dtype=double)
        fixed = lib.call(cost.log_prob, think, dtype=double)
        free = lib.call(ThoughtPrice(3, math.inf).log_prob, think)
    np.testing.assert_allclose(np.exp(temporal), np.where(think, 0.2, 0.6), rtol=1e-14)
    np.testing.assert_allclose(temporal - fixed, prior.log_keep, rtol=1e-12)
    np.testing.assert_array_equal(free, np.where(think, -np.inf, 0))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TemporalPrior(0, 0.5), "num_latents: must be at least 1"),
        (lambda: TemporalPrior(2.5, 0.5), "num_latents: must be a whole number"),
        (lambda: TemporalPrior(2, 1.5), r"keep: must lie in \[0, 1\]"),
        (lambda: TemporalPrior(2, -0.1), r"keep: must lie in \[0, 1\]"),
        (lambda: TemporalPrior(2, math.nan), r"keep: must lie in \[0, 1\]"),
        (lambda: TemporalPrior(2, "much"), "keep: must be a number"),
        (lambda: TemporalPrior(2, 0.5, start=2), r"start: must lie in 0\.\.1"),
        (lambda: TemporalPrior(2, 0.5, start=-1), r"start: must lie in 0\.\.1"),
        (lambda: ThoughtPrice(2, -1.0), "price: must be >= 0"),
        (lambda: ThoughtPrice(2, math.nan), "price: must be >= 0"),
        (lambda: ThoughtPrice(2, 1.0, start=0.5), "start: must be a whole number"),
        (lambda: TemporalPrior(2, 0.5).log_prob([True]), "think: must be an array"),
        (lambda: TemporalPrior(2, 0.5).log_prob(np.array([1.0])), "think: must be boolean"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
