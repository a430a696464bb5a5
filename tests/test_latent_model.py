"""Demonstrations and latent-option models as containers; the M-step, and what EM never lowers; options of latents."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
from hypothesis import given, settings
from hypothesis import strategies as st
from latents import KINDS, STARTS, draw_trajectories, random_model, random_trajectories
from tables import random_mdp

from ra3sim.abstraction import TemporalPrior, ThoughtPrice
from ra3sim.latent import LatentModel, OptionPrior, Statistics, TableWorld, Trajectories, expect

TWO = {"num_states": 3, "num_actions": 2}


def test_trajectories_are_slices_of_flat_arrays():
    three = Trajectories.from_pairs([([0, 1, 2], [1, 0, 1]), ([2], [0]), ([1, 1], [0, 0])], **TWO)
    assert len(three) == 3 and three.num_steps == 6 and three.lengths.tolist() == [3, 1, 2]
    assert three.offsets.tolist() == [0, 3, 4, 6]
    assert [array.tolist() for array in three[1]] == [[2], [0]]
    assert [three.place(row) for row in range(6)] == [(0, 0), (0, 1), (0, 2), (1, 0), (2, 0), (2, 1)]
    assert repr(three) == "<Trajectories: 3, 6 steps, S=3, A=2>"
    with pytest.raises(ValueError, match="read-only"):
        three.states[0] = 1
    again = Trajectories(three.states, three.actions, three.offsets, **TWO)
    np.testing.assert_array_equal(again.states, three.states)


@pytest.mark.parametrize(
    "states,actions,offsets,match",
    [
        ([0, 1], [0, 1], [0], "offsets: no trajectory"),
        ([], [], [0], "offsets: no trajectory"),
        ([0, 1], [0], [0, 2], "actions: 1 for 2 states"),
        ([0, 1], [0, 1], [0, 1], "offsets: must run from 0 to 2, got 0 to 1"),
        ([0, 1], [0, 1], [1, 2], "offsets: must run from 0 to 2, got 1 to 2"),
        ([0, 1], [0, 1], [0, 1, 1, 2], "offsets: trajectory 1 is empty"),
        ([0, 1, 0], [0, 1, 0], [0, 2, 1, 3], "offsets: trajectory 1 is empty"),
        ([0, 1, 3], [0, 1, 0], [0, 1, 3], "states: trajectory 1, step 1: there is no state 3; numbers run from 0 to 2"),
        ([0, -1, 0], [0, 1, 0], [0, 1, 3], "states: trajectory 1, step 0: there is no state -1"),
        ([0, 1, 0], [0, 1, 2], [0, 3], "actions: trajectory 0, step 2: there is no action 2"),
        ([0.0, 1.0], [0, 1], [0, 2], "states: must be a list of whole numbers"),
        ([0, 1], [True, False], [0, 2], "actions: must be a list of whole numbers"),
        ([[0, 1]], [0, 1], [0, 2], "states: must be a list of whole numbers"),
    ],
)
def test_bad_trajectories_are_refused(states, actions, offsets, match):
    with pytest.raises(ValueError, match=match):
        Trajectories(states, actions, offsets, **TWO)


def test_bad_pairs_are_refused():
    with pytest.raises(ValueError, match="pairs: no trajectory"):
        Trajectories.from_pairs([], **TWO)
    with pytest.raises(ValueError, match=r"pairs\[1\]"):
        Trajectories.from_pairs([([0], [0]), ([0, 1], [0])], **TWO)
    with pytest.raises(ValueError, match=r"pairs\[0\]"):
        Trajectories.from_pairs([([], [])], **TWO)


def test_subsets_and_merged_states():
    many = random_trajectories(0, (3, 1, 4, 2), states=4)
    some = many.subset([2, 0, 2])
    assert some.lengths.tolist() == [4, 3, 4] and some.num_states == 4
    for i, j in enumerate([2, 0, 2]):
        np.testing.assert_array_equal(some[i], many[j])
    with pytest.raises(ValueError, match="no trajectory"):
        many.subset([])
    merged = many.merge([0, 1, 0, 2])
    assert merged.num_states == 3
    np.testing.assert_array_equal(merged.states, np.array([0, 1, 0, 2])[many.states])
    np.testing.assert_array_equal(merged.actions, many.actions)
    with pytest.raises(ValueError, match="classes: 3 for 4 states"):
        many.merge([0, 1, 0])
    with pytest.raises(ValueError, match="whole numbers"):
        many.merge([0.5, 1, 0, 2])


def test_trajectories_on_disk(tmp_path):
    many, path = random_trajectories(0, states=4), tmp_path / "many.npz"
    many.save(path)
    again = Trajectories.load(path)
    for name in ("states", "actions", "offsets"):
        np.testing.assert_array_equal(getattr(again, name), getattr(many, name))
    assert (again.num_states, again.num_actions) == (4, 3)
    whole = path.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ValueError, match="truncated or not a file"):
            Trajectories.load(path)
    with pytest.raises(FileNotFoundError):
        Trajectories.load(tmp_path / "none.npz")
    random_model(0).save(path)
    with pytest.raises(ValueError, match="does not hold a Trajectories"):
        Trajectories.load(path)


def test_bad_models_are_refused():
    half = np.full((2, 3, 2), 0.5)
    with pytest.raises(ValueError, match=r"policy\[z=1, s=2\] sums to 1.5"):
        LatentModel(half + (np.arange(6).reshape(2, 3, 1) == 5) * 0.25, TemporalPrior(2, 0.5))
    with pytest.raises(ValueError, match="prior: over 3 latents, the policy has 2"):
        LatentModel(half, TemporalPrior(3, 0.5))
    with pytest.raises(ValueError, match="prior: over 2 states, the policy has 3"):
        LatentModel(half, OptionPrior(np.ones((2, 2)), np.full((2, 2), 0.5)))
    with pytest.raises(ValueError, match="policy"):
        LatentModel(np.ones((0, 3, 2)), TemporalPrior(1, 0.5))
    with pytest.raises(ValueError, match="policy"):
        LatentModel(half[0], TemporalPrior(2, 0.5))
    with pytest.raises(ValueError, match="num_latents: give at least one"):
        LatentModel.random(0, 3, 2, TemporalPrior(1, 0.5), seed=0)


@pytest.mark.parametrize(
    "termination,choice,start,match",
    [
        ([[0.5], [1.5]], [[0.5], [0.5]], None, r"termination\[z=1, s=0\] lies outside \[0, 1\]"),
        ([[0.5], [-0.1]], [[0.5], [0.5]], None, r"termination\[z=1, s=0\] lies outside"),
        ([[0.5], [0.5]], [[0.5], [0.6]], None, "choice.* sums to 1.1"),
        ([[0.5], [0.5]], [[1.5], [-0.5]], None, "choice.*negative"),
        ([[0.5], [0.5]], [[0.5, 0.5], [0.5, 0.5]], None, "choice: shape"),
        ([[0.5], [0.5]], [[0.5], [0.5]], 2, "start: there is no latent 2; numbers run from 0 to 1"),
        ([[0.5], [0.5]], [[0.5], [0.5]], -1, "start: there is no latent -1"),
        ([[0.5], [np.nan]], [[0.5], [0.5]], None, "termination.*NaN"),
    ],
)
def test_bad_option_priors_are_refused(termination, choice, start, match):
    with pytest.raises(ValueError, match=match):
        OptionPrior(termination, choice, start)


def test_random_models():
    available = np.array([[True, False, True], [True, True, True], [False, False, False]])
    one = LatentModel.random(4, 3, 3, TemporalPrior(4, 0.5), seed=1, available=available)
    np.testing.assert_array_equal(one.policy[:, :2] > 0, np.broadcast_to(available[:2], (4, 2, 3)))
    np.testing.assert_allclose(one.policy[:, 2], 1 / 3)
    np.testing.assert_array_equal(one.policy, LatentModel.random(4, 3, 3, one.prior, 1, available).policy)
    assert (one.policy != LatentModel.random(4, 3, 3, one.prior, 2, available).policy).any()
    assert len({row.tobytes() for row in one.policy}) == 4
    spread = [LatentModel.random(50, 4, 3, TemporalPrior(50, 0.5), 0, concentration=c).policy.std() for c in (0.1, 10)]
    assert spread[0] > 3 * spread[1]


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("kind", KINDS)
def test_models_on_disk(tmp_path, kind, start):
    model = random_model(0, kind, start)
    model.save(tmp_path / "model.npz")
    for again in (LatentModel.load(tmp_path / "model.npz"), LatentModel.unpack(*model.pack())):
        np.testing.assert_array_equal(again.policy, model.policy)
        assert type(again.prior) is type(model.prior) and again.prior.start == model.prior.start
        for one, two in zip(again.prior_tables(), model.prior_tables(), strict=True):
            np.testing.assert_array_equal(one, two)
        if kind != "option":
            assert again.prior == model.prior
    whole = (tmp_path / "model.npz").read_bytes()
    (tmp_path / "model.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="truncated"):
        LatentModel.load(tmp_path / "model.npz")
    with pytest.raises(FileNotFoundError):
        LatentModel.load(tmp_path / "none.npz")


def test_an_infinite_price_on_disk(tmp_path):
    model = LatentModel(np.ones((2, 1, 1)), ThoughtPrice(2, np.inf, start=0))
    model.save(tmp_path / "model.npz")
    assert LatentModel.load(tmp_path / "model.npz").prior == model.prior


def statistics(seed, learnt=True, Z=2, S=2, A=3):
    rng = np.random.default_rng(seed)
    arrived = rng.gamma(1.0, size=(Z, S))
    parts = [arrived, arrived * rng.random((Z, S)), rng.gamma(1.0, size=(Z, S))] if learnt else []
    return Statistics(rng.gamma(0.5, size=(Z, S, A)), *parts)


@pytest.mark.parametrize("smoothing,prior_smoothing", [(0.0, 0.0), (0.3, 0.2)])
def test_the_m_step_is_where_a_numerical_search_ends(smoothing, prior_smoothing):
    model, found = random_model(1, "option", 1, latents=2, states=2), statistics(0)
    best = model.fit(found, smoothing, prior_smoothing)

    def loss(logits):
        policy = scipy.special.log_softmax(logits[:12].reshape(2, 2, 3), -1)
        ends, choice = logits[12:16].reshape(2, 2), scipy.special.log_softmax(logits[16:].reshape(2, 2), 0)
        on, off = scipy.special.log_expit(ends), scipy.special.log_expit(-ends)
        return -(
            ((found.counts + smoothing) * policy).sum()
            + ((found.ended + prior_smoothing) * on).sum()
            + ((found.arrived - found.ended + prior_smoothing) * off).sum()
            + ((found.chosen + prior_smoothing) * choice).sum()
        )

    searched = scipy.optimize.minimize(loss, np.zeros(20), method="BFGS", options={"gtol": 1e-9, "xrtol": 0})
    np.testing.assert_allclose(best.policy, scipy.special.softmax(searched.x[:12].reshape(2, 2, 3), -1), atol=1e-4)
    np.testing.assert_allclose(best.prior.termination, scipy.special.expit(searched.x[12:16].reshape(2, 2)), atol=1e-4)
    np.testing.assert_allclose(best.prior.choice, scipy.special.softmax(searched.x[16:].reshape(2, 2), 0), atol=1e-4)
    assert best.prior.start == 1


def test_the_m_step_by_hand():
    model = LatentModel([[[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]]], TemporalPrior(1, 0.5))
    counts = np.array([[[3.0, 1.0, 0.0], [0.0, 0.0, 0.0]]])
    plain = model.fit(Statistics(counts))
    np.testing.assert_allclose(plain.policy, [[[0.75, 0.25, 0.0], [0.2, 0.3, 0.5]]])  # an empty row stays
    smooth = model.fit(Statistics(counts), smoothing=1.0)
    np.testing.assert_allclose(smooth.policy, [[[4 / 6, 2 / 6, 0.0], [1 / 3, 1 / 3, 1 / 3]]])  # the impossible stays so
    assert plain.prior is model.prior


def test_rows_of_the_prior_without_a_count_stay():
    prior = OptionPrior([[0.3, 0.4], [0.6, 0.7]], [[0.1, 0.2], [0.9, 0.8]], start=0)
    model = LatentModel(np.full((2, 2, 1), 1.0), prior)
    zero = np.zeros((2, 2))
    arrived, ended, chosen = zero.copy(), zero.copy(), zero.copy()
    arrived[0, 1], ended[0, 1], chosen[1, 1] = 4.0, 1.0, 1.0
    found = Statistics(np.zeros((2, 2, 1)), arrived, ended, chosen)
    fitted = model.fit(found).prior
    np.testing.assert_allclose(fitted.termination, [[0.3, 0.25], [0.6, 0.7]])
    np.testing.assert_allclose(fitted.choice, [[0.1, 0.0], [0.9, 1.0]])
    smooth = model.fit(found, prior_smoothing=1.0).prior
    np.testing.assert_allclose(smooth.termination, [[0.5, 2 / 6], [0.5, 0.5]])
    np.testing.assert_allclose(smooth.choice, [[0.5, 1 / 3], [0.5, 2 / 3]])
    sticky = model.fit(found, persistence=5.0).prior
    np.testing.assert_allclose(sticky.termination, [[0.0, 1 / 9], [0.0, 0.0]])
    np.testing.assert_allclose(sticky.choice, fitted.choice)
    assert model.fit(Statistics(found.counts)).prior is prior  # not asked for: not learnt


def test_bad_statistics_and_smoothing_are_refused():
    model = random_model(0)
    counts = np.ones(model.policy.shape)
    for knob in ("smoothing", "prior_smoothing", "persistence"):
        for value in (-1.0, np.nan, np.inf):
            with pytest.raises(ValueError, match=f"^{knob}: must be a number >= 0"):
                model.fit(Statistics(counts), **{knob: value})
    with pytest.raises(ValueError, match=r"statistics\.counts"):
        model.fit(Statistics(counts[:2]))


def penalty(model, smoothing, prior_smoothing, persistence):
    total = smoothing * np.log(model.policy[model.policy > 0]).sum()
    if isinstance(model.prior, OptionPrior):
        ends, choice = model.prior.termination, model.prior.choice
        if prior_smoothing:
            total += prior_smoothing * (np.log(ends) + np.log1p(-ends) + np.log(choice)).sum()
        if persistence:
            total += persistence * np.log1p(-ends).sum()
    return total


@pytest.mark.parametrize(
    "kind,start,smoothing,prior_smoothing,persistence",
    [
        ("temporal", None, 0.0, 0.0, 0.0),
        ("temporal", 0, 0.2, 0.0, 0.0),
        ("option", None, 0.0, 0.0, 0.0),
        ("option", 1, 0.0, 0.0, 0.0),
        ("option", None, 0.1, 0.3, 2.0),
    ],
)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_em_never_lowers_its_objective(kind, start, smoothing, prior_smoothing, persistence, seed):
    trajectories = draw_trajectories(random_model(seed, kind, start), seed, count=12, length=15)
    model = random_model(seed + 50, kind, start)
    before, course = -np.inf, []
    for _ in range(120):
        found = expect(model, trajectories)
        here = found.log_likelihood.sum() + penalty(model, smoothing, prior_smoothing, persistence)
        assert here >= before - 1e-10 * len(trajectories)
        course.append(here)
        before = here
        model = model.fit(found.statistics, smoothing, prior_smoothing, persistence)
    assert course[-1] > course[0] + 1  # it does rise


def test_actions_that_cannot_be_taken_are_never_learnt():
    available = np.array([[True, True, False], [True, True, True], [False, True, True]])
    rng = np.random.default_rng(0)
    states = rng.integers(3, size=30)
    actions = np.array([rng.choice(np.flatnonzero(available[s])) for s in states])
    trajectories = Trajectories.from_pairs([(states, actions)], 3, 3)
    model = LatentModel.random(2, 3, 3, TemporalPrior(2, 0.5), 0, available)
    for _ in range(5):
        model = model.fit(expect(model, trajectories).statistics, smoothing=0.5)
    assert ((model.policy > 0) == available).all()


def test_latents_as_options():
    mdp = random_mdp(3, states=5, actions=3)
    assert (~mdp.available[~mdp.terminal]).any()
    model = random_model(0, "option", latents=2, states=5)
    options = model.to_options(mdp)
    assert options.names == ("latent 0", "latent 1") and options.is_markov
    for z in range(2):
        for s in range(5):
            if mdp.terminal[s]:
                assert options.termination[z, s] == 1 and not options.initiation[z, s]
                continue
            row = model.policy[z, s] * mdp.available[s]
            np.testing.assert_allclose(options.policy[z, s], row / row.sum())
            assert options.termination[z, s] == model.prior.termination[z, s] and options.initiation[z, s]
    given = np.full((2, 5), 1e-9)
    ended = model.to_options(mdp, termination=given, least=0.01).termination
    np.testing.assert_array_equal(ended, np.where(mdp.terminal, 1.0, np.full((2, 5), 0.01)))
    same = LatentModel(model.policy, TemporalPrior(2, 0.75)).to_options(mdp)
    np.testing.assert_allclose(same.termination[:, ~mdp.terminal], 0.25)
    priced = LatentModel(model.policy, ThoughtPrice(2, np.inf)).to_options(mdp)
    np.testing.assert_allclose(priced.termination[:, ~mdp.terminal], 1e-3)


def test_options_without_what_smoothing_put_there():
    mdp = random_mdp(1, states=3, actions=3, missing=False)
    policy = np.array([[[0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [1 / 3, 1 / 3, 1 / 3]]])
    model = LatentModel(policy, TemporalPrior(1, 0.5))
    options = model.to_options(mdp, threshold=0.3)
    np.testing.assert_allclose(options.policy[0, 0], [2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(options.policy[0, 1], [0.4 / 0.75, 0.35 / 0.75, 0])
    # The likeliest stays whatever the threshold.
    np.testing.assert_allclose(model.to_options(mdp, threshold=1.0).policy[0, :2], [[1, 0, 0], [1, 0, 0]])


def test_options_where_a_latent_knows_no_available_action():
    mdp = random_mdp(3, states=5, actions=3)
    s = int(np.flatnonzero((mdp.available.sum(1) < 3) & ~mdp.terminal)[0])
    policy = np.full((1, 5, 3), 1 / 3)
    policy[0, s] = np.eye(3)[np.argmin(mdp.available[s])]
    row = LatentModel(policy, TemporalPrior(1, 0.5)).to_options(mdp).policy[0, s]
    np.testing.assert_allclose(row, mdp.available[s] / mdp.available[s].sum())


def test_options_of_classes_of_states():
    mdp = random_mdp(3, states=5, actions=3, missing=False)
    classes = np.array([0, 1, 0, 1, 1])
    model = random_model(0, "option", latents=2, states=2)
    options = model.to_options(mdp, classes)
    live = ~mdp.terminal
    np.testing.assert_allclose(options.policy, model.policy[:, classes])
    np.testing.assert_allclose(options.termination[:, live], model.prior.termination[:, classes][:, live])
    other = np.full((2, 2), 0.125)
    np.testing.assert_allclose(model.to_options(mdp, classes, other).termination[:, live], 0.125)
    for bad in (None, classes[:4], classes + 1):
        with pytest.raises(ValueError, match="mdp: has"):
            model.to_options(mdp, bad)
    with pytest.raises(ValueError, match="mdp: has"):
        model.to_options(random_mdp(3, states=5, actions=2), classes)
    for knob in ({"threshold": 1.5}, {"least": -0.1}):
        with pytest.raises(ValueError, match="threshold, least: must lie in"):
            model.to_options(mdp, classes, **knob)


@given(seed=st.integers(0, 10**6), smoothing=st.sampled_from([0.0, 0.5]))
@settings(max_examples=20)
def test_no_other_model_is_better_on_the_same_statistics(seed, smoothing):
    """The expected log-likelihood of the fitted model is the largest, compared with random and nearby ones."""
    model, found = random_model(seed, "option", latents=2, states=2), statistics(seed)
    best = model.fit(found, smoothing, smoothing)

    def value(policy, ends, choice):
        return (
            ((found.counts + smoothing) * np.log(policy)).sum()
            + ((found.ended + smoothing) * np.log(ends)).sum()
            + ((found.arrived - found.ended + smoothing) * np.log1p(-ends)).sum()
            + ((found.chosen + smoothing) * np.log(choice)).sum()
        )

    tables = (best.policy, best.prior.termination, best.prior.choice)
    top = value(*tables)
    for k in range(5):
        other = random_model(seed + k + 1, "option", latents=2, states=2)
        mixed = (other.policy, other.prior.termination, other.prior.choice)
        for share in (1.0, 0.01):
            assert value(*((1 - share) * a + share * b for a, b in zip(tables, mixed, strict=True))) <= top + 1e-12


def test_a_table_counts_its_latents():
    trajectories = Trajectories.from_pairs([([0, 1], [0, 1])], 2, 2)
    with pytest.raises(ValueError, match="prior: latents of a table are counted; give num_latents"):
        TableWorld(trajectories, ThoughtPrice(None, 1.0))
    assert TableWorld(trajectories, ThoughtPrice(3, 1.0)).num_latents == 3
