"""Sections 5 and 6 of the theory: both sides against enumeration and against the project's own inference."""

import csv
from fractions import Fraction
from itertools import product

import numpy as np
import pytest

from experiments import registry, runner
from experiments import variational as experiment
from ra3sim.abstraction import TemporalPrior, ThoughtPrice, temporal_kl, think_rule, thinking_kl
from ra3sim.latent import (
    Contexts,
    LatentModel,
    Trajectories,
    best_path,
    evaluate_policy,
    expect,
    log_likelihood,
    posterior_policy,
)
from ra3sim.latent import best_causal as best_causal_policy
from theory import causal, latents, limits, thinking, variational
from theory.arithmetic import EXACT, FLOAT
from theory.bound import Draw
from theory.verify import Verdict, check_exactly, check_real, check_tight, check_without

STATEMENTS = variational.STATEMENTS + causal.STATEMENTS + limits.STATEMENTS + thinking.STATEMENTS
SEEDS = range(8)
CLOSE = {"rtol": 0, "atol": 1e-10}


def random_case(seed, count=4, steps=4):
    """A model with a fixed or free start, and trajectories that share some beginnings; as an instance too."""
    rng = np.random.default_rng(seed)
    Z = int(rng.integers(2, 4))
    prior = TemporalPrior(Z, rng.random(), None if seed % 2 else int(rng.integers(Z)))
    model = LatentModel(rng.dirichlet(np.ones(2), (Z, 2)), prior)
    pairs = [(np.r_[0, rng.integers(0, 2, steps - 1)], rng.integers(0, 2, steps)) for _ in range(count)]
    trajectories = Trajectories.from_pairs(pairs, 2, 2)
    return model, trajectories, latents.from_model(model, trajectories)


def one(instance, m=0):
    """A single trajectory of the instance."""
    return {**{key: instance[key] for key in ("keep", "start")}, "emission": instance["emission"][m]}


def joint_by_hand(instance):
    """P(z, a) of every sequence of latents, from the definition of the prior."""
    emission, keep, start = instance["emission"], instance["keep"], instance["start"]
    T, Z = emission.shape
    weights = {}
    for path in product(range(Z), repeat=T):
        weight = 1
        for t, z in enumerate(path):
            before = start if t == 0 else path[t - 1]
            fresh = (1 - keep) / Z
            prior = Fraction(1, Z) if before == Z else fresh + (keep if before == z else 0)
            weight = weight * prior * emission[t, z]
        weights[path] = weight
    return weights


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.name)
def test_a_statement_holds_exactly_and_is_tight_and_needs_its_assumption(statement):
    found = Verdict(statement.name)
    check_exactly(statement, 3, 0, found)
    check_tight(statement, found)
    check_without(statement, found)
    check_real(statement, found)
    assert not found.failures, found.failures


def test_numbers_and_names_are_unique_and_in_order():
    numbers = [tuple(map(int, s.number.split("."))) for s in STATEMENTS]
    assert numbers == sorted(set(numbers))
    assert len({s.name for s in STATEMENTS}) == len(STATEMENTS)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_likelihood_is_the_sum_over_sequences_exactly(seed):
    instance = latents.random_steps(Draw.random(EXACT, latents.random_steps, np.random.default_rng(seed)))
    by_hand = joint_by_hand({
        "keep": Fraction(str(instance["keep"])),
        "start": instance["start"],
        "emission": np.array([[Fraction(str(x)) for x in row] for row in instance["emission"]]),
    })  # fmt: skip
    weights = latents.step_weights(EXACT, instance)
    assert [str(x) for x in latents.path_weights(EXACT, instance["start"], weights)] == [
        str(x) for x in by_hand.values()
    ]
    assert str(latents.total_likelihood(EXACT, instance)) == str(sum(by_hand.values()))


@pytest.mark.parametrize("seed", SEEDS)
def test_likelihood_posterior_and_bounds_are_those_of_the_project(seed):
    model, trajectories, instance = random_case(seed)
    weights = latents.step_weights(FLOAT, instance)
    np.testing.assert_allclose(
        np.log(latents.total_likelihood(FLOAT, instance)), log_likelihood(model, trajectories), **CLOSE
    )
    policy, contexts = posterior_policy(model, trajectories)
    np.testing.assert_allclose(latents.soft_bellman(FLOAT, weights).reshape(policy.shape), policy, **CLOSE)
    np.testing.assert_allclose(
        variational.responsibilities(FLOAT, instance).reshape(trajectories.num_steps, -1),
        expect(model, trajectories, posterior=True).posterior,
        **CLOSE,
    )
    q = np.random.default_rng([seed, 1]).dirichlet(np.ones(policy.shape[-1]), policy.shape[:-1])
    value = evaluate_policy(model, trajectories, q, Contexts(np.arange(len(q)), len(q)))
    elbo = latents.expected_log_ratio(FLOAT, instance["start"], q.reshape(weights.shape), weights)
    np.testing.assert_allclose(elbo, value.elbo, **CLOSE)
    assert contexts.count == len(q)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_bound_of_a_joint_q_is_its_definition(seed):
    instance = one(random_case(seed)[2])
    joint = np.array(list(joint_by_hand(instance).values()), dtype=float)
    q = np.random.default_rng(seed).dirichlet(np.ones(len(joint)))
    elbo = sum(weight * (np.log(p) - np.log(weight)) for weight, p in zip(q, joint, strict=True))
    found = variational.ELBO.measured(instance | {"paths": q})
    np.testing.assert_allclose(found, np.exp(elbo), **CLOSE)
    np.testing.assert_allclose(variational.ELBO.bound(instance | {"paths": q}), joint.sum(), **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_gap_is_the_kl_to_the_posterior_by_enumeration(seed):
    instance = one(random_case(seed)[2])
    joint = np.array(list(joint_by_hand(instance).values()), dtype=float)
    T, Z = instance["emission"].shape
    q = np.random.default_rng(seed).dirichlet(np.ones(Z), (T, Z + 1))
    whole = np.array([
        np.prod([q[t, instance["start"] if t == 0 else path[t - 1], path[t]] for t in range(T)])
        for path in product(range(Z), repeat=T)
    ])  # fmt: skip
    kl = (whole * np.log(whole * joint.sum() / joint)).sum()
    for side in (variational.ELBO_GAP.measured, variational.ELBO_GAP.bound):
        np.testing.assert_allclose(side(instance | {"q": q}), [kl, kl], **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_best_causal_policy_is_that_of_the_project(seed):
    model, trajectories, instance = random_case(seed, count=6)
    q, value = causal.best_causal(FLOAT, instance)
    known = best_causal_policy(model, trajectories)
    np.testing.assert_allclose(
        q.reshape(trajectories.num_steps, *q.shape[2:]), known.policy[known.contexts.index], **CLOSE
    )
    np.testing.assert_allclose(value, known.elbo.mean(), **CLOSE)
    np.testing.assert_allclose(causal.mean_bound(FLOAT, instance, q), value, **CLOSE)
    gap = log_likelihood(model, trajectories).mean() - known.elbo.mean()
    np.testing.assert_allclose(causal.CAUSAL_GAP.bound(instance), gap, **CLOSE)


def test_a_causal_q_loses_nothing_iff_the_action_tells_nothing():
    def gap(emission, history, weights=(0.5, 0.5)):
        instance = {
            "keep": 0.5, "start": 2, "emission": np.array(emission),
            "weights": np.array(weights), "history": np.array(history),
        }  # fmt: skip
        return float(causal.CAUSAL_GAP.measured(instance))

    same = [[0.3, 0.3], [0.6, 0.6]], [[0.7, 0.7], [0.1, 0.1]]
    assert abs(gap(same, [[0, 0], [0, 1]])) < 1e-15
    telling = [[0.9, 0.1], [0.6, 0.6]], [[0.1, 0.9], [0.1, 0.1]]
    assert gap(telling, [[0, 0], [0, 1]]) > 0.1
    # Who knows the trajectory beforehand sees the action.
    assert abs(gap(telling, [[0, 1], [0, 1]])) < 1e-15
    assert abs(gap(telling[:1], [[0], [0]], (1.0,))) < 1e-15


@pytest.mark.parametrize("seed", SEEDS)
def test_the_m_step_is_that_of_the_project(seed):
    model, trajectories, instance = random_case(seed)
    states, actions = (x.reshape(instance["emission"].shape[:2]) for x in (trajectories.states, trajectories.actions))
    instance = variational.with_policy(instance | {"states": states, "actions": actions}, np.asarray(model.policy))
    fitted = model.fit(expect(model, trajectories).statistics)
    np.testing.assert_allclose(variational.m_step(FLOAT, instance), fitted.policy, **CLOSE)
    before, after = (log_likelihood(m, trajectories).sum() for m in (model, fitted))
    np.testing.assert_allclose(np.log(variational.EM_MONOTONE.measured(instance)), before, **CLOSE)
    np.testing.assert_allclose(np.log(variational.EM_MONOTONE.bound(instance)), after, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_limits_are_reached_at_the_rates_stated(seed):
    instance = one(random_case(seed)[2])
    T, Z = instance["emission"].shape
    n = T if instance["start"] < Z else T - 1
    kept, fresh = limits.kept(FLOAT, instance), limits.fresh(FLOAT, instance)
    largest = instance["emission"].max(-1).prod()
    for keep in (0.0, 0.01, 0.5, 0.99, 1.0):
        at = instance | {"keep": keep}
        rho, found = (1 - keep) * (Z - 1) / Z, latents.total_likelihood(FLOAT, at)
        np.testing.assert_allclose(limits.KEPT_SHARE.measured(at), (1 - rho) ** n * kept, **CLOSE)
        np.testing.assert_allclose(
            limits.KEPT_RATE.bound(at), (1 - rho) ** n * kept + (1 - (1 - rho) ** n) * largest, **CLOSE
        )
        assert abs(found - kept) <= n * rho * largest + 1e-12
        assert abs(found - fresh) <= n * keep * largest + 1e-12
    clone = np.prod(instance["emission"], 0)
    expected = clone[instance["start"]] if instance["start"] < Z else clone.mean()
    np.testing.assert_allclose(latents.total_likelihood(FLOAT, instance | {"keep": 1.0}), expected, **CLOSE)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_cost_of_a_thought_is_that_of_the_project(seed):
    rng = np.random.default_rng(seed)
    Z, kappa = int(rng.integers(2, 6)), rng.random()
    prior, nu, gain = TemporalPrior(Z, rng.random()), rng.dirichlet(np.ones(Z - 1)), rng.normal(0, 3)
    instance = {"keep": prior.keep, "kappa": kappa, "nu": nu, "gain": gain}
    entropy = -(nu * np.log(nu)).sum()
    known = temporal_kl(np.log(np.r_[1 - kappa, kappa * nu]), np.log(prior.matrix()[0]))
    for side in (thinking.THINKING_KL.measured, thinking.THINKING_KL.bound):
        np.testing.assert_allclose(side(instance), known, **CLOSE)
    np.testing.assert_allclose(known, thinking_kl(np.array(kappa), entropy, prior), **CLOSE)
    np.testing.assert_allclose(thinking.price(FLOAT, instance), prior.price, **CLOSE)
    rule = thinking.soft_rule(FLOAT, instance)
    np.testing.assert_allclose(rule, think_rule(np.array(gain), entropy, prior), **CLOSE)
    value = lambda k: thinking.SOFT_RULE.measured(instance | {"kappa": k})  # noqa: E731
    np.testing.assert_allclose(value(rule), thinking.SOFT_RULE.bound(instance), rtol=1e-10)
    assert max(value(k) for k in np.linspace(0, 1, 101)) <= value(rule)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_priced_path_is_that_of_the_project(seed):
    model, trajectories, instance = random_case(seed)
    priced = LatentModel(model.policy, ThoughtPrice(model.num_latents, model.prior.price, model.prior.start))
    _, value = best_path(priced, trajectories)
    T, Z = instance["emission"].shape[1:]
    rho = (1 - instance["keep"]) * (Z - 1) / Z
    # A free first latent costs nothing, but has the probability 1/Z.
    scale = (1 - rho) ** T if model.prior.start is not None else (1 - rho) ** (T - 1) / Z
    for m in range(len(trajectories)):
        np.testing.assert_allclose(
            thinking.PRICED_PATH.measured(one(instance, m))[0], np.exp(value[m]) * scale, **CLOSE
        )


def test_both_halves_of_the_priced_path_are_attained():
    ratios = [
        np.asarray(thinking.PRICED_PATH.measured(i) / thinking.PRICED_PATH.bound(i), dtype=float)
        for i in thinking.PRICED_PATH.tight(FLOAT)
    ]
    np.testing.assert_allclose(np.max(ratios, 0), 1, rtol=1e-12)


BAD = [
    (variational.ELBO, {"keep": 1.5}, "alpha"),
    (variational.ELBO, {"paths": np.full(16, 1 / 8)}, "q"),
    (variational.ELBO, {"emission": -np.ones((4, 2))}, "emission"),
    (variational.SOFT_BELLMAN, {"emission": np.zeros((4, 2))}, "possible"),
    (variational.ELBO_GAP, {"keep": 1.0}, "positive"),
    (limits.BEHAVIOUR_CLONING, {}, "alpha = 1"),
    (limits.FRESH_EVERY_STEP, {}, "alpha = 0"),
    (thinking.THINKING_KL, {"kappa": 1.5}, "kappa"),
    (thinking.SOFT_RULE, {"nu": np.array([0.5])}, "nu"),
    (thinking.HARD_RULE, {"keep": 1.0}, "alpha"),
]


@pytest.mark.parametrize(("statement", "wrong", "assumption"), BAD, ids=lambda x: getattr(x, "name", None))
def test_an_instance_outside_the_assumptions_is_refused_by_name(statement, wrong, assumption):
    good = {
        "keep": 0.5, "start": 2, "emission": np.full((4, 2), 0.5), "paths": np.full(16, 1 / 16),
        "q": np.full((4, 3, 2), 0.5), "kappa": 0.5, "nu": np.array([1.0]), "gain": 0.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=f"{statement.name}: the assumption '{assumption}' fails"):
        statement.measured({**good, **wrong})


def test_only_equal_lengths_and_the_temporal_prior_make_an_instance():
    model, trajectories, _ = random_case(0)
    uneven = Trajectories.from_pairs([([0], [0]), ([0, 1], [0, 1])], 2, 2)
    with pytest.raises(ValueError, match="trajectories: of unequal lengths"):
        latents.from_model(model, uneven)
    with pytest.raises(ValueError, match="must be a TemporalPrior, got OptionPrior"):
        latents.from_model(model.with_option_prior(), trajectories)


@pytest.mark.slow
def test_the_figure_is_made_and_what_must_come_out_does(tmp_path):
    config = experiment.Config.preset("smoke")
    runner.reproduce([runner.Plan(registry.load("variational"), config)], tmp_path / "figs", tmp_path / "runs")
    with open(tmp_path / "figs" / "variational-table.csv", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    assert {row["world"] for row in found} == {*experiment.WORLDS, "prior"}
    for row in found:
        least, most = {"= 0": (0, 1e-10), "≥ 0": (-1e-10, np.inf), "≤ 1": (0, 1 + 1e-9)}[row["must be"]]
        assert least <= float(row["found"]) <= most, row
    assert (tmp_path / "figs" / "variational.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 1}, "seeds: a spread needs at least 2"),
        ({"noise": 0.0}, "noise: must lie in"),
        ({"alpha": 1.0}, "alpha: must lie in"),
        ({"thoughts": (1.0, 0.0)}, "thoughts: must fall from 1"),
        ({"thoughts": (0.5, 0.1)}, "thoughts: must fall from 1"),
        ({"thoughts": (1.0, 0.1, 0.2)}, "thoughts: must fall from 1"),
        ({"limit_steps": 10}, r"limit_steps: must lie in 1\.\.9"),
        ({"lengths": (1, 99)}, "lengths: must ascend"),
    ],
)
def test_bad_settings_of_the_experiment_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        experiment.Config(**settings)
