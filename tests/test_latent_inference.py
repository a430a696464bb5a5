"""Exact inference against enumeration of all latent sequences, 50-digit arithmetic, and hmmlearn."""

import math
import warnings

import numpy as np
import pytest
from agreement import assert_frequencies
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import (
    KINDS,
    STARTS,
    enumerated,
    exact_messages,
    joint,
    path_score,
    random_model,
    random_trajectories,
    sequences,
)

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import (
    LatentModel,
    OptionPrior,
    Trajectories,
    best_path,
    count_path,
    expect,
    log_likelihood,
    sample_posterior,
)


def assert_expected(model, trajectories):
    """`expect` agrees with enumeration in every part."""
    exact, found = enumerated(model, trajectories), expect(model, trajectories, posterior=True)
    close = {"rtol": 1e-11, "atol": 1e-13}
    np.testing.assert_allclose(found.log_likelihood, exact["log_likelihood"], **close)
    np.testing.assert_allclose(log_likelihood(model, trajectories), exact["log_likelihood"], **close)
    np.testing.assert_allclose(found.switches, exact["switches"], **close)
    np.testing.assert_allclose(found.posterior, exact["posterior"], **close)
    np.testing.assert_allclose(found.statistics.counts, exact["counts"], **close)
    for name in ("arrived", "ended", "chosen"):
        part = getattr(found.statistics, name)
        if isinstance(model.prior, OptionPrior):
            np.testing.assert_allclose(part, exact[name], err_msg=name, **close)
        else:
            assert part is None


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_expectation_is_that_of_all_sequences(kind, start, seed):
    assert_expected(random_model(seed, kind, start), random_trajectories(seed))


@given(
    seed=st.integers(0, 10**6), kind=st.sampled_from(KINDS), start=st.sampled_from(STARTS),
    latents=st.integers(2, 4), lengths=st.lists(st.integers(1, 4), min_size=1, max_size=3),
)  # fmt: skip
@settings(max_examples=25)
def test_the_expectation_of_any_model_with_impossible_actions(seed, kind, start, latents, lengths):
    model = random_model(seed, kind, start, latents, states=2, actions=2, zeros=0.3)
    trajectories = random_trajectories(seed, lengths, states=2, actions=2)
    possible = np.isfinite(log_likelihood(model, trajectories))
    for i in range(len(trajectories)):
        states, actions = trajectories[i]
        assert possible[i] == any(joint(model, states, actions, z) > 0 for z in sequences(model, len(states)))
    if possible.any():
        assert_expected(model, trajectories.subset(np.flatnonzero(possible)))
    if not possible.all():
        with pytest.raises(ValueError, match=f"trajectory {possible.argmin()}, step"):
            expect(model, trajectories)


@pytest.mark.parametrize("start", [None, 0])
@pytest.mark.parametrize("keep", [0.0, 1.0])
@pytest.mark.parametrize("latents", [1, 3])
def test_the_expectation_at_the_ends_of_alpha(latents, keep, start):
    prior = TemporalPrior(latents, keep, start)
    policy = random_model(3, latents=latents, states=2, actions=2).policy
    trajectories = random_trajectories(3, (1, 5, 2), states=2, actions=2)
    assert_expected(LatentModel(policy, prior), trajectories)
    assert_expected(LatentModel(policy, prior).with_option_prior(), trajectories)
    found = expect(LatentModel(policy, prior), trajectories)
    if latents == 1:
        np.testing.assert_allclose(found.switches, 0.0, atol=1e-15)
    if keep == 1 and start == 0:
        counts = np.zeros(policy.shape)
        np.add.at(counts[0], (trajectories.states, trajectories.actions), 1.0)
        np.testing.assert_array_equal(found.statistics.counts, counts)


def test_an_option_prior_with_structural_zeros():
    """Latent 0 never ends in state 0 and always in state 1; latent 2 is never chosen in state 1."""
    termination = np.array([[0.0, 1.0], [0.5, 0.0], [1.0, 0.3]])
    choice = np.array([[0.5, 0.6], [0.0, 0.4], [0.5, 0.0]])
    policy = random_model(5, states=2, actions=2, zeros=0.3).policy
    trajectories = random_trajectories(5, (5, 4, 1, 1, 3), states=2, actions=2)
    for start in (None, 0, 1, 2):
        model = LatentModel(policy, OptionPrior(termination, choice, start))
        possible = np.flatnonzero(np.isfinite(log_likelihood(model, trajectories)))
        assert possible.size
        assert_expected(model, trajectories.subset(possible))


def test_a_prior_without_options_is_an_option_prior_that_is_the_same_in_all_states():
    trajectories = random_trajectories(0)
    for kind in ("temporal", "price"):
        model = random_model(0, kind)
        same, found = expect(model.with_option_prior(), trajectories), expect(model, trajectories)
        np.testing.assert_array_equal(same.log_likelihood, found.log_likelihood)
        np.testing.assert_array_equal(same.statistics.counts, found.statistics.counts)
        assert found.statistics.chosen is None and same.statistics.chosen.shape == (3, 3)


def far_ahead(keep, latents=2, length=3000, start=None):
    """Latent 0 explains the first part far better, the last one the rest: scaling would lose it in between."""
    policy = np.full((latents, 2, 2), 0.5)
    policy[0] = [[0.999, 0.001], [0.3, 0.7]]
    policy[-1] = [[0.001, 0.999], [0.4, 0.6]]
    rng = np.random.default_rng(0)
    states = rng.integers(2, size=length)
    actions = (rng.random(length) < 0.5).astype(int)
    actions[states == 0] = np.where(np.arange(length) < 0.48 * length, 0, 1)[states == 0]
    return LatentModel(policy, TemporalPrior(latents, keep, start)), Trajectories.from_pairs([(states, actions)], 2, 2)


@pytest.mark.parametrize("option", [False, True])
@pytest.mark.parametrize("keep,latents,start", [(1.0, 2, None), (1 - 1e-12, 3, None), (1 - 1e-9, 2, 1), (0.9, 3, None)])
def test_nothing_is_lost_in_long_persistent_trajectories(keep, latents, start, option):
    model, trajectories = far_ahead(keep, latents, start=start)
    if option:
        model = model.with_option_prior()
    total, posterior, switched = exact_messages(model, *trajectories[0])
    found = expect(model, trajectories, posterior=True)
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-13)
    np.testing.assert_allclose(log_likelihood(model, trajectories), total, rtol=1e-13)
    np.testing.assert_allclose(found.posterior, posterior, rtol=1e-10, atol=1e-100)
    np.testing.assert_allclose(found.switches, switched, rtol=1e-10, atol=1e-20)
    counts = np.zeros(model.policy.shape)
    np.add.at(counts.transpose(1, 2, 0), trajectories[0], posterior)
    np.testing.assert_allclose(found.statistics.counts, counts, rtol=1e-10, atol=1e-100)
    if option:
        entered = np.zeros((latents, 2))
        np.add.at(entered.T, trajectories.states[1:], posterior[:-1])
        if start is not None:
            entered[start, trajectories.states[0]] += 1
        np.testing.assert_allclose(found.statistics.arrived, entered, rtol=1e-10, atol=1e-100)
        # Each step but a free first one draws one new latent or keeps the old one.
        ended, chosen = found.statistics.ended.sum(0), found.statistics.chosen.sum(0)
        first = np.bincount(trajectories.states[:1], minlength=2) * (start is None)
        np.testing.assert_allclose(chosen, ended + first, rtol=1e-10, atol=1e-20)


def test_a_latent_that_is_hardly_ever_drawn_is_not_lost():
    """Its weight when it comes is far below the smallest double, but it alone explains what follows."""
    termination, choice = np.full((2, 1), 1e-200), np.array([[1.0], [1e-200]])
    policy = np.array([[[1 - 1e-9, 1e-9]], [[0.5, 0.5]]])
    model = LatentModel(policy, OptionPrior(termination, choice, 0))
    trajectories = Trajectories.from_pairs([([0] * 400, [0] * 50 + [1] * 350)], 1, 2)
    total, posterior, switched = exact_messages(model, *trajectories[0])
    found = expect(model, trajectories, posterior=True)
    np.testing.assert_allclose(found.log_likelihood, total, rtol=1e-12)
    np.testing.assert_allclose(found.posterior, posterior, rtol=1e-10, atol=1e-100)
    np.testing.assert_allclose(found.switches, switched, rtol=1e-10)


def test_scaling_and_logarithms_agree_where_both_can_do_it():
    """A trajectory that needs logarithms, beside ordinary ones: only it is treated so, and nothing else changes."""
    model, hard = far_ahead(1 - 1e-12)
    easy = Trajectories.from_pairs([hard[0]], 2, 2).subset([0])
    short = Trajectories.from_pairs([(hard[0][0][:50], hard[0][1][:50])], 2, 2)
    both = Trajectories.from_pairs([short[0], easy[0], short[0]], 2, 2)
    one, two, many = expect(model, short), expect(model, easy), expect(model, both)
    np.testing.assert_array_equal(many.log_likelihood[[0, 2]], one.log_likelihood[[0, 0]])
    np.testing.assert_array_equal(many.log_likelihood[1:2], two.log_likelihood)
    np.testing.assert_allclose(
        many.statistics.counts, 2 * one.statistics.counts + two.statistics.counts, rtol=1e-13, atol=1e-100
    )


def test_threads_do_not_change_a_digit():
    model = random_model(1, "option", latents=3)
    trajectories = random_trajectories(1, np.random.default_rng(0).integers(1, 40, 300))
    results = [expect(model, trajectories, posterior=True, threads=n) for n in (1, 2, 5, None)]
    for other in results[1:]:
        for name in ("log_likelihood", "switches", "posterior"):
            np.testing.assert_array_equal(getattr(other, name), getattr(results[0], name))
        for name in ("counts", "arrived", "ended", "chosen"):
            np.testing.assert_array_equal(getattr(other.statistics, name), getattr(results[0].statistics, name))
    likelihoods = [log_likelihood(model, trajectories, threads=n) for n in (1, 3, None)]
    for other in [results[0].log_likelihood, *likelihoods[1:]]:
        np.testing.assert_array_equal(other, likelihoods[0])
    np.testing.assert_allclose(results[0].statistics.counts.sum(), trajectories.num_steps)


def test_one_state_is_a_hidden_markov_model_as_others_have_it():
    from hmmlearn.hmm import CategoricalHMM

    rng = np.random.default_rng(2)
    policy = rng.dirichlet(np.ones(5), (3, 1))
    prior = TemporalPrior(3, 0.8)
    lengths = [30, 1, 70]
    trajectories = random_trajectories(2, lengths, states=1, actions=5)
    hmm = CategoricalHMM(3, init_params="", params="")
    hmm.startprob_, hmm.transmat_, hmm.emissionprob_ = prior.first(), prior.matrix(), policy[:, 0]
    hmm.n_features = 5
    seen = trajectories.actions[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score, posterior = hmm.score_samples(seen, lengths)
        value, path = hmm.decode(seen, lengths)
    model = LatentModel(policy, prior)
    found = expect(model, trajectories, posterior=True)
    np.testing.assert_allclose(found.log_likelihood.sum(), score, rtol=1e-12)
    np.testing.assert_allclose(found.posterior, posterior, rtol=1e-9)
    latents, best = best_path(model, trajectories)
    np.testing.assert_allclose(best.sum(), value, rtol=1e-12)
    np.testing.assert_array_equal(latents, path)


@pytest.mark.parametrize("kind,start", [("temporal", None), ("option", None), ("option", 1), ("price", 1)])
def test_samples_are_the_posterior_of_whole_sequences(kind, start):
    model = random_model(4, kind, start, latents=2, zeros=0.2)
    trajectories = random_trajectories(4, (3, 1, 2))
    trajectories = trajectories.subset(np.flatnonzero(np.isfinite(log_likelihood(model, trajectories))))
    assert trajectories.num_steps >= 3
    draws = sample_posterior(model, trajectories, 20000, seed=5)
    assert draws.shape == (20000, trajectories.num_steps)
    odds = np.ones(1)
    for i in range(len(trajectories)):
        joints = np.array([joint(model, *trajectories[i], z) for z in sequences(model, trajectories.lengths[i])])
        odds = np.outer(odds, joints / joints.sum()).ravel()
    number = draws @ (2 ** np.arange(trajectories.num_steps)[::-1])
    assert_frequencies(np.bincount(number, minlength=len(odds)), odds, tests=4)
    again = sample_posterior(model, trajectories, 20000, seed=5)
    np.testing.assert_array_equal(again, draws)
    assert (sample_posterior(model, trajectories, 20000, seed=6) != draws).any()


def test_samples_of_a_long_trajectory():
    model, trajectories = far_ahead(1 - 1e-9, start=1)
    draws = sample_posterior(model, trajectories, 500, seed=0)
    posterior = expect(model, trajectories, posterior=True).posterior
    for t in (0, 1400, 1441, 2999):
        assert_frequencies(np.bincount(draws[:, t], minlength=2), posterior[t], tests=4)


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_path_is_the_best_of_all(kind, start):
    for seed in range(6):
        model, trajectories = random_model(seed, kind, start), random_trajectories(seed)
        latents, value = best_path(model, trajectories)
        for i in range(len(trajectories)):
            states, actions = trajectories[i]
            scores = {z: path_score(model, states, actions, z) for z in sequences(model, len(states))}
            path = tuple(latents[trajectories.offsets[i] : trajectories.offsets[i + 1]].tolist())
            assert value[i] == pytest.approx(max(scores.values()), rel=1e-12)
            assert scores[path] == pytest.approx(value[i], rel=1e-12)


def test_the_best_path_with_zeros_one_latent_and_the_ends_of_the_price():
    trajectories = random_trajectories(7, (6, 2), states=2, actions=2)
    policy = random_model(7, states=2, actions=2).policy
    one, value = best_path(LatentModel(policy[:1], ThoughtPrice(1, 1.0)), trajectories)
    assert not one.any()
    np.testing.assert_allclose(value, log_likelihood(LatentModel(policy[:1], TemporalPrior(1, 0.3)), trajectories))
    fits = np.log(policy[:, trajectories.states, trajectories.actions])
    parts = np.add.reduceat(fits, trajectories.offsets[:-1], axis=1)
    stayed, value = best_path(LatentModel(policy, ThoughtPrice(3, np.inf)), trajectories)
    np.testing.assert_allclose(value, parts.max(0))
    np.testing.assert_array_equal(stayed, np.repeat(parts.argmax(0), trajectories.lengths))
    fixed, value = best_path(LatentModel(policy, ThoughtPrice(3, np.inf, start=2)), trajectories)
    assert (fixed == 2).all()
    np.testing.assert_allclose(value, parts[2])
    free, value = best_path(LatentModel(policy, ThoughtPrice(3, 0.0)), trajectories)
    np.testing.assert_allclose(value, np.add.reduceat(fits.max(0), trajectories.offsets[:-1]))
    np.testing.assert_array_equal(free, fits.argmax(0))


def test_among_equal_paths_the_latent_is_kept():
    same = np.full((3, 1, 2), 0.5)
    same[1] = [[0.4, 0.6]]  # only the last step decides: it ends in latent 1, and that is not left before
    for prior in (ThoughtPrice(3, 0.0), TemporalPrior(3, 0.0, start=1)):
        trajectories = Trajectories.from_pairs([([0] * 2, [1, 1])], 1, 2)
        assert best_path(LatentModel(same, prior), trajectories)[0].tolist() == [1, 1]
    for start in range(3):
        equal = LatentModel(np.full((3, 1, 2), 0.5), ThoughtPrice(3, 1e-9, start=start))
        assert best_path(equal, trajectories)[0].tolist() == [start, start]


@pytest.mark.parametrize("kind,start", [("option", None), ("option", 1), ("temporal", None)])
def test_counts_of_paths_weighted_by_their_posterior_are_the_expectation(kind, start):
    model, trajectories = random_model(8, kind, start), random_trajectories(8, (3, 1, 2))
    exact = expect(model, trajectories).statistics
    paths, weights = [], []
    # One path a trajectory at a time, the others held at any path: weights sum to 1 in each trajectory.
    for i in range(len(trajectories)):
        rows = slice(trajectories.offsets[i], trajectories.offsets[i + 1])
        options = list(sequences(model, trajectories.lengths[i]))
        joints = np.array([joint(model, *trajectories[i], z) for z in options])
        for z, weight in zip(options, joints / joints.sum(), strict=True):
            path, row = np.zeros(trajectories.num_steps, int), np.zeros(len(trajectories))
            path[rows], row[i] = z, weight
            paths.append(path)
            weights.append(row)
    found = count_path(model, trajectories, np.array(paths), np.array(weights))
    np.testing.assert_allclose(found.counts, exact.counts, rtol=1e-11, atol=1e-13)
    if kind == "option":
        for name in ("arrived", "ended", "chosen"):
            np.testing.assert_allclose(getattr(found, name), getattr(exact, name), rtol=1e-11, atol=1e-13)
    else:
        assert found.arrived is None and found.chosen is None


def test_counts_of_a_path_by_hand():
    prior = OptionPrior([[0.5, 0.5], [0.2, 0.2]], [[0.25, 0.25], [0.75, 0.75]], start=0)
    model = LatentModel(np.full((2, 2, 2), 0.5), prior)
    trajectories = Trajectories.from_pairs([([0, 1], [1, 0]), ([0], [0])], 2, 2)
    found = count_path(model, trajectories, [0, 1, 0])
    assert found.counts[0, 0].tolist() == [1, 1] and found.counts[1, 1].tolist() == [1, 0]
    assert found.counts.sum() == 3
    np.testing.assert_allclose(found.arrived, [[2, 1], [0, 0]])
    # Kept with 0.5, or drawn again with 0.5 · 0.25: anew with 0.2. Then another latent, so drawn anew for sure.
    np.testing.assert_allclose(found.ended, [[0.4, 1], [0, 0]])
    np.testing.assert_allclose(found.chosen, [[0.4, 0], [0, 1]])
    np.testing.assert_allclose(count_path(model, trajectories, [[0, 1, 0], [0, 1, 0]]).ended, found.ended)


def test_what_the_model_cannot_explain_is_named():
    policy = np.array([[[1.0, 0.0]], [[0.0, 1.0]]])
    trajectories = Trajectories.from_pairs([([0, 0], [0, 0]), ([0, 0, 0], [1, 1, 0]), ([0], [1])], 1, 2)
    model = LatentModel(policy, TemporalPrior(2, 1.0))
    for call in (expect, best_path, lambda *two: sample_posterior(*two, 3, 0)):
        with pytest.raises(ValueError, match=r"trajectory 1, step 2: the action has probability 0.*smoothing"):
            call(model, trajectories)
    expected = [math.log(0.5), -math.inf, math.log(0.5)]
    np.testing.assert_allclose(log_likelihood(model, trajectories), expected)
    fixed = LatentModel(policy, TemporalPrior(2, 1.0, start=0))
    with pytest.raises(ValueError, match="trajectory 1, step 0"):
        expect(fixed, trajectories)
    assert np.isneginf(log_likelihood(fixed, trajectories)[1:]).all()


def test_trajectories_of_no_likelihood_do_not_touch_the_others():
    model, trajectories = random_model(3, latents=2, zeros=0.7), random_trajectories(3, (3, 2, 1, 2, 3, 1) * 20)
    found = log_likelihood(model, trajectories)
    alone = [log_likelihood(model, trajectories.subset([i]))[0] for i in range(len(trajectories))]
    assert 20 < np.isneginf(found).sum() < 100
    np.testing.assert_array_equal(found, alone)


def test_what_does_not_fit_is_refused():
    model, trajectories = random_model(0), random_trajectories(0)
    for other in (random_trajectories(0, states=4), random_trajectories(0, actions=2)):
        for call in (expect, log_likelihood, best_path, lambda *two: sample_posterior(*two, 1, 0)):
            with pytest.raises(ValueError, match=r"trajectories: over \(S, A\)"):
                call(model, other)
    for call in (expect, log_likelihood):
        with pytest.raises(ValueError, match="threads: must be at least 1, got 0"):
            call(model, trajectories, threads=0)
    with pytest.raises(ValueError, match="count: give at least 1, got 0"):
        sample_posterior(model, trajectories, 0, seed=0)
