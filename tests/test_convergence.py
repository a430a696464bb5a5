"""Section 3 of the theory: bounds, the tight instance, the pitfall; and the figure that shows them."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tables import random_mdp, random_options

from experiments import convergence, registry, runner
from ra3sim import SMDP, OptionSet, solve, value_iteration
from ra3sim.envs import fourrooms, hallway_options
from theory.convergence import (
    error_from_below,
    published_error_bound,
    published_iterations,
    sharp_error_bound,
    sharp_iterations,
)

RATES = st.floats(0.01, 0.99)


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1))
def test_the_bounds_hold_on_random_options(seed):
    mdp = random_mdp(seed)
    smdp = SMDP.from_options(mdp, random_options(seed, mdp) | OptionSet.primitives(mdp))
    plan = solve(smdp, tolerance=1e-8)
    errors = np.abs(value_iteration(smdp, iterations=30, trace=True).trace - plan.values).max(1)
    sharp = sharp_error_bound(np.arange(31), smdp.gamma_bar, smdp.reward_bound)
    published = published_error_bound(np.arange(31), smdp.gamma_bar, smdp.reward_bound)
    assert (errors <= sharp + plan.value_bound).all()
    assert (sharp <= published * (1 + 1e-12)).all()
    epsilon = 0.1 * smdp.reward_bound
    enough = sharp_iterations(epsilon, smdp.gamma_bar, smdp.reward_bound)
    assert enough <= published_iterations(epsilon, smdp.gamma_bar, smdp.reward_bound)
    if enough <= 30:
        assert errors[enough] <= epsilon + plan.value_bound


@given(rate=RATES, reward=st.floats(0.01, 100))
def test_the_sharp_bound_is_attained_by_one_state_with_one_option(rate, reward):
    """There the error is γ̄^N R_max / (1 - γ̄) exactly, so that a rate any smaller would be wrong."""
    smdp = SMDP([[reward]], [[[rate]]])
    trace = value_iteration(smdp, iterations=20, trace=True).trace[:, 0]
    errors = reward / (1 - rate) - trace
    bound = sharp_error_bound(np.arange(21), smdp.gamma_bar, smdp.reward_bound)
    np.testing.assert_allclose(errors, bound, rtol=0, atol=1e-12 * bound[0])
    assert errors[3] > (1 + 1e-9) * (0.999 * rate) ** 3 * bound[0]


@given(rate=RATES, accuracy=st.floats(1e-9, 0.9))
def test_the_iterations_are_the_first_that_are_enough(rate, accuracy):
    epsilon = accuracy / (1 - rate)
    for error, count in ((sharp_error_bound, sharp_iterations), (published_error_bound, published_iterations)):
        enough = count(epsilon, rate, 1.0)
        assert error(enough, rate, 1.0) <= epsilon * (1 + 1e-9)
        assert error(enough - 1, rate, 1.0) > epsilon * (1 - 1e-9)


def test_a_single_primitive_spoils_the_rate_but_not_the_way_from_below():
    mdp = fourrooms((6, 8), 0.95)
    options = hallway_options(mdp)
    alone, both = (SMDP.from_options(mdp, o) for o in (options, options | OptionSet.primitives(mdp)))
    assert alone.gamma_bar < 0.9 < both.gamma_bar == pytest.approx(0.95)
    plan = solve(both, tolerance=1e-9)
    above = np.full(both.num_states, both.reward_bound / (1 - both.gamma_bar))

    def iterations(V_0, epsilon=1e-3):
        trace = value_iteration(both, V_0, iterations=200, trace=True).trace
        return int(np.argmax(np.abs(trace - plan.values).max(1) <= epsilon))

    assert iterations(None) < 20 < 80 < iterations(above)
    errors = np.abs(value_iteration(both, iterations=60, trace=True).trace - plan.values).max(1)
    policy = solve(alone).policy
    for chosen in (None, policy):
        bound = error_from_below(both, plan, np.zeros(both.num_states), 60, chosen)
        assert (errors <= bound + 2 * plan.value_bound).all()
    # The options' own policy explains the quick start, the optimal one (of primitives) does not.
    assert bound[10] < 0.1 * error_from_below(both, plan, np.zeros(both.num_states), 10)[10]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sharp_error_bound(1, 1.0, 1.0), r"gamma_bar: must lie in \[0, 1\), got 1.0"),
        (lambda: published_error_bound(1, -0.1, 1.0), "gamma_bar: must lie"),
        (lambda: sharp_iterations(0.0, 0.5, 1.0), "epsilon: must be positive, got 0.0"),
        (lambda: published_iterations(0.1, 0.5, np.inf), "reward_bound: must be finite"),
        (lambda: convergence.Config(discount=1.0), "discount: must lie"),
        (lambda: convergence.Config(accuracy=0.0), "accuracy: must lie"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_bound_from_below_refuses_a_start_from_above():
    smdp = SMDP([[1.0]], [[[0.5]]])
    with pytest.raises(ValueError, match=r"V_0: exceeds V\* in s=0; the bound is from below only"):
        error_from_below(smdp, solve(smdp), np.array([3.0]), 5)


def test_an_error_that_never_comes_within_epsilon_is_no_zero():
    assert convergence._first_within(np.array([2.0, 1.0, 0.5]), 1.0) == 1
    with pytest.raises(RuntimeError, match=r"the error is 0\.5 after 2 iterations, above ε = 0\.1"):
        convergence._first_within(np.array([2.0, 1.0, 0.5]), 0.1)


def test_no_mass_at_all_needs_one_iteration():
    assert sharp_iterations(1e-9, 0.0, 1.0) == 1 and sharp_iterations(2.0, 0.0, 1.0) == 0


@pytest.mark.slow
def test_the_figure_and_its_table(tmp_path):
    config = convergence.Config.preset("smoke")
    plans = [runner.Plan(registry.load("convergence"), config, "a test")]
    written = runner.reproduce(plans, tmp_path / "out", tmp_path / "runs", 1, False)
    names = {path.name for path in written}
    pictures = {"convergence.pdf", "convergence.png"}
    assert names >= pictures | {"convergence.csv", "convergence-table.csv", "convergence-table.md"}
    assert (tmp_path / "out" / "convergence.png").stat().st_size > 20_000
    with open(tmp_path / "out" / "convergence-table.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["environment"] for row in rows} == {"chain", "FourRooms", "Taxi", "FrozenLake", "pitfall"}
    for row in rows:
        assert int(row["N measured"]) <= int(row["N sharp"]) <= int(row["N published"])
        assert 0 < float(row["largest error / sharp bound"]) <= 1 and float(row["V*_A − V*_Z' at start"]) >= 0
    by_space = {row["decision space"]: row for row in rows if row["environment"] == "pitfall"}
    assert int(by_space["both"]["N from above"]) > 5 * int(by_space["both"]["N measured"])
    with open(tmp_path / "out" / "convergence.csv", encoding="utf-8") as file:
        assert all(float(row["error from 0"]) <= float(row["sharp"]) + 1e-8 for row in csv.DictReader(file))
