"""The RA3 loop: unbiased gradients and weights, E-steps that come near the best, runs that resume digit by digit."""

import itertools
import json
import math

import numpy as np
import pytest
from agreement import assert_mean, z_limit
from bandit_world import BanditWorld
from latents import KINDS, draw_trajectories, logit_differences, random_model, random_trajectories

from ra3sim import em
from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.em import RA3, EStepResult, Exact, PolicyGradient, Posterior, RA3State, run_rollouts
from ra3sim.latent import (
    LatentModel,
    LatentPolicy,
    TableWorld,
    Trajectories,
    best_causal,
    best_path,
    count_path,
    evaluate_policy,
    expect,
    log_likelihood,
)

# Unequal lengths, shared beginnings.
FEW = Trajectories.from_pairs([([0, 1, 0], [0, 1, 0]), ([0, 1, 1], [0, 1, 1]), ([0, 1], [1, 1]), ([1], [0])], 2, 2)


def copies(trajectories, count):
    return trajectories.subset(np.tile(np.arange(len(trajectories)), count))


def world_and_policy(kind, start=None, seed=0, trajectories=FEW, latents=3, contexts="history"):
    """A table world, a model that is no optimum, and a policy over latents that is not its prior."""
    model = random_model(seed, kind, start, latents, trajectories.num_states, trajectories.num_actions)
    world = TableWorld(trajectories, model.prior, model=model, contexts=contexts)
    rng = np.random.default_rng(seed)
    policy = LatentPolicy.from_prior(model, trajectories, world.contexts)
    noise = LatentPolicy(rng.normal(size=policy.whether.shape), rng.normal(size=policy.what.shape))
    return world, model, policy.moved(noise, 0.7)


def seeds(count, of=0):
    return np.random.SeedSequence(of).spawn(count)


# ---- the policy gradient ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind,start,credit,floor,contexts",
    [
        ("temporal", None, "split", 0.0, "history"),
        ("temporal", None, "joint", 0.0, "history"),
        ("option", 1, "split", 0.0, "state"),
        ("price", None, "split", 0.0, "history"),
        ("price", 1, "joint", 0.0, "history"),
        ("temporal", 1, "split", 0.4, "history"),
        ("temporal", None, "joint", 0.4, "state"),
    ],
)
def test_the_policy_gradient_is_unbiased(kind, start, credit, floor, contexts):
    repeats, many, group = 250, 12, 4
    world, model, policy = world_and_policy(kind, start, trajectories=copies(FEW, many), contexts=contexts)
    estep = PolicyGradient(credit=credit, floor=floor)
    draws, bounds = [], []
    for seed in seeds(repeats):
        rollouts = world.rollouts(model, policy, None, group, seed, floor)
        steps, mask = run_rollouts(rollouts)
        rewards = estep.rewards(world, steps, mask)
        found, _ = world.gradient(policy, rollouts, *estep.advantages(rewards, steps, mask))
        draws.append(np.concatenate([found.whether.ravel(), found.what.ravel()]) / group / many)
        bounds.append(rewards.sum(-1).mean())
    value = lambda other: evaluate_policy(model, world.trajectories, other.table(floor), world.contexts).elbo  # noqa: E731
    assert_mean(np.mean(bounds), np.std(bounds) / math.sqrt(repeats), value(policy).mean(), tests=7)
    exact = np.concatenate([part.ravel() for part in logit_differences(policy, lambda q: value(q).sum(), 1e-5)]) / many
    if not floor:
        slope = evaluate_policy(model, world.trajectories, policy.table(), world.contexts, gradient=True).gradient
        analytic = policy.pullback(slope)
        np.testing.assert_allclose(np.append(analytic.whether, analytic.what) / many, exact, atol=1e-8)
    draws = np.array(draws)
    error = draws.std(0) / math.sqrt(repeats)
    assert (np.abs(exact) > 5 * error).sum() >= 5, "the test would see nothing"
    assert (np.abs(draws.mean(0) - exact) <= z_limit(7 * exact.size) * error + 1e-8).all()


def test_the_number_of_visits():
    world, model, policy = world_and_policy("temporal")
    rollouts = world.rollouts(model, policy, None, 5, np.random.SeedSequence(0))
    _, mask = run_rollouts(rollouts)
    zero = np.zeros(rollouts.latents.shape)
    gradient, visits = world.gradient(policy, rollouts, zero, zero)
    assert not gradient.whether.any() and not gradient.what.any()
    assert visits.sum() == 5 * FEW.num_steps and mask.sum() == FEW.num_steps
    np.testing.assert_array_equal(visits.sum(1), 5 * np.bincount(world.contexts.index))


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", 1), ("price", None), ("temporal", 0)])
def test_rollouts_are_drawn_from_the_policy_and_scored_right(kind, start):
    floor = 0.2
    world, model, policy = world_and_policy(kind, start)
    steps, mask = run_rollouts(rollouts := world.rollouts(model, policy, None, 4000, np.random.SeedSequence(1), floor))
    table = policy.table(floor)
    tables = model.prior_tables()
    for i in range(len(FEW)):
        states, actions = FEW[i]
        for t, (s, a) in enumerate(zip(states, actions, strict=True)):
            z = rollouts.latents[i, :, t]
            y = rollouts.latents[i, :, t - 1] if t else np.full(z.shape, world.first_before)
            np.testing.assert_array_equal(steps.think[i, :, t], z != y)
            c = world.contexts.index[FEW.offsets[i] + t]
            np.testing.assert_allclose(steps.log_q[i, :, t], np.log(table[c, y, z]))
            np.testing.assert_allclose(steps.log_likelihood[i, :, t], np.log(model.policy[z, s, a]))
            ends, choice = tables[0][s], tables[1][s]
            prior = choice[z] if y[0] == 3 else ends[y] * choice[z] + (1 - ends[y]) * (y == z)
            np.testing.assert_allclose(steps.log_prior[i, :, t], np.log(prior))
            for before in np.unique(y):
                here = y == before
                share, exact = np.mean(z[here] == 0), table[c, before, 0]
                assert abs(share - exact) < 5 * math.sqrt(exact * (1 - exact) / here.sum()) + 1e-12
    assert (mask[:, 0].sum(1) == FEW.lengths).all() and steps.length is None


@pytest.mark.parametrize("kind,start,gap", [("temporal", None, 0.01), ("option", 1, 0.01), ("price", None, 0.01)])
def test_policy_gradient_comes_near_the_best_causal_policy(kind, start, gap):
    world, model, _ = world_and_policy(kind, start, latents=2)
    best = best_causal(model, FEW).elbo.mean()
    policy = LatentPolicy.from_prior(model, FEW, world.contexts)
    first = evaluate_policy(model, FEW, policy.table(), world.contexts).elbo.mean()
    estep = PolicyGradient(group=48, updates=250, rate=2.0, anneal=True)
    found = estep.run(world, model, policy, None, 0, np.random.SeedSequence(0))
    bound = evaluate_policy(model, FEW, found.policy.table(), world.contexts).elbo.mean()
    assert bound <= best + 1e-12
    assert best - bound < gap < (best - first) / 3, (best - bound, best - first)
    assert abs(found.quantities["elbo"] - bound) < 0.3 and len(found.quantities["course"]) == 250


def test_normalised_and_joint_policy_gradients_improve_too():
    world, model, _ = world_and_policy("temporal", latents=2)
    best = best_causal(model, FEW).elbo.mean()
    policy = LatentPolicy.from_prior(model, FEW, world.contexts)
    first = evaluate_policy(model, FEW, policy.table(), world.contexts).elbo.mean()
    for knobs in ({"credit": "joint"}, {"normalise": True, "rate": 0.3}, {"horizon": "thought"}, {"floor": 0.1}):
        estep = PolicyGradient(**{"group": 24, "updates": 60, "anneal": True} | knobs)
        found = estep.run(world, model, policy, None, 0, np.random.SeedSequence(0))
        bound = evaluate_policy(model, FEW, found.policy.table(), world.contexts).elbo.mean()
        assert first + 0.5 * (best - first) < bound <= best + 1e-12, knobs


def test_whether_to_think_can_wait():
    world, model, policy = world_and_policy("temporal")
    estep = PolicyGradient(whether_after=2, updates=3)
    for iteration, waits in ((0, True), (1, True), (2, False)):
        found = estep.run(world, model, policy, None, iteration, np.random.SeedSequence(0)).policy
        assert (found.whether == policy.whether).all() == waits
        assert (found.what != policy.what).any()


@pytest.mark.parametrize("after,charges", [(0, [1, 1, 1]), (1, [0, 1, 1]), (4, [0, 0.25, 0.5, 0.75, 1, 1])])
def test_the_price_rises_to_its_height(after, charges):
    world, model, policy = world_and_policy("price", 1)
    thoughts_of = FEW.num_steps / len(FEW)
    for iteration, charge in enumerate(charges):
        estep = PolicyGradient(updates=0, price_after=after)
        found = estep.run(world, model, policy, None, iteration, np.random.SeedSequence(0)).quantities
        asked = charge * world.prior.price * found["think"] * thoughts_of
        assert found["elbo"] == pytest.approx(found["likelihood"] - asked, rel=1e-12)
    # What is trained is what is asked: as with a world where that is the price.
    estep = PolicyGradient(updates=2, price_after=after)
    one = estep.run(world, model, policy, None, len(charges) - 2, np.random.SeedSequence(0)).policy
    world.prior = ThoughtPrice(3, world.prior.price * charges[-2], start=1)
    two = PolicyGradient(updates=2).run(world, model, policy, None, 0, np.random.SeedSequence(0)).policy
    np.testing.assert_allclose(one.whether, two.whether, atol=1e-12)


def test_an_infinite_price_is_asked_from_its_start_only():
    world, model, policy = world_and_policy("price", 1)
    world.prior = ThoughtPrice(3, math.inf, start=1)
    estep = PolicyGradient(updates=1, price_after=1)
    assert math.isfinite(estep.run(world, model, policy, None, 0, np.random.SeedSequence(0)).quantities["elbo"])
    with pytest.raises(ValueError, match="whose reward is infinite"):
        estep.run(world, model, policy, None, 1, np.random.SeedSequence(0))


def test_a_bonus_is_part_of_the_reward():
    """One of -0.3 for each thought is a price that is higher by 0.3; after the end it may be anything."""
    world, model, policy = world_and_policy("price", 1)
    estep = PolicyGradient(updates=3)

    class Fined:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            return getattr(self.inner, name)

        def step(self, t):
            step = self.inner.step(t)
            return step._replace(bonus=np.where(self.inner.mask[:, [t]], -0.3 * step.think, np.nan))

    fined = TableWorld(FEW, world.prior, model=model)
    fined.rollouts = lambda *args: Fined(world.rollouts(*args))
    fined.improve = lambda policy, rollouts, *rest: world.improve(policy, rollouts.inner, *rest)
    one = estep.run(fined, model, policy, None, 0, np.random.SeedSequence(0))
    free = estep.run(world, model, policy, None, 0, np.random.SeedSequence(0))
    world.prior = ThoughtPrice(3, world.prior.price + 0.3, start=1)
    two = estep.run(world, model, policy, None, 0, np.random.SeedSequence(0))
    np.testing.assert_allclose(one.policy.whether, two.policy.whether, atol=1e-12)
    assert one.quantities["elbo"] == pytest.approx(two.quantities["elbo"], rel=1e-12)
    assert np.abs(one.policy.whether - free.policy.whether).max() > 1e-3


def test_the_rate_is_a_factor_and_falls_with_anneal():
    world, model, policy = world_and_policy("temporal")

    def moved(**knobs):
        return PolicyGradient(**knobs).run(world, model, policy, None, 0, np.random.SeedSequence(0)).policy.whether

    one = moved(updates=1) - policy.whether
    np.testing.assert_allclose(moved(updates=1, rate=0.5) - policy.whether, 0.5 * one, atol=1e-12)
    np.testing.assert_allclose(moved(updates=1, anneal=True) - policy.whether, one, atol=1e-12)
    assert np.abs(moved(updates=2, anneal=True) - moved(updates=2)).max() > 1e-3
    np.testing.assert_array_equal(moved(updates=0), policy.whether)


# ---- hindsight ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind,start,threshold,lag,floor",
    [
        ("temporal", None, 0.0, 0.0, 0.0), ("option", 1, 0.5, 0.0, 0.0), ("temporal", 1, 1.0, 0.0, 0.3),
        ("temporal", None, 1.0, 0.06, 0.0), ("option", 1, 1.0, 0.6, 0.3),
    ],
)  # fmt: skip
def test_the_evidence_is_unbiased(kind, start, threshold, lag, floor):
    one, many = random_trajectories(3, (5,), states=2, actions=2), 3000
    world, model, policy = world_and_policy(kind, start, trajectories=copies(one, many))
    exact = math.exp(log_likelihood(model, one)[0])
    rollouts = world.rollouts(model, policy, None, 3, np.random.SeedSequence(0), floor)
    uniforms = np.random.default_rng(1).random((many, 5))
    smc = em.run_smc(rollouts, uniforms, threshold=threshold, lag=lag)
    draws = np.exp(smc.log_evidence)
    error = draws.std() / math.sqrt(many)
    assert_mean(draws.mean(), error, exact, tests=5)
    assert error < 0.03 * exact, "the test would see nothing"
    if threshold == 1:
        # With a lag some of what the threshold asks for is left out.
        assert 0.3 < smc.resampled.mean() < 3.7 if lag else (smc.resampled == 4).all()
    estep = Posterior(candidates=3, threshold=threshold, lag=lag, floor=floor)
    found = estep.run(world, model, policy, None, 0, np.random.SeedSequence(2)).quantities
    assert_mean(found["log_marginal"], math.sqrt(2) * smc.log_evidence.std() / math.sqrt(many), smc.log_evidence.mean())


def test_a_lag_waits_until_a_thought_is_likely():
    trajectories = random_trajectories(0, (2,) * 20)
    world, model, policy = world_and_policy("temporal", 1, trajectories=trajectories)

    def rolled():
        return world.rollouts(model, policy, None, 6, np.random.SeedSequence(0))

    rollouts = rolled()
    step = rollouts.step(0)
    weights = np.exp(step.log_likelihood + step.log_prior - step.log_q)
    means = (weights / weights.sum(1, keepdims=True) * rollouts.think_probability()).sum(1)
    uniforms = np.random.default_rng(0).random((20, 2))
    for lag in (0.0, means.min() - 1e-9, np.median(means), means.max() - 1e-9, means.max() + 1e-9):
        smc = em.run_smc(rolled(), uniforms, threshold=1.0, lag=lag)
        np.testing.assert_array_equal(smc.resampled, means >= lag)
        np.testing.assert_allclose(smc.weights.sum(1), 1)
    assert means.min() < np.median(means) < means.max()


def test_latents_need_not_be_counted_to_have_a_price():
    world, model, policy = world_and_policy("price", 1)
    found = []
    for latents in (3, None):
        world.prior = ThoughtPrice(latents, 0.5, start=1)
        for estep in (PolicyGradient(updates=2), Posterior(candidates=4)):
            found.append(estep.run(world, model, policy, None, 0, np.random.SeedSequence(0)).quantities)
    assert found[:2] == found[2:]
    think = np.array([True, False])
    np.testing.assert_array_equal(ThoughtPrice(None, 0.5).log_prob(think), [-0.5, 0.0])
    with pytest.raises(ValueError, match=r"num_latents: latents that are not counted have no temporal prior"):
        ThoughtPrice(None, 0.5).temporal()
    for latents, start, message in (
        (None, -1, "start: must be 0 or more, got -1"),
        (0, None, "num_latents: must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            ThoughtPrice(latents, 0.5, start)
    with pytest.raises(ValueError, match="num_latents: must be a whole number, got None"):
        TemporalPrior(None, 0.5)


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", 1)])
def test_tables_know_the_probability_of_the_next_thought(kind, start):
    world, model, policy = world_and_policy(kind, start)
    rollouts = world.rollouts(model, policy, None, 3000, np.random.SeedSequence(1), 0.2)
    for t in range(3):
        before = rollouts.think_probability() if t else None
        step = rollouts.step(t)
        if t:
            there = rollouts.mask[:, t]
            error = np.sqrt((before * (1 - before)).mean(1) / 3000)
            assert (np.abs(step.think.mean(1) - before.mean(1)) <= z_limit(12) * error)[there].all()
            # and for each latent by itself, as the table has it
            y = rollouts.latents[..., t - 1]
            kept = policy.table(0.2)[rollouts.context[:, None, t], y, y]
            np.testing.assert_allclose(before[there], 1 - kept[there])


def test_a_world_without_think_probabilities_has_no_lag():
    world = planted_bandits(3, 4)
    with pytest.raises(ValueError, match=r"lag: Pulls does not say how probable a thought is; use lag=0"):
        (ra3 := RA3(world, Posterior(candidates=4, threshold=1.0, lag=0.5))).step(ra3.init())


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_the_gap_of_the_evidence_falls_like_one_over_the_candidates(threshold):
    trajectories = copies(random_trajectories(3, (6, 4, 2), states=2, actions=2), 400)
    world, model, policy = world_and_policy("temporal", trajectories=trajectories)
    exact = log_likelihood(model, trajectories).mean()
    gaps = []
    for candidates, repeats in ((12, 3), (48, 12)):
        estep = Posterior(candidates=candidates, threshold=threshold)
        found = [estep.run(world, model, policy, None, 0, s).quantities["log_marginal"] for s in seeds(repeats)]
        gaps.append(exact - np.mean(found))
        assert gaps[-1] > 0
    assert 2.7 < gaps[0] / gaps[1] < 6.0, gaps


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", 1)])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
def test_weighted_candidates_approach_the_posterior(kind, start, threshold):
    candidates, repeats = 300, 40
    trajectories = random_trajectories(3, (5, 3, 1), states=2, actions=2)
    world, model, policy = world_and_policy(kind, start, trajectories=trajectories)
    exact, total = expect(model, trajectories), log_likelihood(model, trajectories).mean()
    estep = Posterior(candidates=candidates, threshold=threshold)
    names = ("counts",) if kind == "temporal" else ("counts", "arrived", "ended", "chosen")
    possible = trajectories.num_steps - (3 if start is None else 0)
    later = (trajectories.num_steps - 3) / trajectories.num_steps
    draws = []
    for seed in seeds(repeats):
        result = estep.run(world, model, policy, None, 0, seed)
        weights, quantities = result.evidence.weights, result.quantities
        np.testing.assert_allclose(weights.sum(0), 1, rtol=1e-12)
        assert result.evidence.latents.shape == (candidates, trajectories.num_steps)
        found = count_path(model, trajectories, result.evidence.latents, weights)
        parts = [getattr(found, name).ravel() for name in names]
        draws.append(np.concatenate([*parts, [quantities["log_marginal"], quantities["think"]]]))
        assert quantities["likelihood"] - quantities["kl"] == pytest.approx(quantities["log_marginal"], abs=1e-12)
        fit = (found.counts * np.log(model.policy)).sum() / len(trajectories)
        assert quantities["likelihood"] == pytest.approx(fit, rel=1e-12)
        assert 1 <= quantities["ess"] <= candidates
        if threshold in (0.0, 1.0):
            assert quantities["resampled"] == pytest.approx(threshold * later)
    parts = [getattr(exact.statistics, name).ravel() for name in names]
    target = np.concatenate([*parts, [total, exact.switches.sum() / possible]])
    # What is left beside noise is of the order of one over the candidates.
    error = np.std(draws, axis=0) / math.sqrt(repeats)
    limit = z_limit(6 * target.size) * error + 3 / candidates
    assert (np.abs(np.mean(draws, axis=0) - target) <= limit).all()
    assert limit.max() < 0.15


def test_with_the_posterior_as_its_policy_every_candidate_weighs_the_same():
    """One trajectory is known by heart, so that the best causal policy is the posterior: the evidence is exact."""
    trajectories = random_trajectories(2, (6,), states=2, actions=2)
    world, model, _ = world_and_policy("temporal", trajectories=trajectories)
    policy = LatentPolicy.from_table(best_causal(model, trajectories).policy)
    result = Posterior(candidates=5, threshold=0.0, learn_policy=False).run(world, model, policy, None, 0, seeds(1)[0])
    assert result.quantities["log_marginal"] == pytest.approx(log_likelihood(model, trajectories)[0], rel=1e-12)
    assert result.quantities["ess"] == pytest.approx(5) and result.policy is policy


@pytest.mark.parametrize("threshold", [0.0, 0.5])
def test_the_policy_that_follows_proposes_better(threshold):
    """Its weights then are more alike, and its bound comes nearer to the log-likelihood."""
    trajectories = copies(random_trajectories(3, (6, 6, 4), states=2, actions=2), 10)
    world, model, _ = world_and_policy("temporal", trajectories=trajectories)
    _, policy = world.init(np.random.SeedSequence(0))
    estep, course = Posterior(candidates=50, threshold=threshold), []
    for seed in seeds(6):
        gap = (
            log_likelihood(model, trajectories)
            - evaluate_policy(model, trajectories, policy.table(), world.contexts).elbo
        )
        result = estep.run(world, model, policy, None, 0, seed)
        course.append((gap.mean(), result.quantities["ess"]))
        policy = result.policy
    assert course[-1][0] < 0.5 * course[0][0], course
    if threshold == 0:
        assert course[-1][1] > course[0][1] + 3, course


def test_following_counts_the_old_policy_as_one_visit():
    world, _, policy = world_and_policy("temporal", latents=2)
    rollouts = world.rollouts(world.model, policy, None, 2, np.random.SeedSequence(0))
    run_rollouts(rollouts)
    evidence = rollouts.evidence(np.full((len(FEW), 2), 0.5))
    counts = policy.table()
    for g in range(2):
        for i in range(len(FEW)):
            before = 2
            for row in range(FEW.offsets[i], FEW.offsets[i + 1]):
                z = evidence.latents[g, row]
                counts[world.contexts.index[row], before, z] += 0.5
                before = z
    found = world.follow(policy, evidence).table()
    np.testing.assert_allclose(found, counts / counts.sum(-1, keepdims=True), rtol=1e-12)


def test_what_no_candidate_explains_is_named():
    policy = np.array([[[1.0, 0.0]], [[1.0, 0.0]]])
    trajectories = Trajectories.from_pairs([([0, 0], [0, 0]), ([0, 0], [0, 1])], 1, 2)
    model = LatentModel(policy, TemporalPrior(2, 0.5))
    with pytest.raises(ValueError, match="candidates: none of 16 explains trajectory 1 of the batch at step 1"):
        ra3 = RA3(TableWorld(trajectories, model.prior, model=model), "posterior")
        ra3.step(ra3.init())


# ---- the loop -----------------------------------------------------------------------------------------------------

ESTEPS = [Exact(), PolicyGradient(group=3, updates=2, floor=0.1), Posterior(candidates=4)]


def small_run(kind, estep, seed=0, start=None, **knobs):
    trajectories = draw_trajectories(random_model(9, kind, start, latents=2), 9, 8, 5)
    world = TableWorld(trajectories, random_model(5, kind, start, latents=2).prior, smoothing=0.1, **knobs)
    return RA3(world, estep, seed=seed)


def assert_same(one, two):
    assert one.iteration == two.iteration and one.history == two.history
    np.testing.assert_array_equal(one.model.policy, two.model.policy)
    for a, b in zip(one.model.prior_tables(), two.model.prior_tables(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(one.policy.whether, two.policy.whether)
    np.testing.assert_array_equal(one.policy.what, two.policy.what)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estep", ESTEPS, ids=lambda estep: estep.name)
def test_a_run_resumes_digit_by_digit(tmp_path, kind, estep):
    ra3 = small_run(kind, estep)
    states = [ra3.init()]
    for _ in range(4):
        states.append(ra3.step(states[-1]))
    assert states[0].iteration == 0 and states[0].history == () and len(states[4].history) == 4
    assert_same(small_run(kind, estep).load(tmp_path / "nothing"), states[0])
    for begin in range(4):
        ra3.save(states[begin], tmp_path)
        # All is made anew, as after an interruption.
        other = small_run(kind, estep)
        state = other.load(tmp_path)
        assert_same(state, states[begin])
        for later in states[begin + 1 :]:
            state = other.step(state)
            assert_same(state, later)
    assert [path.name for path in tmp_path.iterdir()] == ["iteration-000003"]
    another = small_run(kind, estep, seed=1)
    assert (another.init().model.policy != states[0].model.policy).any()
    if estep.name != "exact":
        again = RA3(ra3.world, estep, seed=1).step(states[0])
        assert again.history != states[1].history


@pytest.mark.parametrize("estep", ESTEPS[1:], ids=lambda estep: estep.name)
def test_every_iteration_draws_anew(estep):
    """Otherwise the same chance would be learnt again and again."""
    ra3 = small_run("temporal", estep)
    state = ra3.init()
    later = RA3State(1, state.model, state.policy)
    one, two = ra3.step(state).history[0], ra3.step(later).history[0]
    assert one["likelihood"] != two["likelihood"] and two["iteration"] == 2


class Killed(BaseException):
    """As a signal would end a run."""


@pytest.mark.parametrize("moment", ["world", "record", "replace"])
def test_a_run_killed_while_it_saves_keeps_the_old_state(tmp_path, monkeypatch, moment):
    ra3 = small_run("option", "exact")
    old = ra3.step(ra3.init())
    ra3.save(old, tmp_path)
    new = ra3.step(old)

    def die(*args, **kwargs):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        if moment == "world":
            patch.setattr(LatentPolicy, "whether", property(die), raising=False)
        elif moment == "record":
            patch.setattr(em._store, "write_text", die)
        else:
            patch.setattr(em.os, "replace", die)
        ra3.save(new, tmp_path)
    assert_same(ra3.load(tmp_path), old)
    ra3.save(new, tmp_path)
    assert_same(ra3.load(tmp_path), new)
    ra3.save(new, tmp_path)  # and once more over itself
    assert_same(ra3.load(tmp_path), new)
    assert [path.name for path in tmp_path.iterdir()] == ["iteration-000002"]


def test_a_state_saved_over_itself_is_never_lost(tmp_path, monkeypatch):
    ra3 = small_run("temporal", "exact")
    state = ra3.step(ra3.init())
    ra3.save(state, tmp_path)
    replace, calls = em.os.replace, []

    def die_at_last(source, target):
        calls.append(target)
        if target == tmp_path / "iteration-000001":
            raise Killed
        replace(source, target)

    for _ in range(2):
        with monkeypatch.context() as patch, pytest.raises(Killed):
            patch.setattr(em.os, "replace", die_at_last)
            ra3.save(state, tmp_path)
        assert_same(ra3.load(tmp_path), state)
    assert calls
    ra3.save(state, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["iteration-000001"]


def test_iterations_are_sorted_as_numbers(tmp_path):
    ra3 = small_run("temporal", "exact")
    for number in (999_999, 1_000_000):
        (tmp_path / f"iteration-{number}").mkdir()
    with pytest.raises(ValueError, match="iteration-1000000 is damaged"):
        ra3.load(tmp_path)


def test_what_a_killed_run_left_is_no_obstacle(tmp_path):
    ra3 = small_run("temporal", "exact")
    state = ra3.step(ra3.init())
    ra3.save(state, tmp_path)
    (tmp_path / ".iteration-abc").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    # The new state is there, the old one was not removed any more.
    newer = ra3.step(state)
    elsewhere = ra3.save(newer, tmp_path / "elsewhere")
    elsewhere.rename(tmp_path / elsewhere.name)
    assert_same(ra3.load(tmp_path), newer)


def test_states_of_another_run_and_damaged_ones_are_refused(tmp_path):
    ra3 = small_run("option", "posterior")
    target = ra3.save(ra3.step(ra3.init()), tmp_path)
    for other in (
        small_run("option", "exact"),
        small_run("option", Posterior(candidates=7)),
        small_run("option", "posterior", 1),
    ):
        with pytest.raises(ValueError, match=r"folder: .* holds a run with Posterior\(.*seed=0, .*, this one has"):
            other.load(tmp_path)
    for name in ("state.json", "model.npz", "policy.npz"):
        whole = (target / name).read_bytes()
        for damage in (b"", whole[: len(whole) // 2]):
            (target / name).write_bytes(damage)
            with pytest.raises(ValueError, match=r"damaged|truncated"):
                ra3.load(tmp_path)
        (target / name).unlink()
        with pytest.raises(ValueError, match="damaged"):
            ra3.load(tmp_path)
        (target / name).write_bytes(whole)
    (target / "state.json").write_text(json.dumps({"iteration": 1}))
    with pytest.raises(ValueError, match="damaged"):
        ra3.load(tmp_path)


def test_unknown_e_steps_and_bad_settings_are_refused():
    world = small_run("temporal", "exact").world
    with pytest.raises(ValueError, match="estep: no E-step 'magic'; known are exact, policy_gradient, posterior"):
        RA3(world, "magic")
    with pytest.raises(ValueError, match="estep: must be a name or an E-step"):
        RA3(world, 3)
    for knob, value in (
        ("group", 1), ("group", 2.5), ("updates", -1), ("rate", 0.0), ("rate", math.nan), ("credit", "none"),
        ("horizon", "far"), ("floor", 1.0), ("floor", -0.1), ("price_after", -1), ("price_after", 0.5),
        ("whether_after", -1),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{knob}: "):
            PolicyGradient(**{knob: value})
    for knob, value in (
        ("candidates", 0), ("threshold", -1.0), ("threshold", math.nan), ("floor", 1.0), ("lag", -0.1), ("lag", 1.1),
        ("lag", math.nan),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{knob}: "):
            Posterior(**{knob: value})
    with pytest.raises(ValueError, match="held_out: over other"):
        TableWorld(FEW, TemporalPrior(2, 0.5), held_out=random_trajectories(0))
    with pytest.raises(ValueError, match="contexts: must be 'history' or 'state'"):
        TableWorld(FEW, TemporalPrior(2, 0.5), contexts="all")
    with pytest.raises(ValueError, match="available"):
        TableWorld(FEW, TemporalPrior(2, 0.5), available=np.ones((3, 2), bool))


def test_an_e_step_of_ones_own():
    class Uniform:
        name = "uniform"

        def run(self, world, model, policy, batch, iteration, seed):
            rollouts = world.rollouts(model, policy, batch, 2, seed)
            run_rollouts(rollouts)
            return EStepResult(rollouts.evidence(np.full((len(rollouts.mask), 2), 0.5)), policy, {"own": 1.0})

    ra3 = small_run("temporal", Uniform())
    assert ra3.step(ra3.init()).history[0]["own"] == 1.0


# ---- what EM finds ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start", [None, 1])
def test_the_exact_step_is_expectation_and_maximisation(kind, start):
    ra3 = small_run(kind, "exact", start=start, held_out=random_trajectories(3, (4, 2)))
    trajectories, state = ra3.world.trajectories, ra3.init()
    for _ in range(3):
        model = state.model
        state = ra3.step(state)
        record = state.history[-1]
        if kind == "price":
            latents, value = best_path(model, trajectories)
            found, elbo = count_path(model, trajectories, latents), value.mean()
        else:
            found, elbo = expect(model, trajectories).statistics, log_likelihood(model, trajectories).mean()
        np.testing.assert_array_equal(state.model.policy, model.fit(found, 0.1).policy)
        now, steps = expect(state.model, trajectories), trajectories.num_steps
        assert record["iteration"] == state.iteration
        assert record["elbo"] == pytest.approx(elbo, rel=1e-12)
        assert record["log_likelihood"] == pytest.approx(now.log_likelihood.sum() / steps, rel=1e-12)
        held_out = log_likelihood(state.model, ra3.world.held_out).sum() / ra3.world.held_out.num_steps
        assert record["held_out"] == pytest.approx(held_out, rel=1e-12)
        penalty = 0.1 * np.log(state.model.policy).sum()
        assert record["objective"] == pytest.approx((now.log_likelihood.sum() + penalty) / steps, rel=1e-12)
        possible = steps - (len(trajectories) if start is None else 0)
        assert record["think_rate"] == pytest.approx(now.switches.sum() / possible)
        assert record["duration"] == pytest.approx(steps / (now.switches.sum() + len(trajectories)))
    json.dumps(state.history)


@pytest.mark.parametrize("learn_prior", [True, False])
def test_the_objective_in_the_record_never_falls(learn_prior):
    ra3 = small_run("option", "exact", prior_smoothing=0.2, persistence=1.0, learn_prior=learn_prior)
    state = ra3.init()
    first = state.model.prior
    for _ in range(60):
        state = ra3.step(state)
    course = np.array([record["objective"] for record in state.history])
    assert (np.diff(course) >= -1e-12).all() and course[-1] > course[0] + 0.01
    assert np.array_equal(state.model.prior.termination, first.termination) == (not learn_prior)


def cloned(trajectories):
    counts = np.zeros((trajectories.num_states, trajectories.num_actions))
    np.add.at(counts, (trajectories.states, trajectories.actions), 1)
    return counts / counts.sum(1, keepdims=True)


@pytest.mark.parametrize(
    "prior,exact",
    [
        (TemporalPrior(3, 1.0, start=1), True),
        (TemporalPrior(3, 1 - 1e-13, start=1), False),
        (ThoughtPrice(3, math.inf, start=1), True),
        (ThoughtPrice(3, 1000.0, start=1), True),
    ],
)
@pytest.mark.parametrize("estep", ["exact", "posterior", "policy_gradient"])
def test_without_thoughts_it_is_behaviour_cloning(prior, exact, estep):
    trajectories = draw_trajectories(random_model(2), 2, 10, 6)
    clone = cloned(trajectories)
    state = (ra3 := RA3(TableWorld(trajectories, prior), estep)).step(ra3.init())
    close = {"rtol": 1e-12} if exact else {"atol": 1e-4}
    np.testing.assert_allclose(state.model.policy[1], clone, **close)
    fit = np.log(clone[trajectories.states, trajectories.actions]).mean()
    assert state.history[-1]["log_likelihood"] == pytest.approx(fit, **({"rel": 1e-12} if exact else {"abs": 1e-5}))
    assert state.history[-1]["think_rate"] == pytest.approx(0.0, abs=1e-6)
    assert state.history[-1]["duration"] == pytest.approx(6.0, abs=1e-4)


def test_alpha_one_with_a_free_start_is_a_mixture_of_policies():
    trajectories = draw_trajectories(random_model(4, latents=2), 4, 15, 8)
    ra3 = RA3(TableWorld(trajectories, TemporalPrior(2, 1.0)), "exact")
    state = ra3.init()
    policies = state.model.policy.copy()
    for _ in range(8):
        state = ra3.step(state)
        counts, total = np.zeros(policies.shape), 0.0
        for i in range(len(trajectories)):
            states, actions = trajectories[i]
            fits = np.array([np.log(p[states, actions]).sum() for p in policies])
            total += np.log(np.exp(fits).mean())
            for z, share in enumerate(np.exp(fits) / np.exp(fits).sum()):
                np.add.at(counts[z], (states, actions), share)
        policies = counts / counts.sum(-1, keepdims=True)
        np.testing.assert_allclose(state.model.policy, policies, rtol=1e-11, atol=1e-12)
        assert state.history[-1]["elbo"] == pytest.approx(total / len(trajectories), rel=1e-12)
        assert state.history[-1]["think_rate"] == pytest.approx(0, abs=1e-15)


def test_one_latent_is_behaviour_cloning_with_every_e_step():
    trajectories = draw_trajectories(random_model(2), 2, 10, 6)
    for estep in ESTEPS:
        ra3 = RA3(TableWorld(trajectories, TemporalPrior(1, 0.5)), estep)
        state = ra3.step(ra3.step(ra3.init()))
        np.testing.assert_allclose(state.model.policy[0], cloned(trajectories), rtol=1e-12)


def test_the_record_of_a_policy_gradient():
    ra3 = small_run("temporal", PolicyGradient(group=3, updates=4))
    record = ra3.step(ra3.init()).history[0]
    assert len(record["course"]) == 4 and record["collapsed"] == 0.0 and record["spread"] > 0
    assert record["elbo"] == pytest.approx(record["likelihood"] - record["kl"], rel=1e-12)
    assert 0 < record["think"] <= 1
    priced = small_run("price", PolicyGradient(group=3, updates=4))
    record = priced.step(priced.init()).history[0]
    later = priced.world.trajectories.num_steps - len(priced.world.trajectories)
    thoughts = record["think"] * later / len(priced.world.trajectories)
    assert record["elbo"] == pytest.approx(record["likelihood"] - priced.world.prior.price * thoughts, rel=1e-12)


@pytest.mark.parametrize("kind,knobs", [(PolicyGradient, {"updates": 1}), (Posterior, {})])
def test_the_record_says_when_thinking_has_collapsed(kind, knobs):
    trajectories = draw_trajectories(random_model(2), 2, 10, 6)
    for prior, collapsed in (
        (TemporalPrior(3, 1 - 1e-9), 1.0),
        (TemporalPrior(3, 0.2), 0.0),
        (TemporalPrior(3, 1.0), 1.0),
    ):
        ra3 = RA3(TableWorld(trajectories, prior), kind(**knobs))
        record = ra3.step(ra3.init()).history[0]
        assert record["collapsed"] == collapsed
        assert (record["think"] == 0.0) == bool(collapsed)
    # A floor for the gradient lets thoughts be; a smaller limit calls rare ones no collapse.
    rescue = {"floor": 0.3} if kind is PolicyGradient else {"collapse": 0.0}
    ra3 = RA3(TableWorld(trajectories, TemporalPrior(3, 1 - 1e-9)), kind(**knobs, **rescue))
    record = ra3.step(ra3.init()).history[0]
    assert record["collapsed"] == 0.0
    assert record["think"] == (pytest.approx(0.3, abs=0.1) if kind is PolicyGradient else 0.0)


# ---- a world of one's own -----------------------------------------------------------------------------------------

COINS = np.array([[0.85, 0.05, 0.05, 0.05], [0.05, 0.05, 0.05, 0.85], [0.05, 0.45, 0.45, 0.05]])


def planted_bandits(gamblers=60, pulls=20):
    rng = np.random.default_rng(0)
    arms = np.zeros((gamblers, pulls), int)
    coin = 0
    for i, t in itertools.product(range(gamblers), range(pulls)):
        coin = rng.integers(3) if t == 0 or rng.random() < 0.05 else coin
        arms[i, t] = rng.choice(4, p=COINS[coin])
    return BanditWorld(arms, 3, 0.95)


def bandit_fit(world, model):
    """Log-likelihood per pull, by the tables' inference: a bandit is a latent model with one state."""
    same = Trajectories.from_pairs([(np.zeros(len(row), int), row) for row in world.arms], 1, 4)
    return log_likelihood(LatentModel(model["likes"][:, None], world.prior), same).sum() / same.num_steps


@pytest.mark.slow
@pytest.mark.parametrize(
    "estep,short,distance",
    [
        (Posterior(candidates=32, floor=0.05), 0.02, 0.12),
        # Its policy does not know when a gambler changes coins, so it changes too seldom.
        (PolicyGradient(group=16, updates=15, rate=1.0, normalise=True), 0.06, 0.2),
    ],
    ids=["posterior", "policy_gradient"],
)
def test_a_third_world_learns_its_planted_coins(tmp_path, estep, short, distance):
    world = planted_bandits()
    ra3 = RA3(world, estep, seed=0)
    state = ra3.init()
    first, best = bandit_fit(world, state.model), bandit_fit(world, {"likes": COINS})
    for _ in range(12):
        state = ra3.step(state)
    last = bandit_fit(world, state.model)
    assert last > best - short > first + 0.2, (first, last, best)
    orders = [list(order) for order in itertools.permutations(range(3))]
    assert min(np.abs(state.model["likes"][order] - COINS).max() for order in orders) < distance
    ra3.save(state, tmp_path)
    again, after = ra3.step(ra3.load(tmp_path)), ra3.step(state)
    np.testing.assert_array_equal(again.model["likes"], after.model["likes"])
    assert again.history == after.history


def test_rewards_that_are_infinite_are_refused():
    for model, prior, floor in (
        ([[[1.0, 0.0]], [[0.5, 0.5]]], TemporalPrior(2, 0.5), 0.0),
        ([[[0.7, 0.3]], [[0.5, 0.5]]], TemporalPrior(2, 1.0), 0.5),
        ([[[0.7, 0.3]], [[0.5, 0.5]]], ThoughtPrice(2, math.inf), 0.5),
    ):
        trajectories = Trajectories.from_pairs([([0] * 6, [1, 0, 1, 0, 1, 1])], 1, 2)
        ra3 = RA3(TableWorld(trajectories, prior, model=LatentModel(model, prior)), PolicyGradient(floor=floor))
        with pytest.raises(ValueError, match="estep: update 0: a rollout met a latent or an action of probability 0"):
            ra3.step(ra3.init())


def test_e_steps_that_a_world_does_not_have_are_refused():
    world = planted_bandits(3, 4)
    with pytest.raises(ValueError, match="estep: BanditWorld has no exact E-step"):
        (ra3 := RA3(world, "exact")).step(ra3.init())
    world.improve = lambda *args: super(BanditWorld, world).improve(*args)
    with pytest.raises(ValueError, match=r"estep: BanditWorld has no policy gradient \(`improve`\)"):
        (ra3 := RA3(world, "policy_gradient")).step(ra3.init())


def test_a_state_of_other_data_is_not_loaded(tmp_path):
    one, other = (
        TableWorld(random_trajectories(0, lengths), TemporalPrior(2, 0.5), smoothing=0.1)
        for lengths in ((4, 1), (4, 2))
    )
    loop = RA3(one, "exact")
    loop.save(loop.step(loop.init()), tmp_path)
    with pytest.raises(ValueError, match="holds a run"):
        RA3(other, "exact").load(tmp_path)
