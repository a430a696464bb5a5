"""Demonstrations drawn from a model, chi-square; learning planted options from them; options as latents."""

import re

import numpy as np
import pytest
from agreement import assert_frequencies
from tables import random_mdp

from experiments.planted import Planted, agreement
from ra3sim import OptionSet
from ra3sim.abstraction import TemporalPrior
from ra3sim.envs import chain
from ra3sim.latent import LatentModel, OptionPrior, Trajectories, generate, learn, log_likelihood

COUNT, STEPS, LATENTS = 3000, 8, 3
MDP = random_mdp(0, states=5, actions=2, ends=1, missing=False)
S, A = MDP.num_states, MDP.num_actions


def some_prior(kind):
    rng = np.random.default_rng(1)
    if kind == "temporal":
        return TemporalPrior(LATENTS, 0.7)
    start = 1 if kind == "options from latent 1" else None
    return OptionPrior(rng.random((LATENTS, S)), rng.dirichlet(np.ones(LATENTS), S).T, start)


@pytest.mark.parametrize("kind", ["temporal", "options", "options from latent 1"])
def test_frequencies_are_the_models(kind):
    model = LatentModel.random(LATENTS, S, A, some_prior(kind), seed=2)
    trajectories, latents, fresh = generate(model, MDP, COUNT, STEPS, seed=3)
    s, a, first = trajectories.states, trajectories.actions, trajectories.offsets[:-1]
    ends, choice = model.prior_tables()
    later = np.setdiff1d(np.arange(len(s)), first)
    tests = 1 + LATENTS * S + S + LATENTS * S + S * A
    check = lambda drawn, p: assert_frequencies(np.bincount(drawn, minlength=len(p)), p, tests)  # noqa: E731
    check(s[first], MDP.start)
    for z in range(LATENTS):
        for here in np.flatnonzero(~MDP.terminal):
            check(a[(latents == z) & (s == here)], model.policy[z, here])
            # What is drawn anew at a step goes by the latent of the step before.
            at = later[(latents[later - 1] == z) & (s[later] == here)]
            check(fresh[at].astype(int), np.array([1 - ends[here, z], ends[here, z]]))
    for here in np.flatnonzero(~MDP.terminal):
        check(latents[fresh & (s == here)], choice[here])
        for act in range(A):
            at = later[(s[later - 1] == here) & (a[later - 1] == act)]
            # The last state of a trajectory is not among its decisions: condition on going on.
            live = MDP.rows()[here * A + act] * ~MDP.terminal
            check(s[at], live / live.sum())
    assert (latents[later] == latents[later - 1])[~fresh[later]].all()
    if model.start < 0:
        assert fresh[first].all()
    else:
        kept = first[~fresh[first]]
        assert len(kept) and (latents[kept] == model.start).all()


def test_trajectories_end_in_terminal_states():
    mdp = chain(5, start=1)
    right = LatentModel(np.tile([0.0, 1.0], (1, 5, 1)), TemporalPrior(1, 0.5))
    trajectories, latents, _ = generate(right, mdp, 4, 10, seed=0)
    assert trajectories.lengths.tolist() == [3] * 4 and trajectories.states.tolist() == [1, 2, 3] * 4
    assert (trajectories.actions == 1).all() and (latents == 0).all()
    assert generate(right, mdp, 4, 2, seed=0)[0].lengths.tolist() == [2] * 4
    walk = LatentModel.random(LATENTS, S, A, TemporalPrior(LATENTS, 0.5), seed=0)
    trajectories = generate(walk, MDP, 200, STEPS, seed=0)[0]
    assert not MDP.terminal[trajectories.states].any()
    assert (trajectories.lengths < STEPS).any() and (trajectories.lengths == STEPS).any()


def test_the_seed_decides():
    model = LatentModel.random(LATENTS, S, A, TemporalPrior(LATENTS, 0.5), seed=0)
    one, again, other = (generate(model, MDP, 50, 5, seed) for seed in (0, 0, 1))
    for found, expected in zip(one[1:], again[1:], strict=True):
        np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(one[0].states, again[0].states)
    assert one[0].states.tolist() != other[0].states.tolist()


REFUSED = {
    "no trajectory": (MDP, 0, 5, "count, steps: must be at least 1"),
    "no step": (MDP, 5, 0, "count, steps: must be at least 1"),
    "other states": (chain(4), 5, 5, "mdp: has (S, A) = (4, 2), the model is over (5, 2)"),
    "start at the end": (chain(5, start=4), 5, 5, "mdp: may start in a terminal state"),
}


@pytest.mark.parametrize(("mdp", "count", "steps", "message"), REFUSED.values(), ids=REFUSED)
def test_generate_refuses(mdp, count, steps, message):
    model = LatentModel.random(LATENTS, S, A, TemporalPrior(LATENTS, 0.5), seed=0)
    with pytest.raises(ValueError, match=re.escape(message)):
        generate(model, mdp, count, steps, seed=0)


def there_and_back():
    """On a chain whose end is never entered: go left to the wall, and right to the last state but one."""
    mdp = chain(8, start=3)
    truth = LatentModel.from_options(OptionSet.point(mdp, [0, 6]))
    trajectories, latents, fresh = generate(truth, mdp, 20, 40, seed=0)
    return Planted(trajectories, truth, latents), fresh


PLANTED, FRESH = there_and_back()


def test_options_as_latents():
    """Drawn anew at the start and on arrival, and then the other one: the one that has arrived is not available."""
    s, z = PLANTED.trajectories.states, PLANTED.latents
    first = np.zeros(len(s), bool)
    first[PLANTED.trajectories.offsets[:-1]] = True
    np.testing.assert_array_equal(FRESH, first | (s == 0) | (s == 6))
    assert (z[s == 0] == 1).all() and (z[s == 6] == 0).all()
    np.testing.assert_array_equal(PLANTED.trajectories.actions, z)
    mdp = chain(8)
    options = OptionSet.point(mdp, [0, 6])
    np.testing.assert_array_equal(PLANTED.truth.prior.termination, options.termination)
    np.testing.assert_array_equal(PLANTED.truth.prior.choice.T[[0, 3, 6]], [[0, 1], [0.5, 0.5], [1, 0]])
    assert LatentModel.from_options(options, start=1).start == 1


def test_from_options_refuses_macros():
    mdp = chain(6)
    for options in (OptionSet.macros(mdp, 2), OptionSet.point(mdp, [3]) | OptionSet.macros(mdp, [[0, 1]])):
        with pytest.raises(ValueError, match="options: must be Markov, one node each"):
            LatentModel.from_options(options)


@pytest.mark.parametrize("fixed_first", [False, True])
def test_planted_options_are_learnt(fixed_first):
    found = learn(PLANTED.trajectories, TemporalPrior(2, 0.8), restarts=4, seed=0, fixed_first=fixed_first)
    assert agreement(PLANTED, found.model)["ami"] > 0.9
    assert found.objectives.shape == found.iterations.shape == (4,)
    assert found.best == found.objectives.argmax() and np.isfinite(found.objectives).all()
    assert (found.iterations >= 1).all() and isinstance(found.model.prior, OptionPrior)
    fit = log_likelihood(found.model, PLANTED.trajectories).sum() / PLANTED.trajectories.num_steps
    assert found.objectives[found.best] <= fit  # smoothing adds logarithms of probabilities


def test_without_smoothing_the_objective_is_the_likelihood():
    settings = dict(smoothing=0.0, prior_smoothing=0.0)
    found = learn(PLANTED.trajectories, TemporalPrior(2, 0.8), restarts=3, seed=1, **settings)
    fit = log_likelihood(found.model, PLANTED.trajectories).sum() / PLANTED.trajectories.num_steps
    np.testing.assert_allclose(found.objectives.max(), fit, atol=1e-5)


def test_the_fixed_prior_stays():
    prior = TemporalPrior(2, 0.8)
    assert learn(PLANTED.trajectories, prior, restarts=1, seed=0, by_state=False).model.prior == prior


def test_learning_is_repeatable():
    few = PLANTED.trajectories.subset(range(5))
    one, again, other = (learn(few, TemporalPrior(2, 0.8), restarts=2, seed=seed, limit=5) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.model.policy, again.model.policy)
    np.testing.assert_array_equal(one.model.prior.choice, again.model.prior.choice)
    np.testing.assert_array_equal(one.objectives, again.objectives)
    assert one.best == again.best and (one.objectives != other.objectives).all()
    assert (one.iterations <= 5).all()


def test_learn_refuses():
    with pytest.raises(ValueError, match="restarts: must be at least 1, got 0"):
        learn(Trajectories.from_pairs([([0], [0])], 1, 1), TemporalPrior(1, 0.5), restarts=0, seed=0)
