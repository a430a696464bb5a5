"""Every environment meets one contract; the project's own ones are held against slow and obvious references."""

from functools import partial

import gymnasium
import numpy as np
import pytest
import scipy.sparse as sp
from agreement import assert_frequencies
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env

from ra3sim import envs
from ra3sim.envs._grid import Grid, named_cells
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.simulate import TabularEnv
from ra3sim.smdp import SMDP, expected_durations

MAKERS = {
    "chain": partial(envs.chain, 6),
    "chain, slippery": partial(envs.chain, 6, slip=0.3, start=None),
    "FourRooms": partial(envs.fourrooms, goal=(9, 9)),
    "FourRooms without goal": envs.fourrooms,
    "FourRooms, sparse": partial(envs.fourrooms, goal=(0, 0), size=8, sparse=True, start=(7, 7)),
    "key and door": partial(envs.keydoor, 3, slip=0.3),
    "grid with walls": partial(envs.grid_world, 6, 7, walls=0.25, seed=1),
    "Garnet": partial(envs.garnet, 15, 3, branching=4, discount=0.9, seed=2),
    "Garnet, sparse": partial(envs.garnet, 50, 2, branching=6, discount=0.9, seed=3, sparse=True),
    "FrozenLake": partial(envs.from_gymnasium, "FrozenLake-v1", 0.95),
    "FrozenLake 8x8": partial(envs.from_gymnasium, "FrozenLake8x8-v1", 0.95, is_slippery=False),
    "LineWorld": lambda: envs.LineWorld.preset("tiny").table().mdp(envs.LineWorld.preset("tiny").task_at(5)),
    "Taxi": partial(envs.from_gymnasium, "Taxi-v4", 0.95),
    "Taxi, rain": partial(envs.from_gymnasium, "Taxi-v4", 0.95, is_rainy=True, sparse=True),
    "CliffWalking": partial(envs.from_gymnasium, "CliffWalking-v1", 0.95),
    "CliffWalking, slippery": partial(envs.from_gymnasium, "CliffWalkingSlippery-v1", 0.95),
    "MiniGrid Empty": partial(envs.from_minigrid, "MiniGrid-Empty-5x5-v0", 0.95, seed=0),
    "MiniGrid FourRooms": partial(envs.from_minigrid, "MiniGrid-FourRooms-v0", 0.95, seed=0),
    "MiniGrid DoorKey": partial(envs.from_minigrid, "MiniGrid-DoorKey-5x5-v0", 0.95, seed=0),
}


@pytest.fixture(scope="module", params=MAKERS)
def mdp(request):
    return MAKERS[request.param]()


def test_contract_valid_mdp(mdp):
    assert isinstance(mdp.replace(), MDP)  # validates every array anew
    assert np.isclose(mdp.start.sum(), 1) and not mdp.start[mdp.terminal].any()
    assert mdp.available[~mdp.terminal].all()
    assert mdp.discount < 1 and len(mdp.state_names) == mdp.num_states


def test_contract_checker(mdp):
    env = TabularEnv(mdp)
    env.spec = EnvSpec("ra3sim/Checked-v0", entry_point=partial(TabularEnv, mdp))
    check_env(env)
    assert mdp.state_names[env.reset(seed=0)[0]] in TabularEnv.render(_rendering(mdp))


def _rendering(mdp):
    env = TabularEnv(mdp, render_mode="ansi")
    env.reset(seed=0)
    return env


def test_contract_start(mdp):
    env = TabularEnv(mdp)
    states = [env.reset(seed=4)[0]] + [env.reset()[0] for _ in range(999)]
    assert_frequencies(np.bincount(states, minlength=mdp.num_states), mdp.start, tests=len(MAKERS))


def test_contract_frequencies(mdp):
    """The successors of some pairs (s, a), with the most random ones among them."""
    rows = sp.csr_array(mdp.rows())
    live = np.repeat(~mdp.terminal, mdp.num_actions)
    spread = np.where(live, np.diff(rows.indptr), 0)
    rng = np.random.default_rng(5)
    pairs = np.unique([*np.argsort(-spread)[:5], *rng.choice(np.flatnonzero(live), 5)])
    env = TabularEnv(mdp)
    env.reset(seed=6)
    for pair in pairs:
        state, action = divmod(int(pair), mdp.num_actions)
        counts = np.zeros(mdp.num_states, int)
        for _ in range(400):
            env.reset(options={"state": state})
            after, reward, terminated, truncated, info = env.step(action)
            counts[after] += 1
            assert reward == mdp.rewards[state, action]
            assert terminated == mdp.terminal[after] and not truncated
            assert info["discount"] == (0 if terminated else mdp.discount)
            assert (info["action_mask"] == mdp.available[after]).all()
        assert_frequencies(counts, rows[[int(pair)]].toarray()[0], tests=len(MAKERS) * len(pairs))


@pytest.mark.parametrize(
    "make",
    [
        partial(envs.fourrooms, slip=0.0),
        partial(envs.keydoor, 3),
        partial(envs.chain, 5),
        partial(envs.from_gymnasium, "FrozenLake-v1", 0.9, is_slippery=False),
        partial(envs.from_gymnasium, "Taxi-v4", 0.9),
        partial(envs.from_gymnasium, "CliffWalking-v1", 0.9),
    ],
)
def test_moves_go_where_their_names_say(make):
    mdp = make()
    cells = named_cells(mdp)
    to = mdp.transitions.argmax(-1)
    for action, move in enumerate(mdp.action_names):
        moved = (to[:, action] != np.arange(mdp.num_states)) & mdp.reachable()
        steps = cells[to[moved, action]] - cells[moved]
        near = steps[np.abs(steps).sum(1) == 1]  # falls from the cliff go far, and the end of Taxi has no cell
        wanted = {"up": (-1, 0), "right": (0, 1), "down": (1, 0), "left": (0, -1)}.get(move)
        assert len(near) == 0 if wanted is None else (len(near) > 0 and (near == wanted).all())


@pytest.mark.parametrize("family", ["FourRooms", "Chain", "KeyDoor", "Garnet", "LineWorld"])
def test_registered(family):
    env = gymnasium.make(f"ra3sim/{family}-v0", render_mode="ansi", max_steps=3)
    check_env(env.unwrapped)
    assert isinstance(env.unwrapped.mdp, MDP)
    assert env.unwrapped.max_steps == 3 and env.unwrapped.render_mode == "ansi"


def test_registered_arguments():
    assert gymnasium.make("ra3sim/FourRooms-v0", size=7, goal=(0, 0)).unwrapped.mdp.num_states == 40


PAPER_MAP = """
#############
#     #     #
#     #     #
#           #
#     #     #
#     #     #
## ####     #
#     ### ###
#     #     #
#     #     #
#           #
#     #     #
#############
""".split("\n")[1:-1]  # Sutton, Precup & Singh (1999), figure 2


def reference_grid(text, slip, goal):
    """Transitions and rewards, one pair at a time, from a map with its border."""
    cells = [(r, c) for r, line in enumerate(text) for c, mark in enumerate(line) if mark == " "]
    transitions, rewards = np.zeros((len(cells), 4, len(cells))), np.zeros((len(cells), 4))
    for s, cell in enumerate(cells):
        for a in range(4):
            if cell == goal:
                transitions[s, a, s] = 1
                continue
            for b, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
                after = (cell[0] + down, cell[1] + right)
                after = after if after in cells else cell
                probability = 1 - slip if a == b else slip / 3
                transitions[s, a, cells.index(after)] += probability
                rewards[s, a] += probability * (after == goal)
    return transitions, rewards


@pytest.mark.parametrize("sparse", [False, True])
def test_fourrooms_is_the_papers(sparse):
    mdp = envs.fourrooms(goal=(6, 8), sparse=sparse)
    transitions, rewards = reference_grid(PAPER_MAP, 1 / 3, goal=(7, 9))
    np.testing.assert_allclose(mdp.to_dense().transitions, transitions, atol=1e-15)
    np.testing.assert_allclose(mdp.rewards, rewards, atol=1e-15)
    assert mdp.num_states == 104 and np.flatnonzero(mdp.terminal) == [62]


@pytest.mark.parametrize("size", [6, 7, 10, 21, 32])
def test_fourrooms_sizes(size):
    mdp = envs.fourrooms(size=size)
    assert mdp.num_states == size**2 - 2 * size + 5
    assert len(envs.hallways(mdp)) == 4
    assert mdp.reachable(np.eye(1, mdp.num_states, dtype=bool)[0]).all()
    assert not np.isin(envs.fourrooms_goals(size), envs.hallways(mdp)).any()


def test_fourrooms_grows_to_ten_thousand_states():
    mdp = envs.fourrooms(goal=(100, 100), size=101)
    assert mdp.is_sparse and mdp.num_states == 10_004


def test_grid_world_matches_reference_and_connects():
    mdp = envs.grid_world(8, 9, walls=0.35, seed=7, slip=0.2, goal=(2, 3))
    picture = Grid.of(mdp).draw({}).replace(".", " ").split("\n")
    transitions, rewards = reference_grid(picture, 0.2, goal=(3, 4))
    np.testing.assert_allclose(mdp.transitions, transitions, atol=1e-15)
    np.testing.assert_allclose(mdp.rewards, rewards, atol=1e-15)
    assert 20 < mdp.num_states < 0.65 * 72
    # Rooms without a way to the goal are filled up: a free grid with the same walls would have them.
    assert mdp.reachable(np.eye(1, mdp.num_states, dtype=bool)[0]).all()


def distances(mdp, state):
    """Fewest steps from a state to every other, ``(S,)``."""
    graph = sp.csr_array(sum(sp.csr_array(mdp.action_matrix(a)) for a in range(mdp.num_actions)))
    return sp.csgraph.shortest_path(graph, indices=state, unweighted=True)


def test_keydoor_distances():
    mdp = envs.keydoor(4)
    start = mdp.state_names.index("(3, 0) key on the floor")
    goal = mdp.state_names.index("(3, 8) door open")
    # Pick up, 5 moves to the door, open, 7 moves to the goal.
    assert distances(mdp, start)[goal] == 1 + 5 + 1 + 7
    assert (np.flatnonzero(mdp.terminal) == [goal]).all()
    assert mdp.reachable().all()
    hand = mdp.state_names.index("(3, 0) key in hand")
    assert mdp.transitions[start, 4, hand] == 1 and mdp.transitions[start, 5, start] == 1
    # Only "open" leads to an open door, and the way there is one way.
    stage = np.array([0 if "floor" in name else 1 if "hand" in name else 2 for name in mdp.state_names])
    s, a, t = np.nonzero(mdp.transitions)
    assert (stage[t] >= stage[s]).all()
    assert set(a[stage[t] > stage[s]]) == {4, 5}


@pytest.mark.parametrize("slip", [0.0, 0.25])
def test_chain_durations_and_values(slip):
    """The closed forms of the docstring, against the linear solve of the SMDP model."""
    mdp = envs.chain(7, discount=0.9, slip=slip)
    walk = OptionSet.from_policy(np.tile([0.0, 1.0], (7, 1)), np.eye(7)[4], range(4), name="to 4")
    rest = OptionSet.primitives(mdp)
    model = SMDP.from_options(mdp, walk | rest)
    distance = 4 - np.arange(4)
    per_step = 0.9 * (1 - slip) / (1 - 0.9 * slip)
    np.testing.assert_allclose(model.P[0, :4, 4], per_step**distance, rtol=1e-12)
    np.testing.assert_allclose(expected_durations(mdp, walk)[0, :4], distance / (1 - slip), rtol=1e-12)
    right, reward = mdp.under(np.tile([0.0, 1.0], (7, 1)))
    values = np.linalg.solve(np.eye(7) - 0.9 * right, reward)
    np.testing.assert_allclose(values[:6], per_step ** (6 - np.arange(6)) / 0.9, rtol=1e-12)


@pytest.mark.parametrize("branching", [1, 3, 9, 12])
def test_garnet_branching(branching):
    """Every pair has its number of successors, uniformly chosen; probabilities are uniform gaps."""
    mdp = envs.garnet(12, 200, branching, 0.9, seed=8)
    reached = mdp.transitions > 0
    assert (reached.sum(-1) == branching).all()
    # Each row is a uniform subset, so (without replacement) the counts vary less than the test allows for.
    assert_frequencies(reached.sum((0, 1)), np.full(12, 1 / 12))
    squares = (mdp.transitions**2).sum(-1).ravel()
    # Under Dirichlet(1, ..., 1) each of b probabilities has E[p^2] = 2 / (b (b + 1)).
    error = squares.std() / np.sqrt(squares.size)
    assert abs(squares.mean() - 2 / (branching + 1)) <= 4 * error + 1e-12
    assert mdp.rewards.min() >= 0 and mdp.rewards.max() < 1
    sparse = envs.garnet(12, 200, branching, 0.9, seed=8, sparse=True)
    np.testing.assert_array_equal(sparse.to_dense().transitions, mdp.transitions)
    np.testing.assert_array_equal(sparse.rewards, mdp.rewards)
    assert (envs.garnet(12, 200, branching, 0.9, seed=9).rewards != mdp.rewards).any()


def test_hallway_options():
    mdp = envs.fourrooms(slip=0.0)
    options = envs.hallway_options(mdp)
    assert len(options) == 8
    durations = expected_durations(mdp, options)
    halls = envs.hallways(mdp)
    for z in range(8):
        door = halls[[mdp.state_names[h] == options.names[z].split(" to ")[1] for h in halls]][0]
        begin = options.initiation[z]
        # 20, 25 or 30 cells of a room, and its other hallway.
        assert begin.sum() in (21, 26, 31) and not begin[door]
        np.testing.assert_allclose(durations[z, begin], distances(mdp, door)[begin])
        assert (options.termination[z, begin & ~np.isin(np.arange(104), halls)] == 0).all()
        assert options.termination[z, halls].all()
    # Every state can go somewhere: a decision space without primitives.
    assert SMDP.from_options(mdp, options).gamma_bar == mdp.discount


def test_hallway_options_slippery_and_shared():
    """Options of the world without a goal work in each task, and reach their hallway nearly always."""
    options = envs.hallway_options(envs.fourrooms())
    task = envs.fourrooms(goal=(9, 9))
    model = SMDP.from_options(task, OptionSet.primitives(task) | options)
    assert model.num_options == 12
    undiscounted = SMDP.from_options(envs.fourrooms(discount=1 - 1e-9), options)
    z = options.names.index("room 0 to (2, 5)")
    corner, door = 0, envs.hallways(task)[0]
    assert undiscounted.P[z, corner, door] > 0.99


ERRORS = {
    "chain length": (partial(envs.chain, 1), "length: a corridor has at least 2 states"),
    "chain slip": (partial(envs.chain, 3, slip=1.5), "slip: must be a probability"),
    "chain start": (partial(envs.chain, 3, start=3), "start: there is no state 3"),
    "goal in a wall": (partial(envs.fourrooms, goal=(0, 5)), r"goal: cell \(0, 5\) is a wall"),
    "goal off the map": (partial(envs.fourrooms, goal=(11, 0)), r"goal: cell \(11, 0\) is off the 11 x 11 map"),
    "goal state": (partial(envs.fourrooms, goal=104), "goal: there is no state 104; states are 0 to 103"),
    "start in a wall": (partial(envs.fourrooms, start=(0, 5)), r"start: cell \(0, 5\) is a wall"),
    "rooms too small": (partial(envs.fourrooms, size=5), "size: rooms need a size of at least 6"),
    "negative slip": (partial(envs.fourrooms, slip=-0.1), "slip: must be a probability"),
    "key and door size": (partial(envs.keydoor, 1), "size: a room has at least 2 x 2 cells"),
    "grid size": (partial(envs.grid_world, 0, 3), "height, width: must be at least 1"),
    "grid walls": (partial(envs.grid_world, 3, 3, walls=2), "walls: must be a probability"),
    "grid seed": (partial(envs.grid_world, 3, 3, walls=0.1), "seed: random walls need one"),
    "Garnet branching": (partial(envs.garnet, 3, 2, 4, 0.9, 0), "branching: must lie between 1 and num_states=3"),
    "Garnet size": (partial(envs.garnet, 0, 2, 1, 0.9, 0), "num_states, num_actions: must be at least 1"),
    "no map": (lambda: envs.hallways(envs.garnet(3, 1, 1, 0.9, 0)), "mdp: no state name begins with"),
    "no hallways": (lambda: envs.hallway_options(envs.grid_world(3, 3)), "mdp: its map has no hallways"),
    "hallway too far": (
        lambda: envs.hallway_options(envs.fourrooms(discount=0.01)),
        "mdp: hallway .* cannot be reached",
    ),
    "two states in a cell": (lambda: envs.hallways(envs.keydoor()), "one state per cell"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(case):
    make, message = ERRORS[case]
    with pytest.raises(ValueError, match=message):
        make()
