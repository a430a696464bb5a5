"""Simulators: what one step of an MDP or of an option returns, and agreement of the option model with simulation."""

import warnings
from functools import partial

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_frequencies, assert_mean, z_limit
from gymnasium.utils.env_checker import check_env

from ra3sim import envs
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.simulate import OptionEnv, TabularEnv, _draw, _RowSampler, rollout_model
from ra3sim.smdp import SMDP, expected_durations

RIGHT = 1  # in the chain


def small_mdp(discount=0.8):
    """Three states, of which the last is terminal; action 1 is missing in state 1."""
    return MDP(
        transitions=[[[0.2, 0.5, 0.3], [0.9, 0.1, 0.0]], [[0.6, 0.3, 0.1], [0.0, 0.0, 0.0]], np.eye(3)[[2, 2]]],
        rewards=[[1.0, -0.5], [2.0, 0.0], [0.0, 0.0]],
        discount=discount,
        start=[0.7, 0.3, 0.0],
        available=[[1, 1], [1, 0], [1, 1]],
        terminal=[2],
    )


def random_options(mdp, count, seed):
    """Random policies over the available actions and random terminations."""
    rng = np.random.default_rng(seed)
    available = mdp.available | mdp.terminal[:, None]
    policy = rng.random((count, mdp.num_states, mdp.num_actions)) * available
    policy /= policy.sum(-1, keepdims=True)
    return OptionSet(policy, rng.uniform(0.2, 0.9, (count, mdp.num_states)))


# One step of an MDP


def test_step_of_an_mdp():
    env = TabularEnv(small_mdp(), max_steps=5)
    _, info = env.reset(seed=0, options={"state": 1})
    assert info["action_mask"].tolist() == [1, 0] and info["discount"] == 0.8
    with pytest.raises(ValueError, match="action: '1' is not available in state '1'; info\\['action_mask'\\] says"):
        env.step(1)
    after, reward, *_ = env.step(0)  # the refused step changed nothing
    assert reward == 2 and after in (0, 1, 2)


def test_end_of_an_episode():
    env = TabularEnv(envs.chain(3))
    env.reset(seed=0)
    assert env.step(RIGHT)[2:4] == (False, False)
    state, reward, terminated, truncated, info = env.step(RIGHT)
    assert (state, reward, terminated, truncated) == (2, 1, True, False)
    assert info["discount"] == 0 and not info["action_mask"].any()
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset first"):
        env.step(RIGHT)


def test_truncation_is_no_termination():
    env = TabularEnv(envs.chain(5), max_steps=2)
    for _ in range(2):  # the count begins anew
        env.reset(seed=0)
        assert env.step(RIGHT)[2:4] == (False, False)
        _, _, terminated, truncated, info = env.step(RIGHT)
        assert truncated and not terminated and info["discount"] == 0.9


def test_seeds():
    def run(seed):
        env = TabularEnv(envs.garnet(50, 3, 10, 0.9, seed=0))
        return [env.reset(seed=seed)[0]] + [env.step(k % 3)[0] for k in range(30)]

    assert run(1) == run(1) != run(2)


TABULAR_ERRORS = {
    "unknown action": (
        lambda: _reset(TabularEnv(envs.chain(3))).step(2),
        "action: there is no action 2; .* from 0 to 1",
    ),
    "fractional action": (lambda: _reset(TabularEnv(envs.chain(3))).step(0.5), "action: there is no action 0.5"),
    "unknown state": (lambda: TabularEnv(envs.chain(3)).reset(options={"state": 9}), "cannot start in state 9"),
    "terminal state": (lambda: TabularEnv(envs.chain(3)).reset(options={"state": 2}), "cannot start in state 2"),
    "terminal start": (lambda: TabularEnv(envs.chain(3, start=2)), "mdp: may start in terminal s=2"),
    "no steps": (lambda: TabularEnv(envs.chain(3), max_steps=0), "max_steps: must be at least 1"),
    "render mode": (lambda: TabularEnv(envs.chain(3), render_mode="human"), "render_mode: must be None or 'ansi'"),
}


def _reset(env):
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("case", TABULAR_ERRORS)
def test_tabular_errors(case):
    act, message = TABULAR_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        act()


def test_no_episode_yet():
    with pytest.raises(gymnasium.error.ResetNeeded):
        TabularEnv(envs.chain(3)).step(0)
    with pytest.raises(gymnasium.error.ResetNeeded):
        OptionEnv(TabularEnv(envs.chain(3)), OptionSet.primitives(envs.chain(3))).step(0)


def test_rendering():
    env = TabularEnv(envs.grid_world(2, 3, walls=0.2, seed=4), render_mode="ansi")
    assert env.render() == ""
    env.reset(options={"state": 1})
    assert env.render() == "#####\n#.@.#\n##.G#\n#####\n(0, 1)"
    assert _reset(TabularEnv(envs.garnet(4, 2, 2, 0.9, 0), render_mode="ansi")).render() in "0123"
    assert _reset(TabularEnv(envs.chain(3))).render() is None


# One step that is a whole option


def step_rewarded_chain(length=8, discount=0.5):
    """A chain that pays 1 for every step, so that an option's reward shows each of its discounts."""
    mdp = envs.chain(length, discount)
    return mdp.replace(rewards=np.where(mdp.terminal[:, None], 0.0, 1.0) * np.ones((length, 2)))


def test_option_discounting():
    mdp = step_rewarded_chain()
    options = OptionSet.macros(mdp, [[RIGHT] * 3]) | OptionSet.primitives(mdp)
    env = OptionEnv(TabularEnv(mdp), options)
    env.reset(seed=0)
    state, reward, terminated, truncated, info = env.step(0)
    assert (state, reward, terminated, truncated) == (3, 1 + 0.5 + 0.25, False, False)
    assert info["duration"] == 3 and info["discount"] == 0.125
    # Several options in a row make the discounted return of the whole.
    _, more, *_, later = env.step(0)
    _, last, terminated, _, end = env.step(2)
    whole = reward + info["discount"] * (more + later["discount"] * last)
    assert terminated and whole == sum(0.5**i for i in range(7))
    assert end["discount"] == 0 and end["duration"] == 1 and not end["action_mask"].any()


def test_termination_in_mid_option():
    mdp = step_rewarded_chain(3)
    env = OptionEnv(TabularEnv(mdp), OptionSet.macros(mdp, [[RIGHT] * 4]))
    env.reset(seed=0)
    state, reward, terminated, truncated, info = env.step(0)
    assert (state, reward, terminated, truncated) == (2, 1.5, True, False)
    assert info["duration"] == 2 and info["discount"] == 0
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(0)


@pytest.mark.parametrize("by_wrapper", [False, True])
def test_truncation_in_mid_option(by_wrapper):
    mdp = step_rewarded_chain()
    if by_wrapper:
        inner = gymnasium.wrappers.TimeLimit(TabularEnv(mdp), max_episode_steps=2)
    else:
        inner = TabularEnv(mdp, max_steps=2)
    env = OptionEnv(inner, OptionSet.macros(mdp, [[RIGHT] * 5]))
    env.reset(seed=0)
    state, reward, terminated, truncated, info = env.step(0)
    assert (state, reward, terminated, truncated) == (2, 1.5, False, True)
    # Not the end of the world: the value of the state counts, at the discount of the steps that were taken.
    assert info["duration"] == 2 and info["discount"] == 0.25


def test_option_availability():
    mdp = envs.fourrooms(goal=(9, 9))
    options = envs.hallway_options(mdp)
    env = OptionEnv(TabularEnv(mdp), options)
    _, info = env.reset(options={"state": 0})
    assert (info["action_mask"] == options.initiation[:, 0]).all() and info["action_mask"].sum() == 2
    refused = int(np.flatnonzero(info["action_mask"] == 0)[0])
    with pytest.raises(ValueError, match=r"option: 'room 1 to .*' is not available in state 0"):
        env.step(refused)
    state, *_, info = env.step(0)  # the refused one changed nothing
    assert (info["action_mask"] == options.initiation[:, state]).all()


def test_primitives_change_nothing():
    """With the primitive actions as options, every episode is the same with and without the wrapper."""
    mdp = envs.fourrooms(goal=(1, 1))
    plain, wrapped = TabularEnv(mdp), OptionEnv(TabularEnv(mdp), OptionSet.primitives(mdp))
    assert plain.reset(seed=3)[0] == wrapped.reset(seed=3)[0]
    for k in range(200):
        one, two = plain.step(k % 4), wrapped.step(k % 4)
        assert one[:4] == two[:4] and two[4]["duration"] == 1 and one[4]["discount"] == two[4]["discount"]
        if one[2]:
            assert plain.reset()[0] == wrapped.reset()[0]


def test_option_env_checker():
    mdp = envs.fourrooms(goal=(9, 9))
    with warnings.catch_warnings():
        # The checker wants neither wrappers nor environments without a spec; the rest of it applies.
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        check_env(OptionEnv(TabularEnv(mdp), random_options(mdp, 3, seed=0)), skip_render_check=True)


def test_options_on_a_real_environment():
    """Options of the MDP of Taxi, which has a state more than Taxi, run in Taxi itself."""
    mdp = envs.from_gymnasium("Taxi-v4", 0.9)
    env = OptionEnv(gymnasium.make("Taxi-v4"), OptionSet.macros(mdp, [[0, 0], [5, 5]]), discount=0.9)
    env.reset(seed=0)
    at = mdp.state_names.index("(0, 4) passenger in taxi, to green")
    env.unwrapped.s = env._state = at
    _, reward, terminated, _, info = env.step(1)
    assert (reward, terminated) == (20, True) and info["duration"] == 1 and info["discount"] == 0
    env.reset(seed=0)
    _, reward, _, _, info = env.step(0)
    assert reward == -1 - 0.9 and info["duration"] == 2 and info["action_mask"].shape == (2,)


OPTION_ENV_ERRORS = {
    "states": (
        lambda: OptionEnv(TabularEnv(envs.chain(5)), OptionSet.primitives(envs.chain(4))),
        "env: observations in",
    ),
    "actions": (
        lambda: OptionEnv(TabularEnv(envs.garnet(5, 3, 2, 0.9, 0)), OptionSet.primitives(envs.chain(5))),
        "env: actions in",
    ),
    "discount": (
        lambda: OptionEnv(
            gymnasium.make("FrozenLake-v1"), OptionSet.primitives(envs.from_gymnasium("FrozenLake-v1", 0.9))
        ),
        "discount: the environment has no MDP",
    ),
    "discount range": (
        lambda: OptionEnv(TabularEnv(envs.chain(5)), OptionSet.primitives(envs.chain(5)), discount=1.0),
        r"discount: must lie in \[0, 1\)",
    ),
    "option": (
        lambda: _reset(OptionEnv(TabularEnv(envs.chain(5)), OptionSet.primitives(envs.chain(5)))).step(2),
        "option: there is no option 2",
    ),
}


@pytest.mark.parametrize("case", OPTION_ENV_ERRORS)
def test_option_env_errors(case):
    act, message = OPTION_ENV_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        act()


# The exact model of options against simulation and against brute force


def hallways_and_macros():
    mdp = envs.fourrooms(goal=(2, 4), size=7, discount=0.95)
    return mdp, envs.hallway_options(mdp) | OptionSet.macros(mdp, [[1, 1, 2], [2, 2]])


def slippery_macros():
    mdp = envs.chain(6, slip=0.3)
    return mdp.replace(rewards=mdp.rewards - 0.1 * ~mdp.terminal[:, None]), OptionSet.macros(mdp, 3)


def random_garnet():
    mdp = envs.garnet(12, 3, 4, 0.9, seed=1, sparse=True)
    return mdp, random_options(mdp, 4, seed=2)


def missing_action():
    mdp = small_mdp()
    return mdp, random_options(mdp, 3, seed=3)


MODELS = {f.__name__: f for f in (hallways_and_macros, slippery_macros, random_garnet, missing_action)}


@pytest.mark.parametrize("case", MODELS)
def test_model_agrees_with_rollouts(case):
    mdp, options = MODELS[case]()
    primitives = OptionSet.primitives(mdp)
    model = SMDP.from_options(mdp, options | primitives)
    durations = expected_durations(mdp, options | primitives)
    pairs = np.argwhere(model.available[: len(options)])
    chosen = pairs[np.random.default_rng(4).permutation(len(pairs))[:8]]
    tests = len(MODELS) * len(chosen) * (mdp.num_states + 3)
    for z, s in chosen:
        found = rollout_model(mdp, options | primitives, int(z), int(s), episodes=20_000, seed=int(5 + z + 100 * s))
        where = f"option {z}, state {s}"
        assert_mean(found.reward.mean, found.reward.error, model.R[z, s], tests, f"R, {where}")
        assert_mean(found.duration.mean, found.duration.error, durations[z, s], tests, f"duration, {where}")
        assert_mean(
            found.discount.mean, found.discount.error, model.expected_discount[z, s], tests, f"discount, {where}"
        )
        exact = np.asarray(model.option_matrix(int(z))[[int(s)]].todense())[0] if model.is_sparse else model.P[z, s]
        assert not found.outcome.mean[exact == 0].any()
        common = exact * found.episodes >= 25  # otherwise no Gaussian limit yet
        for t in np.flatnonzero(common):
            assert_mean(found.outcome.mean[t], found.outcome.error[t], exact[t], tests, f"P to {t}, {where}")
        # γ^τ 1{...} lies in [0, 1], so its variance is at most its mean.
        rest = exact[~common].sum()
        limit = z_limit(tests) * np.sqrt(rest / found.episodes) + 5 / found.episodes
        assert abs(found.outcome.mean[~common].sum() - rest) <= limit


def paths(mdp, options, node, state, depth):
    """Every path of an option that ends within ``depth`` steps: (probability, discounted reward, τ, last state)."""
    if depth == 0:
        return
    for a in np.flatnonzero(options.policy[node, state]):
        for t in np.flatnonzero(mdp.transitions[state, a]):
            p = options.policy[node, state, a] * mdp.transitions[state, a, t]
            end = 1.0 if mdp.terminal[t] else options.termination[node, t]
            reward = mdp.rewards[state, a]
            if end > 0:
                yield p * end, reward, 1, t
            if end < 1:
                for q, later, steps, last in paths(mdp, options, options.next_node[node], t, depth - 1):
                    yield p * (1 - end) * q, reward + mdp.discount * later, steps + 1, last


@pytest.mark.parametrize("kind", ["macros", "stochastic"])
def test_model_agrees_with_a_sum_over_paths(kind):
    """Exactly for macros; for options that may go on, up to the probability and discount of what is left out."""
    if kind == "macros":
        mdp, depth = envs.chain(5, slip=0.25), 3
        options = OptionSet.macros(mdp, [[1, 0, 1], [1, 1], [0]])
    else:
        mdp, depth = small_mdp(discount=0.5), 7
        options = random_options(mdp, 2, seed=6)
        options = OptionSet(options.policy, np.maximum(options.termination, 0.75))
    model = SMDP.from_options(mdp, options)
    for z, s in np.argwhere(model.available):
        reward, mass, outcome = 0.0, 0.0, np.zeros(mdp.num_states)
        for p, r, steps, last in paths(mdp, options, options.start_node[z], s, depth):
            reward += p * r
            mass += p
            outcome[last] += p * mdp.discount**steps
        left = 1 - mass
        assert left <= 1e-3 and (left < 1e-12 or kind == "stochastic")
        np.testing.assert_allclose(outcome, model.P[z, s], atol=left * mdp.discount ** (depth + 1) + 1e-14)
        # Rewards are at most 2, so a path that is left out has at most 2 / (1 - γ).
        np.testing.assert_allclose(reward, model.R[z, s], atol=left * 2 / (1 - mdp.discount) + 1e-14)


def test_option_env_agrees_with_model():
    """The wrapper, step by step, against the exact model; its zero discount at the end against the terminal state."""
    mdp = small_mdp()
    options = random_options(mdp, 2, seed=7)
    model = SMDP.from_options(mdp, options)
    env = OptionEnv(TabularEnv(mdp), options)
    env.reset(seed=8)
    for z in range(2):
        rewards, outcomes, ends, durations = [], np.zeros((4000, 3)), [], []
        for k in range(4000):
            env.reset(options={"state": 0})
            after, reward, terminated, _, info = env.step(z)
            rewards.append(reward)
            durations.append(info["duration"])
            ends.append(after)
            outcomes[k, after] = info["discount"]
            assert terminated == (after == 2)
        mean, error = outcomes.mean(0), outcomes.std(0, ddof=1) / np.sqrt(4000)
        assert mean[2] == 0  # terminated
        for t in range(2):
            assert_mean(mean[t], error[t], model.P[z, 0, t], tests=10)
        assert_mean(np.mean(rewards), np.std(rewards) / np.sqrt(4000), model.R[z, 0], tests=10)
        exact = expected_durations(mdp, options)[z, 0]
        assert_mean(np.mean(durations), np.std(durations) / np.sqrt(4000), exact, tests=10)
        # Without discount the outcome is a distribution: a chi-square of all three states.
        final = SMDP.from_options(mdp.replace(discount=1 - 1e-12), options).P[z, 0]
        assert_frequencies(np.bincount(ends, minlength=3), final / final.sum(), tests=10)


def test_rollouts_are_seeded_and_leave_the_mdp_alone():
    mdp, options = random_garnet()
    before = mdp.transitions.copy()
    runs = [rollout_model(mdp, options, "option 1", 3, 500, seed=s).reward.mean for s in (1, 1, 2)]
    assert runs[0] == runs[1] != runs[2]
    assert (before != mdp.transitions).nnz == 0


def test_stored_zeros_are_never_drawn():
    """A sparse model may hold explicit zeros, also at the ends of its rows."""
    rows = sp.csr_array((np.tile([0.0, 0.5, 0.5, 0.0], 4), np.tile(np.arange(4), 4), np.arange(0, 17, 4)), shape=(4, 4))
    mdp = MDP(rows, np.ones((4, 1)), 0.9, start=0)
    found = rollout_model(mdp, OptionSet.primitives(mdp), 0, 3, 1000, seed=0)
    assert found.outcome.mean[[0, 3]].tolist() == [0, 0]
    assert mdp.transitions.nnz == 16
    env = TabularEnv(mdp)
    env.reset(seed=0)
    assert {env.step(0)[0] for _ in range(200)} == {1, 2}


class LastNumber:
    """A generator that always gives the largest number below 1."""

    def random(self, size):
        return np.full(size, np.nextafter(1.0, 0.0))


def test_row_sampler_at_the_end_of_a_row():
    """There ``row + uniform`` rounds to the next row, and still the last positive entry is drawn."""
    stored = (np.tile([0.0, 0.5, 0.5, 0.0], 1000), np.tile(np.arange(4), 1000), np.arange(0, 4001, 4))
    sampler = _RowSampler(sp.csr_array(stored, shape=(1000, 4)))
    assert sampler.draw(np.array([998, 999]), LastNumber()).tolist() == [2, 2]


def test_standard_errors():
    """One slippery step: the outcome is Bernoulli; walking until it moves: the duration is geometric."""
    mdp = envs.chain(4, slip=0.3)
    one = rollout_model(mdp, OptionSet.primitives(mdp), "right", 0, 40_000, seed=0)
    np.testing.assert_allclose(one.outcome.error[1], 0.9 * np.sqrt(0.3 * 0.7 / 40_000), rtol=0.02)
    walk = OptionSet.from_policy(np.tile([0.0, 1.0], (4, 1)), [0, 1, 1, 1])
    until = rollout_model(mdp, walk, 0, 0, 40_000, seed=0)
    np.testing.assert_allclose(until.duration.error, np.sqrt(0.3 / 0.7**2 / 40_000), rtol=0.05)


@pytest.mark.parametrize("uniform", [0.0, 0.3, np.nextafter(1.0, 0.0)])
def test_draw_keeps_to_positive_weights(uniform):
    """At both ends of [0, 1), and for weights whose sum rounds."""
    assert _draw(np.array([0.0, 0.1, 0.0]), uniform) == 1
    assert _draw(np.array([0.0, *[0.1] * 10, 0.0, 0.0]), uniform) == {0.0: 1, 0.3: 3}.get(uniform, 10)


def test_rollout_errors():
    mdp = envs.chain(4)
    walk = OptionSet.macros(mdp, [[1, 0]])
    forever = OptionSet(np.tile([1.0, 0.0], (1, 4, 1)), np.zeros((1, 4)))
    run = partial(rollout_model, mdp, episodes=10, seed=0)
    with pytest.raises(ValueError, match="state: 'right-left' is not available in state 3"):
        run(walk, 0, 3)
    with pytest.raises(ValueError, match="options: there is no option 'up'"):
        run(walk, "up", 0)
    with pytest.raises(ValueError, match="episodes: a standard error needs at least 2, got 1"):
        rollout_model(mdp, walk, 0, 0, episodes=1, seed=0)
    with pytest.raises(ValueError, match="max_steps: 'option 0' still runs after 100 steps"):
        run(forever, 0, 0, max_steps=100)
