"""Policies over latents: exact value against enumeration, the best one against search, and the cost of not seeing.

A causal policy sees all before a_t; the posterior also sees a_t and what follows.
"""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import (
    KINDS,
    STARTS,
    enumerated_value,
    prior_start,
    random_model,
    random_table,
    random_trajectories,
)

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import (
    Contexts,
    LatentModel,
    LatentPolicy,
    Trajectories,
    best_causal,
    best_path,
    evaluate_policy,
    expect,
    histories,
    log_likelihood,
    posterior_policy,
    state_contexts,
)

# Four trajectories that share beginnings: the same state and action first, then all kinds of ends.
SHARED = Trajectories.from_pairs(
    [([0, 1, 0], [0, 1, 0]), ([0, 1, 1], [0, 1, 1]), ([0, 1], [1, 1]), ([0, 1, 0], [0, 0, 1]), ([1], [0])], 2, 2
)


def shared_model(seed, kind, start=None, latents=2):
    return random_model(seed, kind, start, latents, states=2, actions=2)


def test_histories_are_all_that_was_seen_before():
    for seed in range(3):
        many = random_trajectories(seed, (4, 3, 4, 1, 5, 2, 4, 4), states=2, actions=2)
        found = histories(many)
        seen = {}
        for i in range(len(many)):
            past = ()
            for t, (s, a) in enumerate(zip(*many[i], strict=True)):
                past += (int(s),)
                row = many.offsets[i] + t
                assert seen.setdefault(past, found.index[row]) == found.index[row]
                assert found.depth[found.index[row]] == t
                past += (int(a),)
        assert len(set(seen.values())) == len(seen) == found.count == len(found.depth)
        assert sorted(seen.values()) == list(range(found.count))


def test_states_as_contexts():
    many = random_trajectories(0)
    found = state_contexts(many)
    np.testing.assert_array_equal(found.index, many.states)
    assert found.count == 3 and found.depth is None


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("see", [histories, state_contexts])
def test_the_value_of_a_policy_and_its_gradient_are_sums_over_sequences(kind, start, see):
    model, trajectories = random_model(0, kind, start), random_trajectories(0, (3, 1, 3, 2), states=3)
    contexts = see(trajectories)
    table = random_table(np.random.default_rng(1), contexts.count, 3, zeros=0.2)
    exact, kl, slope = enumerated_value(model, trajectories, table, contexts.index)
    found = evaluate_policy(model, trajectories, table, contexts, gradient=True)
    np.testing.assert_allclose(found.elbo, exact, rtol=1e-11)
    np.testing.assert_allclose(found.kl, kl, rtol=1e-11, atol=1e-13)
    logits = table * (found.gradient - (table * found.gradient).sum(-1, keepdims=True))
    np.testing.assert_allclose(logits, slope, rtol=1e-9, atol=1e-12)
    assert evaluate_policy(model, trajectories, table, contexts).gradient is None


def test_the_value_where_the_policy_walks_into_the_impossible():
    policy = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    trajectories = Trajectories.from_pairs([([0, 0], [0, 1]), ([0], [0])], 1, 2)
    contexts = state_contexts(trajectories)
    model = LatentModel(policy, TemporalPrior(2, 0.5))
    uniform = np.full((1, 3, 2), 0.5)
    assert evaluate_policy(model, trajectories, uniform, contexts).elbo.tolist() == [
        -np.inf,
        pytest.approx(-np.log(2) / 2),
    ]
    safe = uniform.copy()
    safe[0, :] = [0.0, 1.0]
    found = evaluate_policy(model, trajectories, safe, contexts, gradient=True)
    assert np.isfinite(found.elbo).all() and np.isfinite(found.gradient).all()
    np.testing.assert_allclose(found.elbo, enumerated_value(model, trajectories, safe, contexts.index)[0])
    # What the prior excludes, a policy must not do either.
    fixed = LatentModel(policy, TemporalPrior(2, 1.0, start=0))
    assert evaluate_policy(fixed, trajectories, safe, contexts).elbo[1] == -np.inf


def test_bad_policies_are_refused():
    model, trajectories = random_model(0), random_trajectories(0)
    contexts = state_contexts(trajectories)
    for bad in (np.full((3, 3, 3), 1 / 3), np.full((2, 4, 3), 1 / 3), np.full((3, 4, 3), 0.5), np.ones((3, 4))):
        with pytest.raises(ValueError, match="policy"):
            evaluate_policy(model, trajectories, bad, contexts)
    with pytest.raises(ValueError, match="trajectories: over"):
        evaluate_policy(random_model(0, states=4), trajectories, np.full((3, 4, 3), 1 / 3), contexts)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", ["temporal", "option"])
def test_the_bound_of_the_posterior_is_the_log_likelihood(kind, start):
    for seed, zeros in ((0, 0.0), (1, 0.3), (2, 0.3)):
        model, trajectories = random_model(seed, kind, start, zeros=zeros), random_trajectories(seed, (9, 1, 4, 30))
        trajectories = trajectories.subset(np.flatnonzero(np.isfinite(log_likelihood(model, trajectories))))
        policy, contexts = posterior_policy(model, trajectories)
        found = evaluate_policy(model, trajectories, policy, contexts)
        np.testing.assert_allclose(found.elbo, log_likelihood(model, trajectories), rtol=1e-10)
        # The expected likelihood under it is that under the posterior.
        fit = (expect(model, trajectories).statistics.counts * np.log(np.maximum(model.policy, 1e-300))).sum()
        np.testing.assert_allclose((found.elbo + found.kl).sum(), fit, rtol=1e-10)
    with pytest.raises(ValueError, match="best_path"):
        posterior_policy(random_model(0, "price"), random_trajectories(0))


@given(
    seed=st.integers(0, 10**6), kind=st.sampled_from(["temporal", "option"]), start=st.sampled_from(STARTS),
    zeros=st.sampled_from([0.0, 0.4]),
)  # fmt: skip
@settings(max_examples=40)
def test_no_policy_has_a_bound_above_the_log_likelihood(seed, kind, start, zeros):
    model, trajectories = random_model(seed, kind, start, zeros=zeros / 2), random_trajectories(seed, (5, 1, 8))
    total = log_likelihood(model, trajectories)
    rng = np.random.default_rng(seed)
    every_step = Contexts(np.arange(trajectories.num_steps), trajectories.num_steps)
    for contexts in (histories(trajectories), state_contexts(trajectories), every_step):
        table = random_table(rng, contexts.count, 3, zeros)
        assert (evaluate_policy(model, trajectories, table, contexts).elbo <= total + 1e-10).all()
    if np.isfinite(total).all():
        assert (best_causal(model, trajectories).elbo <= total + 1e-10).all()


def ascend(model, trajectories, contexts, policy, steps=1500, rate=1.0):
    """Gradient ascent on logits of every row, by the gradient of `evaluate_policy`."""
    logits = np.log(policy)
    for _ in range(steps):
        policy = np.exp(logits - np.logaddexp.reduce(logits, -1, keepdims=True))
        slope = evaluate_policy(model, trajectories, policy, contexts, gradient=True).gradient
        logits = logits + rate * policy * (slope - (policy * slope).sum(-1, keepdims=True))
    return evaluate_policy(model, trajectories, policy, contexts).elbo.sum()


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", None), ("option", 1)])
def test_the_best_causal_policy_is_where_gradient_ascent_ends(kind, start):
    model = shared_model(0, kind, start)
    best = best_causal(model, SHARED)
    contexts = histories(SHARED)
    np.testing.assert_allclose(best.elbo, enumerated_value(model, SHARED, best.policy, contexts.index)[0], rtol=1e-11)
    for seed in range(3):
        first = random_table(np.random.default_rng(seed), contexts.count, 2)
        assert ascend(model, SHARED, contexts, first) == pytest.approx(best.elbo.sum(), abs=1e-7)
    # Its gradient vanishes.
    slope = evaluate_policy(model, SHARED, best.policy, contexts, gradient=True).gradient
    slope = best.policy * (slope - (best.policy * slope).sum(-1, keepdims=True))
    np.testing.assert_allclose(slope, 0.0, atol=1e-12)


@given(seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), start=st.sampled_from(STARTS))
@settings(max_examples=40)
def test_no_causal_policy_is_better_than_the_best(seed, kind, start):
    model, trajectories = random_model(seed, kind, start), random_trajectories(seed % 50, (4, 3, 4, 2, 4))
    best = best_causal(model, trajectories)
    rng = np.random.default_rng(seed)
    for share in (1.0, 0.3, 0.01):
        other = (1 - share) * best.policy + share * random_table(rng, best.contexts.count, 3)
        found = evaluate_policy(model, trajectories, other, best.contexts).elbo
        assert found.sum() <= best.elbo.sum() + 1e-10
    # One that sees the state alone is a causal policy too; one that sees all is none, and at least as good.
    by_state = random_table(rng, 3, 3)
    found = evaluate_policy(model, trajectories, by_state, state_contexts(trajectories)).elbo
    assert found.sum() <= best.elbo.sum() + 1e-10
    seen = best_path(model, trajectories)[1] if kind == "price" else log_likelihood(model, trajectories)
    assert (best.elbo <= seen + 1e-10).all()


@pytest.mark.parametrize("start", [None, 1])
@pytest.mark.parametrize("seed,price", [(0, 0.3), (1, 0.1), (2, 0.05), (3, 1.0)])
def test_the_best_policy_with_a_price_is_the_best_of_all_deterministic_ones(seed, price, start):
    model = LatentModel(shared_model(seed, "temporal").policy, ThoughtPrice(2, price, start))
    trajectories = Trajectories.from_pairs([([0, 1], [0, 1]), ([0, 1], [0, 0]), ([0, 1], [1, 1])], 2, 2)
    contexts = histories(trajectories)
    assert contexts.count == 3
    best = best_causal(model, trajectories)
    assert set(np.unique(best.policy)) <= {0.0, 1.0}
    values = []
    for choices in product(range(2), repeat=9):
        table = np.eye(2)[np.array(choices)].reshape(3, 3, 2)
        values.append(evaluate_policy(model, trajectories, table, contexts).elbo.sum())
    assert best.elbo.sum() == pytest.approx(max(values), rel=1e-12)
    exact = enumerated_value(model, trajectories, best.policy, contexts.index)
    np.testing.assert_allclose(best.elbo, exact[0], rtol=1e-12)


def test_a_thought_that_gains_nothing_is_not_had():
    same = np.repeat(random_model(0).policy[:1], 3, axis=0)
    for price in (0.0, 0.5, np.inf):
        model = LatentModel(same, ThoughtPrice(3, price, start=2))
        trajectories = random_trajectories(0)
        best = best_causal(model, trajectories)
        assert (best.policy[:, np.arange(3), np.arange(3)] == 1).all()
        np.testing.assert_allclose(evaluate_policy(model, trajectories, best.policy, best.contexts).kl, 0.0)


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", 1)])
def test_the_gap_is_the_expected_divergence_from_the_posterior(kind, start):
    """log p(a) - ELBO(q) = Σ_t E_q KL(q(.|h, z_{t-1}) ‖ p(.|z_{t-1}, a_t, ...)), summed over steps by enumeration."""
    model, trajectories = shared_model(3, kind, start), SHARED
    best, (posterior, _) = best_causal(model, trajectories), posterior_policy(model, trajectories)
    total = log_likelihood(model, trajectories)
    for i in range(len(trajectories)):
        gap, reached = 0.0, np.zeros(3)
        reached[prior_start(model)] = 1.0
        for row in range(trajectories.offsets[i], trajectories.offsets[i + 1]):
            q = best.policy[best.contexts.index[row]]
            gap += (reached[:, None] * q * np.log(q / posterior[row])).sum()
            reached = np.append(reached @ q, 0.0)
        assert total[i] - best.elbo[i] == pytest.approx(gap, abs=1e-12)
    assert (total - best.elbo).sum() > 1e-3


def test_with_nothing_to_foresee_the_best_causal_policy_is_the_posterior():
    """If every history goes on in one way only, a policy of histories sees all but a_t itself; one action: all."""
    model = random_model(0, "option", actions=1)
    trajectories = random_trajectories(1, (5, 3), actions=1)
    np.testing.assert_allclose(best_causal(model, trajectories).elbo, 0.0, atol=1e-12)
    # A single trajectory is known by heart: the policy of its histories is the posterior.
    model, one = random_model(0, "option"), random_trajectories(2, (12,))
    np.testing.assert_allclose(best_causal(model, one).elbo, log_likelihood(model, one), rtol=1e-12)


def test_copies_of_a_trajectory_change_nothing():
    model = shared_model(1, "temporal")
    once, twice = best_causal(model, SHARED), best_causal(model, SHARED.subset([0, 1, 2, 3, 4, 4, 3, 2, 1, 0]))
    np.testing.assert_allclose(twice.elbo, np.concatenate([once.elbo, once.elbo[::-1]]), rtol=1e-12)


@pytest.mark.parametrize("prior", [TemporalPrior(1, 0.3), ThoughtPrice(1, 2.0), TemporalPrior(1, 1.0, 0)])
def test_one_latent_leaves_nothing_to_choose(prior):
    model, trajectories = LatentModel(random_model(0).policy[:1], prior), random_trajectories(0)
    fits = np.add.reduceat(
        np.log(model.policy[0, trajectories.states, trajectories.actions]), trajectories.offsets[:-1]
    )
    np.testing.assert_allclose(best_causal(model, trajectories).elbo, fits)


@pytest.mark.parametrize("start", STARTS)
def test_alpha_at_its_ends(start):
    policy, trajectories = random_model(5).policy, random_trajectories(5, (4, 4, 3, 4))
    forgetful = best_causal(LatentModel(policy, TemporalPrior(3, 0.0, start)), trajectories)
    # Nothing ties the latents of two steps: all rows of a context are alike.
    rows = forgetful.policy if start is None else forgetful.policy[:, :3]
    np.testing.assert_allclose(rows, np.broadcast_to(rows[:, :1], rows.shape), atol=1e-12)
    persistent = best_causal(LatentModel(policy, TemporalPrior(3, 1.0, start)), trajectories)
    assert np.isfinite(persistent.elbo).all()
    later = np.setdiff1d(np.arange(persistent.contexts.count), persistent.contexts.index[trajectories.offsets[:-1]])
    np.testing.assert_array_equal(persistent.policy[later][:, :3], np.broadcast_to(np.eye(3), (len(later), 3, 3)))
    if start is not None:
        total = log_likelihood(LatentModel(policy, TemporalPrior(3, 1.0, start)), trajectories)
        np.testing.assert_allclose(persistent.elbo, total)


def test_latents_that_some_trajectory_excludes_are_avoided():
    """Latent 0 cannot explain one of two ends of the same history: any weight on it would cost an infinite bound."""
    policy = np.array([[[1.0, 0.0]], [[0.5, 0.5]]])
    trajectories = Trajectories.from_pairs([([0, 0], [0, 0]), ([0, 0], [0, 1])], 1, 2)
    for prior in (TemporalPrior(2, 0.5), ThoughtPrice(2, 0.1), TemporalPrior(2, 0.5, 0)):
        best = best_causal(LatentModel(policy, prior), trajectories)
        assert np.isfinite(best.elbo).all()
        assert (best.policy[best.contexts.index[1], :, 0] == 0).all()
    # Where latents stay for good, the right one is taken from the first step on.
    for prior in (TemporalPrior(2, 1.0), ThoughtPrice(2, np.inf)):
        best = best_causal(LatentModel(policy, prior), trajectories)
        assert best.policy[best.contexts.index[0], 2].tolist() == [0.0, 1.0]
        first = 0.0 if isinstance(prior, ThoughtPrice) else -np.log(2)
        np.testing.assert_allclose(best.elbo, first - 2 * np.log(2))
    hopeless = LatentModel(np.array([[[1.0, 0.0]], [[0.0, 1.0]]]), TemporalPrior(2, 0.5))
    assert not np.isfinite(best_causal(hopeless, trajectories).elbo).all()


def test_exact_ascent_by_pullback_reaches_the_best():
    """The logits of `LatentPolicy` (whether, what) can express the best causal policy, and ascent finds it."""
    for model in (shared_model(0, "temporal"), shared_model(1, "option", 1)):
        best = best_causal(model, SHARED)
        policy = LatentPolicy.from_prior(model, SHARED, best.contexts)
        for _ in range(1500):
            slope = evaluate_policy(model, SHARED, policy.table(), best.contexts, gradient=True).gradient
            policy = policy.moved(policy.pullback(slope), 1.0)
        found = evaluate_policy(model, SHARED, policy.table(), best.contexts).elbo.sum()
        assert found <= best.elbo.sum() + 1e-12
        assert found == pytest.approx(best.elbo.sum(), abs=1e-7)
