"""Third-party environments: the exact MDP against the real environment, stepped."""

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_frequencies, assert_mean

from ra3sim.envs import from_gymnasium, from_minigrid

TABLES = [
    ("FrozenLake-v1", {}),
    ("FrozenLake-v1", {"is_slippery": False}),
    ("FrozenLake8x8-v1", {"success_rate": 0.7, "reward_schedule": (10, -2, -1)}),
    ("Taxi-v4", {}),
    ("Taxi-v4", {"is_rainy": True}),
    ("CliffWalking-v1", {}),
    ("CliffWalkingSlippery-v1", {}),
]


@pytest.mark.parametrize(("name", "arguments"), TABLES)
def test_toy_text_frequencies(name, arguments):
    """Successors, ends and rewards of the real environment, set to a state and stepped."""
    mdp = from_gymnasium(name, 0.9, **arguments)
    env = gymnasium.make(name, **arguments).unwrapped
    env.reset(seed=1)
    rng = np.random.default_rng(2)
    rows = sp.csr_array(mdp.rows())
    lives = np.flatnonzero(~mdp.terminal)
    # Pairs with a reward of their own kind (falls, ends, refusals) and others; 300 runs of each.
    rewards = mdp.rewards[lives].ravel()
    _, special = np.unique(rewards, return_index=True)
    for at in [*special[:8], *rng.choice(rewards.size, 15)]:
        state, action = int(lives[at // mdp.num_actions]), int(at % mdp.num_actions)
        counts, paid = np.zeros(mdp.num_states, int), []
        for _ in range(300):
            env.s = state
            after, reward, terminated, _, _ = env.step(action)
            counts[after if mdp.terminal[after] or not terminated else mdp.num_states - 1] += 1
            assert not (mdp.terminal[after] and not terminated)
            paid.append(reward)
        assert_frequencies(counts, rows[[state * mdp.num_actions + action]].toarray()[0], tests=23 * len(TABLES))
        error = np.std(paid, ddof=1) / np.sqrt(len(paid))
        # Rare rewards (a fall of -100) may not show at all: then the spread says nothing, the chi-square above does.
        if error > 0 or len({r for _, _, r, _ in env.P[state][action]}) == 1:
            assert_mean(np.mean(paid), error, mdp.rewards[state, action], tests=23 * len(TABLES))


@pytest.mark.parametrize(("name", "arguments"), TABLES)
def test_toy_text_start(name, arguments):
    mdp = from_gymnasium(name, 0.9, **arguments)
    env = gymnasium.make(name, **arguments).unwrapped
    states = [env.reset(seed=3)[0]] + [env.reset()[0] for _ in range(999)]
    assert_frequencies(np.bincount(states, minlength=mdp.num_states), mdp.start, tests=len(TABLES))


def test_toy_text_ends():
    """FrozenLake and CliffWalking end in states of their own; Taxi, which passes through its ends, needs one more."""
    lake = from_gymnasium("FrozenLake-v1", 0.9)
    assert np.flatnonzero(lake.terminal).tolist() == [5, 7, 11, 12, 15] and lake.num_states == 16
    cliff = from_gymnasium("CliffWalking-v1", 0.9)
    assert np.flatnonzero(cliff.terminal).tolist() == [47] and cliff.num_states == 48
    taxi = from_gymnasium("Taxi-v4", 0.9)
    assert np.flatnonzero(taxi.terminal).tolist() == [500] and taxi.state_names[500] == "end"
    # The passenger is in the taxi, which stands at green, where she wants to go: 20 for dropping her off.
    at = taxi.state_names.index("(0, 4) passenger in taxi, to green")
    assert taxi.rewards[at, 5] == 20 and taxi.transitions[at, 5, 500] == 1


class Table(gymnasium.Env):
    """An environment that is nothing but a table, with one state of every kind."""

    def __init__(self):
        self.P = {
            0: {0: [(0.5, 1, 2.0, True), (0.25, 2, 4.0, True), (0.25, 2, 0.0, False)]},
            1: {
                0: [(1.0, 1, 1.0, False)]
            },  # entered by an end alone; that it goes on in a loop of its own does not matter
            2: {0: [(0.5, 3, 1.0, True), (0.5, 0, 1.0, True)]},  # entered both ways
            3: {0: [(1.0, 3, 7.0, True)]},  # entered by ends alone
        }
        self.initial_state_distrib = np.array([1.0, 0.0, 0.0, 0.0])  # 0: a start that is entered by an end alone


def test_toy_text_endings_of_every_kind():
    mdp = from_gymnasium(Table(), 0.9)
    assert np.flatnonzero(mdp.terminal).tolist() == [1, 3, 4]
    assert mdp.transitions[0, 0].tolist() == [0, 0.5, 0.25, 0, 0.25]
    assert mdp.transitions[2, 0].tolist() == [0, 0, 0, 0.5, 0.5]
    assert mdp.rewards.ravel().tolist() == [2, 0, 1, 0, 0]
    assert mdp.start.tolist() == [1, 0, 0, 0, 0] and mdp.state_names == ("0", "1", "2", "3", "end")


def test_toy_text_value_of_the_cliff_walk():
    """The safe path has 13 steps; the value of walking it is a geometric sum."""
    mdp = from_gymnasium("CliffWalking-v1", 0.9)
    state, total = 36, 0.0
    for step, move in enumerate(["up"] + ["right"] * 11 + ["down"]):
        action = mdp.action_names.index(move)
        total += 0.9**step * mdp.rewards[state, action]
        state = int(mdp.transitions[state, action].argmax())
    assert state == 47
    np.testing.assert_allclose(total, -(1 - 0.9**13) / 0.1)


def test_toy_text_from_an_environment_and_sparse():
    env = gymnasium.make("FrozenLake-v1", is_slippery=False)
    one, two = from_gymnasium(env, 0.9), from_gymnasium("FrozenLake-v1", 0.9, is_slippery=False, sparse=True)
    np.testing.assert_array_equal(one.transitions, two.to_dense().transitions)
    assert two.is_sparse and one.name == two.name == "FrozenLake-v1"


def test_toy_text_errors():
    with pytest.raises(ValueError, match="env_or_id: CartPole-v1 has no table P"):
        from_gymnasium("CartPole-v1", 0.9)
    with pytest.raises(ValueError, match="fickle_passenger moves on outside its table"):
        from_gymnasium("Taxi-v4", 0.9, fickle_passenger=True)
    with pytest.raises(ValueError, match=r"kwargs: \['is_slippery'\] are for an id"):
        from_gymnasium(gymnasium.make("FrozenLake-v1"), 0.9, is_slippery=False)
    with pytest.raises(gymnasium.error.Error):
        from_gymnasium("NoSuchLake-v1", 0.9)


def facts(env):
    """What a state name has to say, read from the real environment."""
    column, row = (int(i) for i in env.agent_pos)
    text = [f"({row}, {column}) facing {['right', 'down', 'left', 'up'][env.agent_dir]}"]
    if env.carrying:
        text.append(f"carrying {env.carrying.color} {env.carrying.type}")
    for i, thing in enumerate(env.grid.grid):
        if thing is not None and thing.type in ("door", "key", "ball", "box"):
            door = ""
            if thing.type == "door":
                door = " open" if thing.is_open else " locked" if thing.is_locked else " closed"
            text.append(f"{thing.color} {thing.type}{door} at ({i // env.width}, {i % env.width})")
    return ", ".join(text)


def way(mdp, start, goals):
    """A shortest sequence of actions from a state into one of the goals of a deterministic MDP."""
    graph = sp.csr_array(mdp.rows())
    to = graph.indices.reshape(mdp.num_states, mdp.num_actions)
    came, queue = {start: None}, [start]
    for state in queue:
        if state in goals:
            actions = []
            while came[state]:
                state, action = came[state]
                actions.append(action)
            return actions[::-1]
        for action, after in enumerate(to[state]):
            if after not in came:
                came[after] = (state, action)
                queue.append(int(after))
    raise AssertionError("no way")


@pytest.mark.parametrize(
    "name", ["MiniGrid-FourRooms-v0", "MiniGrid-DoorKey-6x6-v0", "MiniGrid-Empty-6x6-v0", "MiniGrid-LavaGapS5-v0"]
)
def test_minigrid_follows_the_real_environment(name):
    """Random walks, and then the shortest way to the goal, step by step beside the real environment."""
    mdp = from_minigrid(name, 0.9, seed=4, sparse=True)
    env = gymnasium.make(name).unwrapped
    to = mdp.transitions.indices.reshape(mdp.num_states, mdp.num_actions)
    success = set(to[mdp.rewards == 1].tolist())
    rng = np.random.default_rng(5)
    solution = way(mdp, 0, success)
    for actions in [*rng.integers(mdp.num_actions, size=(6, 90)).tolist(), solution]:
        env.reset(seed=4)
        state = 0
        for action in actions:
            _, reward, terminated, _, _ = env.step(action)
            assert mdp.rewards[state, action] == (reward > 0)
            state = to[state, action]
            assert mdp.state_names[state] == facts(env) + (", end" if terminated else "")
            assert mdp.terminal[state] == terminated
            if terminated:
                break
    assert reward > 0 and len(actions) == len(solution)


def test_minigrid_leaves_the_environment_as_reset():
    env = gymnasium.make("MiniGrid-DoorKey-5x5-v0")
    mdp = from_minigrid(env, 0.9, seed=6)
    assert mdp.state_names[0] == facts(env.unwrapped)
    assert mdp.reachable().all()
    other = gymnasium.make("MiniGrid-DoorKey-5x5-v0")
    fresh, _ = other.reset(seed=6)
    assert (env.unwrapped.gen_obs()["image"] == fresh["image"]).all()
    assert env.unwrapped._reward() == other.unwrapped._reward()
    assert env.unwrapped.np_random.random() == other.unwrapped.np_random.random()


MINIGRID_ERRORS = {
    "no MiniGrid": ("FrozenLake-v1", {}, "env_or_id: FrozenLake-v1 is no MiniGrid environment"),
    "random": ("MiniGrid-Dynamic-Obstacles-5x5-v0", {}, "is random; only deterministic environments"),
    "memory": ("BabyAI-GoToObj-v0", {}, "follows instructions that keep a memory"),
    "too many": ("MiniGrid-DoorKey-5x5-v0", {"max_states": 50}, "max_states: .* has more than 50 states"),
}


@pytest.mark.parametrize("case", MINIGRID_ERRORS)
def test_minigrid_errors(case):
    name, arguments, message = MINIGRID_ERRORS[case]
    with pytest.raises(ValueError, match=message):
        from_minigrid(name, 0.9, seed=0, **arguments)


def test_minigrid_refuses_hidden_state():
    """An attribute that a step changes, beside the known ones, would be lost between two visits of a state."""
    from minigrid.envs.empty import EmptyEnv

    class Counting(EmptyEnv):
        turns = 0

        def step(self, action):
            self.turns = self.turns + (action == 0)
            return super().step(action)

    with pytest.raises(ValueError, match="a step of Counting changes turns, which is no part of the state"):
        from_minigrid(Counting(size=5), 0.9, seed=0)
    with pytest.raises(ValueError, match=r"kwargs: .* are for an id"):
        from_minigrid(EmptyEnv(size=5), 0.9, seed=0, max_steps=3)
