"""The objective of action abstractions: three array libraries, slow loops, exact enumeration, limits."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from libraries import LIBRARIES, library

from ra3sim.abstraction import (
    TemporalPrior,
    ThoughtPrice,
    effective_sample_size,
    elbo_parts,
    elbo_rewards,
    group_advantages,
    importance_weights,
    returns_to_go,
    smc_step,
    split_advantages,
    step_rewards,
    temporal_kl,
    think_rule,
    thinking_kl,
)

SEEDS = st.integers(0, 2**32 - 1)


@pytest.fixture(params=LIBRARIES)
def lib(request):
    with library(request.param) as found:
        yield found


def rollouts(seed=0, batch=2, group=4, steps=7, dtype=np.float64):
    """Random logarithms, thoughts and a mask of unequal lengths; masked places hold NaN and infinities."""
    rng = np.random.default_rng(seed)
    shape = (batch, group, steps)
    mask = np.arange(steps) < rng.integers(1, steps + 1, (batch, group, 1))
    mask[0, 0] = True
    junk = rng.choice([np.nan, np.inf, -np.inf], shape)
    values = {name: np.where(mask, -rng.gamma(1.0, size=shape), junk).astype(dtype) for name in "abc"}
    return *values.values(), rng.random(shape) < 0.4, mask


def close(got, want, rtol=1e-12):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)


# Against loops


def slow_returns(rewards, mask, discount, until):
    result = np.zeros_like(rewards)
    for index in np.ndindex(rewards.shape):
        *line, t = index
        for k in range(t, rewards.shape[-1]):
            if k > t and until is not None and until[(*line, k)] and mask[(*line, k)]:
                break
            if mask[(*line, k)]:
                result[index] += discount ** (k - t) * rewards[(*line, k)]
        result[index] *= mask[index]
    return result


@pytest.mark.parametrize("discount", [1.0, 0.9, 0.0])
@pytest.mark.parametrize("credit", ["to the end", "to the next thought"])
def test_returns_are_the_sums_of_a_plain_loop(lib, discount, credit):
    rewards, _, _, think, mask = rollouts()
    until = think if credit == "to the next thought" else None
    got = lib.call(returns_to_go, rewards, mask, discount=discount, until=until)
    close(got, slow_returns(rewards, mask, discount, until))


@settings(max_examples=40)
@given(seed=SEEDS, steps=st.integers(0, 20), rate=st.floats(0, 1))
def test_returns_of_any_length(seed, steps, rate):
    rng = np.random.default_rng(seed)
    rewards, think, everywhere = rng.normal(size=(2, steps)), rng.random((2, steps)) < rate, np.ones((2, steps), bool)
    close(returns_to_go(rewards, until=think), slow_returns(rewards, everywhere, 1.0, think))
    gaps = rng.random((2, steps)) < 0.7
    close(returns_to_go(rewards, gaps, until=think), slow_returns(rewards, gaps, 1.0, think))
    close(returns_to_go(rewards, discount=0.5), slow_returns(rewards, everywhere, 0.5, None))


def test_a_sum_does_not_see_the_sums_after_the_next_thought():
    """A difference of cumulative sums would lose the small segment beside the large one."""
    rewards = np.array([1e-8, 1e-8, 1e16, 3.0, -np.inf])
    until = np.array([True, False, True, False, True])
    np.testing.assert_array_equal(returns_to_go(rewards, until=until), [2e-8, 1e-8, 1e16 + 3, 3, -np.inf])


def test_infinite_rewards_do_not_come_from_beyond_the_horizon():
    rewards = np.array([-1.0] * 2000 + [-np.inf])
    assert returns_to_go(rewards, discount=0.0)[0] == -1
    assert returns_to_go(rewards, discount=0.1)[-2] == -np.inf
    assert not np.isnan(returns_to_go(rewards, discount=0.1)).any()


def test_step_rewards(lib):
    log_likelihood, _, _, think, mask = rollouts()
    length = np.where(mask, np.arange(1, 8), 0)
    want = np.where(mask, np.where(mask, log_likelihood, 0) / np.arange(1, 8) - 0.7 * think, 0)
    close(lib.call(step_rewards, log_likelihood, think, 0.7, length=length, mask=mask), want)
    by_array = lib.call(step_rewards, log_likelihood, think, np.full((4, 1), 0.7), length=length, mask=mask)
    close(by_array, want)
    halved = lib.call(step_rewards, log_likelihood, think, 0, length=2, mask=mask)
    close(halved, np.where(mask, log_likelihood, 0) / 2)
    endless = lib.call(step_rewards, log_likelihood, think, math.inf, mask=mask)
    np.testing.assert_array_equal(endless, np.where(mask, np.where(think, -np.inf, log_likelihood), 0))


def test_the_reward_is_the_bound_without_entropy_but_for_a_constant():
    log_likelihood, _, _, think, mask = rollouts()
    prior = TemporalPrior(5, 0.8)
    bound = elbo_rewards(log_likelihood, prior.log_prob(think), np.zeros_like(log_likelihood), mask)
    close(bound, np.where(mask, step_rewards(log_likelihood, think, prior.price, mask=mask) + prior.log_keep, 0))


def slow_advantages(returns, members, leave_one_out):
    result = np.zeros_like(returns)
    for b, g, t in np.argwhere(members):
        others = [h for h in range(returns.shape[1]) if members[b, h, t] and (h != g or not leave_one_out)]
        result[b, g, t] = returns[b, g, t] - (np.mean(returns[b, others, t]) if others else 0)
    return result


@pytest.mark.parametrize("leave_one_out", [True, False])
def test_advantages_are_those_of_a_plain_loop(lib, leave_one_out):
    returns, _, _, think, mask = rollouts()
    want = slow_advantages(returns, mask, leave_one_out)
    close(lib.call(group_advantages, returns, mask, leave_one_out=leave_one_out), want)
    split = lib.call(split_advantages, returns, think, mask, leave_one_out=leave_one_out)
    close(split.whether, want)
    thinkers = think & mask
    alone = thinkers & (thinkers.sum(1, keepdims=True) == 1)
    assert alone.any() and (mask.sum(1) == 1).any()
    close(split.what, np.where(alone, want, slow_advantages(returns, thinkers, leave_one_out)))


def test_normalised_advantages(lib):
    returns, _, _, think, mask = rollouts()
    deviation = np.ones((2, 1, 7))
    for b, t in np.ndindex(2, 7):
        there = returns[b, mask[b, :, t], t]
        deviation[b, 0, t] = there.std() + 1e-3 if there.size > 1 else np.inf
    want = lib.call(group_advantages, returns, mask) / deviation
    close(lib.call(group_advantages, returns, mask, normalise=True, eps=1e-3), want, rtol=1e-10)
    split, plain = (lib.call(split_advantages, returns, think, mask, normalise=n, eps=1e-3) for n in (True, False))
    close(split.whether, want, rtol=1e-10)
    close(split.what, plain.what / deviation, rtol=1e-10)
    np.testing.assert_array_equal(lib.call(group_advantages, np.ones((3, 2)), normalise=True), 0)


def test_parts_of_the_bound(lib):
    log_likelihood, log_prior, log_q, _, mask = rollouts()
    weights = np.random.default_rng(1).dirichlet(np.ones(4), size=2)
    got = lib.call(elbo_parts, log_likelihood, log_prior, log_q, mask, weights)
    rewards = lib.call(elbo_rewards, log_likelihood, log_prior, log_q, mask)
    close(got.elbo, (rewards.sum(-1) * weights).sum(-1))
    close(got.likelihood, (np.where(mask, log_likelihood, 0).sum(-1) * weights).sum(-1))
    close(got.likelihood - got.kl, got.elbo)
    close(lib.call(elbo_parts, log_likelihood, log_prior, log_q, mask).elbo, rewards.sum(-1).mean(-1))
    impossible = np.array([[-1.0, -2.0], [-np.inf, -1.0]])
    zeros = np.zeros((2, 2))
    assert lib.call(elbo_parts, impossible, zeros, zeros, weights=np.array([1.0, 0.0])).elbo == -3
    assert lib.call(elbo_parts, impossible, zeros, zeros).elbo == -np.inf


# Cost of thinking


def closing(think_prob, what, keep):
    """log q and log p over latents whose first is the one before."""
    latents = len(what) + 1
    with np.errstate(divide="ignore"):
        log_q = np.log(np.concatenate([[1 - think_prob], think_prob * what]))
        return log_q, np.log(TemporalPrior(latents, keep).matrix()[0])


@given(seed=SEEDS, think_prob=st.floats(0, 1), keep=st.floats(0, 1), others=st.integers(1, 6))
def test_the_two_forms_of_the_cost_agree(seed, think_prob, keep, others):
    """Proposition 5.1."""
    what = np.random.default_rng(seed).dirichlet(np.ones(others))
    entropy = float(-(what * np.log(what, where=what > 0, out=np.zeros(others))).sum())
    prior = TemporalPrior(others + 1, keep)
    want = temporal_kl(*closing(think_prob, what, keep))
    got = thinking_kl(np.array(think_prob), entropy, prior)
    assert want >= -1e-13 and got >= -1e-13
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)
    if 0 < think_prob < 1 and 0 < prior.think_rate:
        rate = prior.think_rate
        bernoulli = think_prob * np.log(think_prob / rate) + (1 - think_prob) * np.log((1 - think_prob) / (1 - rate))
        published = bernoulli + think_prob * (np.log(others) - entropy)
        np.testing.assert_allclose(got, published, rtol=1e-9, atol=1e-9)


def test_limits_of_the_cost(lib):
    never, half, one = TemporalPrior(3, 1.0), TemporalPrior(3, 0.25), TemporalPrior(1, 0.5)
    ends = np.array([0.0, 1.0])
    np.testing.assert_array_equal(lib.call(thinking_kl, ends, np.array([np.nan, 0.0]), never), [0, np.inf])
    np.testing.assert_array_equal(lib.call(thinking_kl, ends, 0.0, one), [0, np.inf])
    close(lib.call(thinking_kl, ends, math.log(2), half), [math.log(2), math.log(2)])
    with np.errstate(divide="ignore"):
        log_q, log_p = np.log([[1.0, 0.0], [0.0, 1.0], [0.5, 0.5]]), np.log([1.0, 0.0])
    np.testing.assert_array_equal(lib.call(temporal_kl, log_q, log_p), [0, np.inf, np.inf])
    np.testing.assert_array_equal(lib.call(temporal_kl, np.array([0.0, -np.inf]), np.array([0.0, -800.0])), 0)


def test_the_rule_is_the_best_rate(lib):
    prior, entropy = TemporalPrior(5, 0.7), 0.9
    gain = np.array([-3.0, 0.0, 2.5, 900.0, -900.0])
    best = lib.call(think_rule, gain, np.full(5, entropy), prior)
    odds = math.log((1 - prior.think_rate) / prior.think_rate)
    close(best[:3], 1 / (1 + np.exp(-(gain[:3] - odds - math.log(4) + entropy))))
    assert best[3] == 1 and best[4] == 0
    rates = np.linspace(0, 1, 2001)[:, None]
    worth = rates * gain - lib.call(thinking_kl, rates, entropy, prior)
    found = best * gain - lib.call(thinking_kl, best, entropy, prior)
    assert (worth <= found + 1e-12).all()
    assert (np.abs(rates[worth.argmax(0), 0] - best) <= 5e-4).all()
    np.testing.assert_array_equal(lib.call(think_rule, gain, 0.0, TemporalPrior(5, 1.0)), 0)


# The bound on a model that can be enumerated


def tiny(steps=2, latents=3, start=0):
    """Everything about a model of few latents: log likelihoods, log p and log q of every path, ``(paths, steps)``."""
    rng = np.random.default_rng(4)
    likelihood = np.log(rng.random((steps, latents)))
    log_p = np.log(TemporalPrior(latents, 0.6, start).matrix())
    log_q = np.log(rng.dirichlet(np.ones(latents), size=(steps, latents)))
    paths = np.array(list(itertools.product(range(latents), repeat=steps)))
    before = np.concatenate([np.full((len(paths), 1), start), paths[:, :-1]], axis=1)
    t = np.arange(steps)
    return likelihood[t, paths], log_p[before, paths], log_q[t, before, paths], likelihood, log_p, log_q


def test_the_bound_on_every_path():
    log_likelihood, log_prior, log_q, *_ = tiny()
    marginal = np.log(np.exp((log_likelihood + log_prior).sum(1)).sum())
    q = np.exp(log_q.sum(1))
    parts = elbo_parts(log_likelihood, log_prior, log_q, weights=q)
    assert parts.elbo < marginal
    posterior = np.exp((log_likelihood + log_prior).sum(1) - marginal)
    gap = (q * (np.log(q) - np.log(posterior))).sum()
    close(parts.elbo + gap, marginal)
    # All paths once, each drawn from a uniform q: the importance weights are the posterior, their mean the marginal.
    uniform = np.full(len(q), -math.log(len(q)))
    weights, log_mean = importance_weights((log_likelihood + log_prior).sum(1) - uniform)
    close(weights, posterior)
    close(log_mean, marginal)


@pytest.mark.parametrize("group", [2, 3])
@pytest.mark.parametrize("split", [False, True], ids=["joint", "split"])
def test_the_leave_one_out_gradient_is_exact_on_average(group, split):
    """Two steps, three latents, all joint outcomes of a group: the mean estimate is the gradient of the bound."""
    import torch

    log_likelihood, log_prior, _, *_ = tiny()
    paths = np.array(list(itertools.product(range(3), repeat=2)))
    before = np.concatenate([np.zeros((9, 1), int), paths[:, :-1]], axis=1)
    think = torch.from_numpy(paths != before)
    rank = torch.from_numpy(np.clip((paths - before) % 3 - 1, 0, 1))  # which of the two others
    rng = np.random.default_rng(5)
    logit, what = (torch.from_numpy(rng.normal(size=shape)).requires_grad_() for shape in [(2, 3), (2, 3, 2)])
    t = torch.arange(2)

    def log_probs():
        at = logit[t, torch.from_numpy(before)]
        whether = torch.where(think, torch.nn.functional.logsigmoid(at), torch.nn.functional.logsigmoid(-at))
        other = torch.log_softmax(what, -1)[t, torch.from_numpy(before), rank]
        return whether, torch.where(think, other, 0.0)

    whether, other = log_probs()
    log_q = whether + other
    rewards = elbo_rewards(torch.from_numpy(log_likelihood), torch.from_numpy(log_prior), log_q)
    exact = torch.autograd.grad((log_q.sum(1).exp() * rewards.sum(1)).sum(), (logit, what))

    outcomes = torch.from_numpy(np.array(list(itertools.product(range(9), repeat=group))))  # (outcomes, G) paths
    chance = log_q.detach().sum(1)[outcomes].sum(1).exp()
    assert float(chance.sum()) == pytest.approx(1, abs=1e-12)
    whether, other = (part[outcomes] for part in log_probs())  # (outcomes, G, T)
    returns = returns_to_go(rewards.detach())[outcomes]
    if split:
        advantages = split_advantages(returns, think[outcomes])
        surrogate = advantages.whether * whether + advantages.what * other
    else:
        surrogate = group_advantages(returns) * (whether + other)
    estimate = torch.autograd.grad((chance * surrogate.sum(2).mean(1)).sum(), (logit, what))
    for got, want in zip(estimate, exact, strict=True):
        assert want.abs().max() > 1e-3
        np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=0, atol=1e-12)


# Importance weights and sequential Monte Carlo


def test_importance_weights(lib):
    log_weights = np.log([[1.0, 3.0, 4.0], [2.0, 2.0, 2.0]]) + np.array([[-2000.0], [700.0]])
    weights, log_mean = lib.call(importance_weights, log_weights)
    close(weights, [[0.125, 0.375, 0.5], [1 / 3] * 3])
    close(log_mean, np.log([8 / 3, 2.0]) + np.array([-2000, 700]))
    weights, log_mean = lib.call(importance_weights, np.array([[-np.inf, 0.0], [-np.inf, -np.inf]]))
    np.testing.assert_array_equal(weights, [[0, 1], [0.5, 0.5]])
    close(log_mean, [-math.log(2), -np.inf])
    close(lib.call(effective_sample_size, np.array([[0.0, 1.0, 0.0], [0.5, 0.25, 0.25]])), [1, 8 / 3])


@given(log_weights=st.lists(st.floats(-300, 300), min_size=1, max_size=10))
def test_the_sample_size_lies_between_one_and_the_group(log_weights):
    weights = importance_weights(np.array(log_weights)).weights
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    assert 1 - 1e-12 <= effective_sample_size(weights) <= len(log_weights) * (1 + 1e-12)


UNIFORM = st.floats(0, 1, exclude_max=True)


@given(
    weights=st.lists(st.sampled_from([0.0, 1e-12, 0.1, 0.3, 1.0, 1e6]), min_size=1, max_size=12).filter(any),
    uniform=UNIFORM,
    dtype=st.sampled_from([np.float64, np.float32]),
)
def test_systematic_resampling_gives_as_many_children_as_is_fair(weights, uniform, dtype):
    size, slack = len(weights), 1e-9 if dtype == np.float64 else 1e-3
    with np.errstate(divide="ignore"):
        log_weights = np.log(np.array(weights, dtype))
    step = smc_step(np.zeros(size, dtype), log_weights, uniform, threshold=1.0)
    children = np.bincount(step.ancestors, minlength=size)
    fair = size * np.array(weights) / sum(weights)
    assert children.shape == (size,)
    assert (np.floor(fair - slack) <= children).all() and (children <= np.ceil(fair + slack)).all()
    assert not children[np.array(weights) == 0].any()
    assert (np.diff(step.ancestors) >= 0).all() and step.log_weights.dtype == dtype


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("uniform", [0.0, 1.0])
def test_rounding_at_the_ends_draws_nothing_without_weight(dtype, uniform):
    """An array may hold 1, rounded from below, and (u + G - 1) / G may be rounded to 1."""
    with np.errstate(divide="ignore"):
        increments = np.log(np.array([0.0, 1.0, 1.0, 1.0, 0.0, 0.0], dtype))
    ancestors = smc_step(np.zeros(6, dtype), increments, np.array(uniform, dtype), threshold=1.0).ancestors
    np.testing.assert_array_equal(np.unique(ancestors), [1, 2, 3])
    # Many weights, whose sum misses 1 by more than one rounding, upwards or downwards.
    increments = np.random.default_rng(7).normal(size=(50, 300)).astype(dtype)
    step = smc_step(np.zeros((50, 300), dtype), increments, np.full(50, uniform, dtype), threshold=1.0)
    assert step.ancestors.min() == 0 and step.ancestors.max() < 300


def test_a_step_of_sequential_monte_carlo(lib):
    before = np.log([[0.5, 0.25, 0.25], [0.25, 0.5, 0.25], [0.2, 0.2, 0.6]])
    with np.errstate(divide="ignore"):
        increments = np.log([[1.0, 1.0, 2.0], [0.0, 8.0, 0.0], [0.0, 0.0, 0.0]])
    uniform = np.array([0.5, 0.5, 0.5])
    step = lib.call(smc_step, before, increments, uniform, threshold=0.5)
    np.testing.assert_array_equal(step.resampled, [False, True, False])
    np.testing.assert_array_equal(step.ancestors, [[0, 1, 2], [1, 1, 1], [0, 1, 2]])
    close(step.log_evidence, [math.log(1.25), math.log(4), -np.inf])
    close(np.exp(step.log_weights), [[0.4, 0.2, 0.4], [1 / 3] * 3, [1 / 3] * 3])
    for threshold, want in ((0.0, False), (1, True)):
        assert (lib.call(smc_step, before, increments, uniform, threshold=threshold).resampled == want).all()
    shifted = lib.call(smc_step, before + 3.0, increments, uniform)
    close(shifted.log_evidence, step.log_evidence)
    dead = lib.call(smc_step, np.full((3, 3), -np.inf), np.zeros((3, 3)), uniform)
    np.testing.assert_array_equal(dead.log_evidence, -np.inf)


@pytest.mark.parametrize("threshold", [0.0, 0.7, 1.0])
def test_the_evidence_is_unbiased(threshold):
    """Two steps of four rollouts, 20,000 groups, against the sum over all paths."""
    log_likelihood, log_prior, _, table, log_p, log_q = tiny()
    marginal = np.exp((log_likelihood + log_prior).sum(1)).sum()
    rng = np.random.default_rng(6)
    groups = 20_000
    latents, log_weights = np.zeros((groups, 4), int), np.zeros((groups, 4))
    log_evidence, resampled = np.zeros(groups), 0
    for t in range(2):
        cumulative = np.exp(log_q[t]).cumsum(-1)[latents]
        new = (rng.random((groups, 4, 1)) > cumulative).sum(-1).clip(max=2)
        increments = elbo_rewards(table[t][new], log_p[latents, new], log_q[t][latents, new])
        step = smc_step(log_weights, increments, rng.random(groups), threshold=threshold)
        latents = np.take_along_axis(new, step.ancestors, -1)
        log_weights, log_evidence = step.log_weights, log_evidence + step.log_evidence
        resampled += step.resampled.mean() / 2
    assert {0.0: resampled == 0, 0.7: 0.05 < resampled < 0.95, 1.0: resampled == 1}[threshold]
    evidence = np.exp(log_evidence)
    z = (evidence.mean() - marginal) / (evidence.std() / math.sqrt(groups))
    assert abs(z) < 3.5
    assert evidence.std() / math.sqrt(groups) < 0.01 * marginal


# Three libraries, dtypes, tracing, gradients


def everything(a, b, c, think, mask, rate, log_q, log_p, log_weights, increments, uniform):
    """Every function once, on masked input."""
    prior = TemporalPrior(3, 0.5)
    weights, log_mean = importance_weights(log_weights)
    return [
        step_rewards(a, think, 0.5, length=3, mask=mask),
        elbo_rewards(a, b, c, mask),
        returns_to_go(a, mask, discount=0.9),
        returns_to_go(a, mask, until=think),
        group_advantages(a, mask, normalise=True),
        *split_advantages(a, think, mask),
        temporal_kl(log_q, log_p),
        thinking_kl(rate, 0.3, prior),
        thinking_kl(rate, 0.3, TemporalPrior(3, 1.0)),
        think_rule(rate, np.float64(0.3), prior),
        *elbo_parts(a, b, c, mask),
        weights,
        log_mean,
        effective_sample_size(weights),
        *smc_step(log_weights, increments, uniform, threshold=0.9)[1:3],
        prior.log_prob(think, dtype=a.dtype),
        ThoughtPrice(3, 1.0).log_prob(think, dtype=a.dtype),
    ]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_libraries_agree_and_keep_the_dtype(lib, dtype):
    arguments = surrogate_arguments()
    put = [lib.put(x if x.dtype == bool else x.astype(dtype)) for x in arguments]
    results = lib.compiled(everything)(*put)
    for got, want in zip(results, everything(*arguments), strict=True):
        assert got.dtype == lib.put(np.zeros(1, dtype)).dtype
        assert not np.isnan(np.asarray(got)).any()
        close(np.asarray(got), want, rtol=1e-12 if dtype == np.float64 else 2e-5)


def test_what_is_masked_has_no_influence(lib):
    """The same results, bit by bit, with zeros in place of NaN and infinity."""
    *values, think, mask = rollouts(seed=8)
    clean = [np.where(mask, v, 0.0) for v in values]
    calls = {
        step_rewards: lambda f, v, th: [lib.call(f, v[0], th, 0.5, length=v[1], mask=mask)],
        elbo_rewards: lambda f, v, th: [lib.call(f, *v, mask)],
        returns_to_go: lambda f, v, th: [lib.call(f, v[0], mask, until=th), lib.call(f, v[0], mask, discount=0.5)],
        group_advantages: lambda f, v, th: [lib.call(f, v[0], mask, normalise=True)],
        split_advantages: lambda f, v, th: [*lib.call(f, v[0], th, mask)],
        elbo_parts: lambda f, v, th: [*lib.call(f, *v, mask)],
    }
    for function, call in calls.items():
        other_thoughts = call(function, [clean[0], np.where(mask, clean[1], 1.0), clean[2]], think ^ ~mask)
        for got, want in zip(call(function, values, think), other_thoughts, strict=True):
            np.testing.assert_array_equal(got, want, err_msg=function.__name__)
            assert np.isfinite(got).all()
            if got.shape == mask.shape:
                assert not got[~mask].any()


def surrogate(a, b, c, think, mask, rate, log_q, log_p, log_weights, increments, uniform):
    """One number that depends on everything that has a gradient."""
    advantages = split_advantages(returns_to_go(a, mask, until=think), think, mask, normalise=True)
    step = smc_step(log_weights, increments, uniform)
    prior = TemporalPrior(3, 0.5)
    return (
        (elbo_rewards(a, b, c, mask) ** 2).sum()
        + (step_rewards(a, think, 0.3, length=b, mask=mask) ** 2).sum()
        + (advantages.whether * advantages.what).sum()
        + elbo_parts(a, b, c, mask).elbo.sum()
        + thinking_kl(rate, 0.2, prior).sum()
        + think_rule(rate, 0.2, prior).sum()
        + temporal_kl(log_q, log_p).sum()
        + (importance_weights(log_weights).weights ** 2).sum()
        + (step.log_evidence[:2] * step.log_weights[:2, 1]).sum()
    )


def surrogate_arguments():
    a, b, c, think, mask = rollouts(seed=9)
    rng = np.random.default_rng(10)
    equal = np.where(np.arange(7) == 2, -1.0, a)  # equal returns: the deviation, and so its root, is 0
    a = np.where(mask, equal, a)
    log_weights = np.array([[-np.inf, -1.0], [-0.5, -2.0], [-np.inf, -np.inf]])
    log_q = np.array([[-np.inf, 0.0], [math.log(0.25), math.log(0.75)]])
    log_p = np.array([[-np.inf, 0.0], [math.log(0.5), math.log(0.5)]])
    rate = np.array([0.0, 0.3, 1.0])
    return a, b, c, think, mask, rate, log_q, log_p, log_weights, rng.normal(size=(3, 2)), rng.random(3)


def test_gradients_are_finite_and_the_same_and_everything_compiles():
    import jax
    import torch

    arguments = surrogate_arguments()
    smooth = [i for i, x in enumerate(arguments) if x.dtype == np.float64 and i != 10]
    with library("jax") as lib:
        jax_arguments = [lib.put(x) for x in arguments]
        value, gradients = jax.jit(jax.value_and_grad(surrogate, argnums=smooth))(*jax_arguments)
        value, gradients = np.asarray(value), [np.asarray(g) for g in gradients]
    tensors = [torch.from_numpy(x.copy()).requires_grad_(i in smooth) for i, x in enumerate(arguments)]
    total = surrogate(*tensors)
    total.backward()
    assert np.isfinite(value)
    close(float(total.detach()), float(value))
    close(float(surrogate(*arguments)), float(value))
    for i, got in zip(smooth, gradients, strict=True):
        assert np.isfinite(got).all(), i
        np.testing.assert_allclose(tensors[i].grad.numpy(), got, rtol=1e-9, atol=1e-12, err_msg=str(i))
    mask = arguments[4]
    for got in gradients[:3]:
        assert not got[~mask].any() and np.abs(got[mask]).max() > 0.1


def test_an_infinite_cost_does_not_spoil_gradients():
    import torch

    log_q = torch.tensor([[0.5, 0.5], [0.25, 0.75]], dtype=torch.float64).log().requires_grad_()
    temporal_kl(log_q, torch.tensor([0.0, -math.inf], dtype=torch.float64)).sum().backward()
    rate = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64, requires_grad=True)
    thinking_kl(rate, 0.0, TemporalPrior(3, 1.0)).sum().backward()
    gain = torch.tensor([-1.0, 900.0], dtype=torch.float64, requires_grad=True)
    think_rule(gain, 0.0, TemporalPrior(3, 1.0)).sum().backward()
    for argument in (log_q, rate, gain):
        assert torch.isfinite(argument.grad).all()


def test_a_batch_may_be_mapped():
    import jax

    a, _, _, think, mask = rollouts(seed=3)
    with library("jax") as lib:
        mapped = jax.vmap(lambda a, think, mask: group_advantages(returns_to_go(a, mask, until=think), mask))
        got = np.asarray(jax.jit(mapped)(*map(lib.put, (a, think, mask))))
    close(got, group_advantages(returns_to_go(a, mask, until=think), mask))


# Bad input

X = np.zeros((2, 3))
B = np.zeros((2, 3), bool)
PRIOR = TemporalPrior(3, 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: elbo_rewards([1.0], X, X), "log_likelihood: must be an array"),
        (lambda: elbo_rewards(X, X, 0.0), "log_q: must be an array"),
        (lambda: elbo_rewards(X, X.astype(int), X), "log_prior: must hold floats"),
        (lambda: elbo_rewards(X, X, np.zeros((3, 3))), r"log_q: shape \(3, 3\) does not broadcast to \(2, 3\)"),
        (lambda: elbo_rewards(X, X, X, np.ones((4, 2, 3), bool)), "mask: shape"),
        (lambda: elbo_rewards(X, X, X, np.ones((2, 3))), "mask: must be boolean"),
        (lambda: step_rewards(X, X, 1.0), "think: must be boolean"),
        (lambda: step_rewards(X, B, -1.0), "price: must be >= 0"),
        (lambda: step_rewards(X, B, math.nan), "price: must be >= 0"),
        (lambda: step_rewards(X, B, np.zeros(2)), "price: shape"),
        (lambda: step_rewards(X, B, 1.0, length=0), "length: must be positive"),
        (lambda: step_rewards(X, B, 1.0, length=np.ones(2)), "length: shape"),
        (lambda: step_rewards(np.float64(1.0), B, 1.0), "log_likelihood: shape .* lacks axes"),
        (lambda: returns_to_go(X, discount=1.1), r"discount: must lie in \[0, 1\]"),
        (lambda: returns_to_go(X, until=X), "until: must be boolean"),
        (lambda: returns_to_go(X, until=np.zeros(2, bool)), "until: shape"),
        (lambda: group_advantages(X[:1]), "returns: a group of 1 has no baseline"),
        (lambda: group_advantages(X[0]), "returns: shape .* lacks axes"),
        (lambda: group_advantages(X, eps=0.0), "eps: must be positive"),
        (lambda: split_advantages(X, B[0, :2]), "think: shape"),
        (lambda: split_advantages(X[:1], B[:1]), "returns: a group of 1"),
        (lambda: temporal_kl(X, np.zeros(2)), "log_p: shape"),
        (lambda: thinking_kl(X, 0.0, ThoughtPrice(3, 1.0)), "prior: must be a TemporalPrior"),
        (lambda: thinking_kl(0.5, 0.0, PRIOR), "think_prob: must be an array"),
        (lambda: thinking_kl(X, np.zeros(2), PRIOR), "what_entropy: shape"),
        (lambda: think_rule(X.astype(int), 0.0, PRIOR), "gain: must hold floats"),
        (lambda: elbo_parts(X, X, X, weights=np.ones(3)), "weights: shape"),
        (lambda: elbo_parts(X[0], X[0], X[0]), "log_likelihood: shape .* lacks axes"),
        (lambda: importance_weights(np.float64(1.0)), "log_weights: shape .* lacks axes"),
        (lambda: smc_step(X, X, 0.5), r"uniform: shape \(\), must be \(2,\)"),
        (lambda: smc_step(X[0], X[0], 1.0), r"uniform: must lie in \[0, 1\)"),
        (lambda: smc_step(X[0], X, 0.5), "increments: shape"),
        (lambda: smc_step(X[0], X[0], 0.5, threshold=-0.1), "threshold: must be >= 0"),
        (lambda: smc_step(X[0], X[0], 0.5, threshold=math.nan), "threshold: must be >= 0"),
    ],
)
def test_bad_input_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_two_libraries_are_refused():
    import torch

    with pytest.raises(ValueError, match="log_q: is not of the same library as log_likelihood"):
        elbo_rewards(X, X, torch.zeros(2, 3))
    with pytest.raises(ValueError, match="think: is not of the same library as returns"):
        split_advantages(torch.zeros(2, 3), B)
