"""Policies over latents as logits: the table of probabilities and back, and gradients against finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import KINDS, STARTS, logit_differences, random_model, random_table, random_trajectories, step_prior

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import LatentModel, LatentPolicy, evaluate_policy, histories, state_contexts


def random_policy(seed, contexts=2, latents=3):
    rng = np.random.default_rng(seed)
    what = rng.normal(size=(contexts, latents + 1, latents))
    if latents > 1:
        what[:, np.arange(latents), np.arange(latents)] = -np.inf
    return LatentPolicy(rng.normal(size=(contexts, latents)), what)


@given(seed=st.integers(0, 10**6), latents=st.integers(1, 4), zeros=st.sampled_from([0.0, 0.4, 0.8]))
@settings(max_examples=40)
def test_a_table_comes_back(seed, latents, zeros):
    table = random_table(np.random.default_rng(seed), 3, latents, zeros)
    policy = LatentPolicy.from_table(table)
    np.testing.assert_allclose(policy.table(), table, rtol=1e-12, atol=1e-15)
    if latents > 1:
        kappa = 1 - table[:, np.arange(latents), np.arange(latents)]
        np.testing.assert_allclose(policy.think_prob()[:, :latents], kappa, rtol=1e-12, atol=1e-15)


def test_tables_at_the_ends_come_back_exactly():
    """Always keep, always think, never one of the thoughts: logits are infinite, and nothing is lost."""
    tables = np.array([np.vstack([np.eye(3), np.eye(3)[:1]]), np.vstack([np.eye(3)[[1, 2, 0]], np.eye(3)[2:]])])
    policy = LatentPolicy.from_table(tables)
    np.testing.assert_array_equal(policy.table(), tables)
    assert policy.think_prob()[0].tolist() == [0, 0, 0, 1] and policy.think_prob()[1].tolist() == [1, 1, 1, 1]
    slope = np.random.default_rng(0).normal(size=tables.shape)
    moved = policy.moved(policy.pullback(slope), 0.5)
    np.testing.assert_array_equal(moved.table(), tables)  # where κ is 0 or 1 there is no way back


@pytest.mark.parametrize("floor", [0.0, 0.3])
def test_thinking_and_what_is_thought(floor):
    policy = random_policy(0)
    kappa = floor + (1 - floor) / (1 + np.exp(-policy.whether))
    np.testing.assert_allclose(policy.think_prob(floor)[:, :3], kappa)
    assert (policy.think_prob(floor)[:, 3] == 1).all()
    table = policy.table(floor)
    np.testing.assert_allclose(table.sum(-1), 1, rtol=1e-14)
    for c in range(2):
        for y in range(4):
            weights = np.array([0.0 if z == y else np.exp(policy.what[c, y, z]) for z in range(3)])
            row = weights / weights.sum()
            if y < 3:
                row = kappa[c, y] * row + (1 - kappa[c, y]) * np.eye(3)[y]
            np.testing.assert_allclose(table[c, y], row)
    np.testing.assert_allclose(np.exp(policy.log_what()).sum(-1), 1)


def test_a_floor_lets_a_policy_that_never_thinks_think():
    policy = LatentPolicy.from_table(np.concatenate([np.eye(3), np.full((1, 3), 1 / 3)])[None])
    table = policy.table(0.2)
    np.testing.assert_allclose(table[0, :3], 0.8 * np.eye(3) + 0.1 * (1 - np.eye(3)))
    np.testing.assert_allclose(table[0, 3], 1 / 3)


@pytest.mark.parametrize("floor", [0.0, 0.5])
def test_one_latent_is_kept(floor):
    policy = LatentPolicy.from_table(np.ones((2, 2, 1)))
    assert policy.num_latents == 1
    np.testing.assert_array_equal(policy.table(floor), np.ones((2, 2, 1)))
    np.testing.assert_array_equal(policy.think_prob(floor), [[0, 1], [0, 1]])
    slope = policy.pullback(np.full((2, 2, 1), 3.0))
    assert not slope.whether.any() and not slope.what.any()


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("see", [histories, state_contexts])
def test_the_prior_as_a_policy(kind, start, see):
    model, trajectories = random_model(1, kind, start), random_trajectories(1, (5, 2, 4))
    assert set(trajectories.states) == {0, 1, 2}
    contexts = see(trajectories)
    table = LatentPolicy.from_prior(model, trajectories, contexts).table()
    for row, s in zip(contexts.index, trajectories.states, strict=True):
        exact = [[step_prior(model, s, y, z) for z in range(3)] for y in range(4)]
        np.testing.assert_allclose(table[row], exact, rtol=1e-12)
    if kind != "price":
        np.testing.assert_allclose(evaluate_policy(model, trajectories, table, contexts).kl, 0.0, atol=1e-13)


def test_the_prior_as_a_policy_of_states_that_were_never_seen():
    """A policy of states can be used on other trajectories, so it must be the prior everywhere."""
    model = random_model(1, "option")
    few = random_trajectories(1, (3,)).merge([2, 2, 2])
    table = LatentPolicy.from_prior(model, few, state_contexts(few)).table()
    exact = [[[step_prior(model, s, y, z) for z in range(3)] for y in range(4)] for s in range(3)]
    np.testing.assert_allclose(table, exact, rtol=1e-12)


@pytest.mark.parametrize("prior", [TemporalPrior(3, 1.0), ThoughtPrice(3, np.inf, 1), TemporalPrior(3, 0.0)])
def test_the_prior_at_its_ends_as_a_policy(prior):
    trajectories = random_trajectories(0)
    model = LatentModel(random_model(0).policy, prior)
    table = LatentPolicy.from_prior(model, trajectories, histories(trajectories)).table()
    kept = np.eye(3) if getattr(prior, "keep", 1.0) == 1 else np.full((3, 3), 1 / 3)
    np.testing.assert_allclose(table, np.broadcast_to(np.vstack([kept, np.full((1, 3), 1 / 3)]), table.shape))


def test_the_prior_with_one_latent_as_a_policy():
    trajectories = random_trajectories(0)
    model = LatentModel(random_model(0).policy[:1], TemporalPrior(1, 0.5))
    table = LatentPolicy.from_prior(model, trajectories, state_contexts(trajectories)).table(0.1)
    np.testing.assert_array_equal(table, np.ones((3, 2, 1)))


@pytest.mark.parametrize("latents", [2, 3])
def test_the_pullback_of_a_linear_function(latents):
    policy = random_policy(2, latents=latents)
    slope = np.random.default_rng(3).normal(size=policy.what.shape)
    whether, what = logit_differences(policy, lambda other: (other.table() * slope).sum())
    found = policy.pullback(slope)
    np.testing.assert_allclose(found.whether, whether, atol=1e-8)
    np.testing.assert_allclose(found.what, what, atol=1e-8)


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", 1), ("price", None), ("price", 1)])
def test_the_pullback_of_the_bound(kind, start):
    model, trajectories = random_model(4, kind, start), random_trajectories(4, (3, 2, 4))
    contexts = histories(trajectories)
    policy = random_policy(5, contexts.count)
    value = lambda other: evaluate_policy(model, trajectories, other.table(), contexts).elbo.sum()  # noqa: E731
    whether, what = logit_differences(policy, value, 1e-5)
    slope = evaluate_policy(model, trajectories, policy.table(), contexts, gradient=True).gradient
    found = policy.pullback(slope)
    np.testing.assert_allclose(found.whether, whether, atol=1e-7)
    np.testing.assert_allclose(found.what, what, atol=1e-7)


def test_a_step_adds_to_the_logits():
    one, two = random_policy(0), LatentPolicy(np.ones((2, 3)), np.full((2, 4, 3), 2.0))
    moved = one.moved(two, 0.25)
    np.testing.assert_allclose(moved.whether, one.whether + 0.25)
    np.testing.assert_allclose(moved.what, one.what + 0.5)
