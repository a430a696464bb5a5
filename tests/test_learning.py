"""SMDP Q-learning: against the exact solution, its random stream, resumption, and what it refuses."""

import re
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from agreement import assert_frequencies

from ra3sim import SMDP, OptionSet
from ra3sim.envs import LineWorld, chain
from ra3sim.learning import OptionProblem, SMDPQLearning, _kernels
from ra3sim.planning import solve

EXACT = SMDPQLearning(step_size=1.0, epsilon=1.0)
NOISY = SMDPQLearning(step_size=0.3, epsilon=0.3)


def slippery():
    mdp = chain(5, slip=0.2, start=None)
    return OptionProblem(mdp, OptionSet.primitives(mdp) | OptionSet.point(mdp, [2, 4]))


def learn(learner, problem, episodes, seed=0):
    return learner.update(problem, learner.init(problem, seed), episodes)


def same(one, two):
    arrays = ("Q", "visits", "stream")
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in arrays) and (
        (one.episodes, one.steps) == (two.episodes, two.steps)
    )


@pytest.mark.parametrize(
    "options",
    [OptionSet.primitives, lambda mdp: OptionSet.macros(mdp, 2), lambda mdp: OptionSet.point(mdp, [0, 3, 5])],
    ids=["primitives", "macros", "point options"],
)
def test_without_noise_it_becomes_exact(options):
    mdp = chain(6, start=None)
    problem = OptionProblem(mdp, options(mdp))
    exact = SMDP.from_options(mdp, problem.options)
    values = solve(exact, tolerance=1e-10).values
    state = learn(EXACT, problem, 500)
    Q = np.where(exact.available, exact.R + exact.P @ values, 0)
    np.testing.assert_allclose(state.Q, Q, atol=1e-6)
    np.testing.assert_allclose(np.where(exact.available, state.Q, -np.inf)[:, :-1].max(0), values[:-1], atol=1e-6)
    greedy = state.greedy(problem.options)
    live = ~mdp.terminal
    np.testing.assert_allclose(Q[greedy[live], np.flatnonzero(live)], values[live], atol=1e-6)


def test_noise_averages_out():
    """A small step leaves little noise, and little of the upward bias of a maximum over noise."""
    problem = slippery()
    values = solve(SMDP.from_options(problem.mdp, problem.options), tolerance=1e-10).values
    state = learn(replace(EXACT, step_size=0.001), problem, 200_000)
    found = np.where(problem.options.initiation, state.Q, -np.inf).max(0)
    np.testing.assert_allclose(found[:-1], values[:-1], atol=0.03)


def test_a_task_of_lineworld():
    """All skills of the tiny world, in every segment; states are compared where a skill can begin and did."""
    world = LineWorld.preset("tiny")
    table = world.table()
    for task in [world.task([(0, 0), (2, 0)]), world.task([(1, 0), (1, 0)])]:
        options = table.skill_options()
        mdp = table.mdp(task)
        state = learn(EXACT, OptionProblem(mdp, options), 300)
        values = solve(table.smdp(task, options), tolerance=1e-10).values
        begun = state.visits.sum(0) > 0
        assert begun[mdp.start > 0].all() and (state.visits[:, begun] > 0).all() and begun.sum() > 1
        np.testing.assert_allclose(state.Q.max(0)[begun], values[begun], atol=1e-6)
        assert abs(values[mdp.start > 0].item() - world.discount ** (world.horizon - 1)) < 1e-9
        assert state.steps == 300 * world.horizon and state.visits.sum() == 300 * world.depth


def test_two_calls_are_one():
    problem = slippery()
    start = NOISY.init(problem, 5)
    kept = (start.Q.copy(), start.stream.copy())
    for n, m in [(1, 1), (7, 30), (0, 9)]:
        assert same(NOISY.update(problem, NOISY.update(problem, start, n), m), NOISY.update(problem, start, n + m))
    assert np.array_equal(start.Q, kept[0]) and np.array_equal(start.stream, kept[1])  # nothing is learnt in place


def test_the_seed_decides():
    problem = slippery()
    runs = [learn(NOISY, problem, 30, seed) for seed in range(5)]
    assert same(runs[3], learn(NOISY, problem, 30, 3))
    assert same(runs[3], learn(NOISY, problem, 30, np.random.SeedSequence(3)))
    assert len({run.Q.tobytes() for run in runs}) == 5


def test_the_stream_is_xorshift():
    """Bit for bit, against Python's integers."""
    x, y = words = [0x9E3779B97F4A7C15, 0xFFFFFFFFFFFFFFF1]
    stream = np.array(words, np.uint64)
    for _ in range(1000):
        x, y = y, x
        y ^= (y << 23) & (2**64 - 1)
        y ^= (y >> 17) ^ x ^ (x >> 26)
        assert _kernels.uniform(stream) == ((x + y) % 2**64 >> 11) * 2.0**-53
        assert stream.tolist() == [x, y]


def test_the_stream_is_uniform():
    problem = slippery()
    stream = EXACT.init(problem, 0).stream.copy()
    numbers = np.array([_kernels.uniform(stream) for _ in range(40_000)])
    first = np.array([_kernels.uniform(EXACT.init(problem, seed).stream) for seed in range(4000)])
    assert numbers.min() >= 0 and numbers.max() < 1
    assert_frequencies(np.bincount((numbers * 64).astype(int), minlength=64), np.full(64, 1 / 64), tests=3)
    pairs = (numbers[::2] * 16).astype(int) * 16 + (numbers[1::2] * 16).astype(int)
    assert_frequencies(np.bincount(pairs, minlength=256), np.full(256, 1 / 256), tests=3)
    assert_frequencies(np.bincount((first * 64).astype(int), minlength=64), np.full(64, 1 / 64), tests=3)


def test_exploration_is_uniform_over_the_available():
    """In each state each available option as often; with ties and without exploration too."""
    mdp = chain(3, start=0)
    problem = OptionProblem(mdp, OptionSet.macros(mdp, [[0], [1], [0, 0], [1, 1]]))
    random = learn(replace(EXACT, step_size=1e-300), problem, 4000)
    for s in (0, 1):
        assert_frequencies(random.visits[:, s], np.full(4, 0.25), tests=3)
    corridor = chain(4, discount=0.0, start=0)
    equal = OptionProblem(corridor, OptionSet.macros(corridor, [[0], [1], [0, 0], [1, 1]]))
    ties = learn(SMDPQLearning(epsilon=0.0, max_steps=2), equal, 4000)
    assert not ties.Q[:, 0].any()
    # Of the first choices all four are learnt from; the second ones in state 0 end in time only for macros of a step.
    two, again = ties.visits[2:, 0], ties.visits[:2, 0]
    assert_frequencies(np.append(two, 4000 - two.sum()), [0.25, 0.25, 0.5], tests=3)
    assert again.sum() > 4000 - two.sum()


def test_what_is_cut_is_not_learnt_from():
    mdp = chain(6, start=0)
    options = OptionSet.macros(mdp, [[0] * 3, [1] * 3, [1]])
    cut = learn(replace(EXACT, max_steps=2), OptionProblem(mdp, options.subset([0, 1])), 50)
    assert cut.visits.sum() == 0 and not cut.Q.any() and (cut.episodes, cut.steps) == (50, 100)
    # An option that ends with the last step is learnt from; one that goes on is not.
    last = learn(replace(EXACT, max_steps=3, initial=7.0), OptionProblem(mdp, options.subset([1])), 1)
    assert last.visits.sum() == last.visits[0, 0] == 1 and (last.Q[:, 1:] == 7).all()
    np.testing.assert_allclose(last.Q[0, 0], mdp.discount**3 * 7)
    some = learn(replace(EXACT, max_steps=4), OptionProblem(mdp, options), 200)
    assert some.steps == 800 and 200 <= some.visits.sum() < 800
    assert (some.visits[:2, 2:] == 0).all()  # two steps were gone there, three more do not fit


@pytest.mark.parametrize("initial", [-5.0, 3.0])
def test_the_end_is_worth_nothing(initial):
    mdp = chain(2, discount=0.5, start=0)
    state = learn(replace(EXACT, initial=initial), OptionProblem(mdp, OptionSet.macros(mdp, [[1]])), 1)
    assert state.Q.tolist() == [[1.0, initial]]


def test_a_state_without_an_option():
    mdp = chain(5, start=0)
    right = np.tile([0.0, 1.0], (5, 1))
    stops = OptionSet.from_policy(right, [0, 0, 1, 0, 1], initiation=[0])
    with pytest.raises(ValueError, match=re.escape("none is available in state (0, 2)")):
        learn(EXACT, OptionProblem(mdp, stops), 1)
    elsewhere = OptionSet.from_policy(right, [0, 0, 0, 0, 1], initiation=[1])
    with pytest.raises(ValueError, match=re.escape("none is available in state (0, 0)")):
        learn(EXACT, OptionProblem(mdp, elsewhere), 1)
    assert learn(EXACT, OptionProblem(mdp, OptionSet.from_policy(right, np.zeros(5), initiation=[0])), 1).steps == 4
    assert learn(EXACT, OptionProblem(mdp, elsewhere), 0).greedy(elsewhere).tolist() == [-1, 0, -1, -1, -1]


REFUSED = {
    "no step": (partial(SMDPQLearning, step_size=0.0), "step_size: must lie in (0, 1]"),
    "long step": (partial(SMDPQLearning, step_size=1.1), "step_size: must lie in (0, 1]"),
    "step nan": (partial(SMDPQLearning, step_size=np.nan), "step_size: must lie in (0, 1]"),
    "epsilon": (partial(SMDPQLearning, epsilon=-0.1), "epsilon: must lie in [0, 1]"),
    "large epsilon": (partial(SMDPQLearning, epsilon=1.1), "epsilon: must lie in [0, 1]"),
    "initial": (partial(SMDPQLearning, initial=np.inf), "initial: must be finite"),
    "max_steps": (partial(SMDPQLearning, max_steps=0), "max_steps: must be at least 1"),
    "other states": (
        lambda: OptionProblem(chain(4), OptionSet.primitives(chain(5))),
        "options: over (S, A) = (5, 2), the MDP has (4, 2)",
    ),
    "start at the end": (
        lambda: OptionProblem(chain(4, start=3), OptionSet.primitives(chain(4))),
        "mdp: may start in a terminal state",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED)
def test_refused(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()
