"""Planning against quantecon, LAPACK policy iteration and the speed of memory; one core for all."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from quantecon.markov import DiscreteDP

from benchmarks.timing import Pair, Row, pair, stream, table, versions
from ra3sim import MDP, SMDP, OptionSet, SMDPBatch, solve, solve_batch
from ra3sim.envs import fourrooms, grid_world
from ra3sim.planning._operators import kernel_arrays, plain_backup

DISCOUNT, TOLERANCE, SEED = 0.99, 1e-6, 0


def report() -> Iterator[str]:
    """Lines of Markdown, each as soon as it is known."""
    yield from table(rows())
    model, compiled = option_model(), compilation()
    yield ""
    yield (
        f"Model of 64 point options on FourRooms with {model['states']:,} states, sparse: {model['seconds']:.1f} s "
        f"({model['least']:.1f} to {model['most']:.1f}; target 5), {model['entries']:,} entries; peak "
        f"{model['peak MB']:.0f} MB above the inputs, of which the result's matrix is {model['result MB']:.0f} MB and "
        f"rewards and masks {model['R and masks MB']:.0f} MB. Finding the options' policies took "
        f"{model['point options']:.1f} s more."
    )
    yield ""
    yield (
        "Compilation, once per machine (cached on disk), is not in the figures above: a first dense and a first sparse "
        f"solve take {compiled['empty']:.1f} s with an empty cache, {compiled['filled']:.2f} s with a filled one."
    )
    yield ""
    yield (
        f"One core, discount {DISCOUNT}, ‖V − V*‖ ≤ {TOLERANCE:g} (ours certified, all checked), the two sides in "
        f"turn; construction and validation of the models not timed for either. Seed {SEED}. "
        f"{versions('numpy', 'scipy', 'numba', 'quantecon')}. Made by `make bench`."
    )


def rows() -> Iterator[Row]:
    yield from dense()
    yield from sparse()
    yield from batch()
    yield from sweeps()


def fast_mixing(states: int, actions: int, tasks: tuple[int, ...] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Dense random rows and rewards, uniform in [0, 1] before they are divided by their sum."""
    rng = np.random.default_rng(SEED)
    transitions = rng.random((*tasks, states, actions, states))
    transitions /= transitions.sum(-1, keepdims=True)
    return transitions, rng.random((*tasks, states, actions))


def slow_mixing(states: int, actions: int) -> tuple[np.ndarray, np.ndarray]:
    """A ring on which every action moves a step at most, with random odds, and jumps anywhere once in a million."""
    rng = np.random.default_rng(SEED)
    transitions = 1e-6 / states * rng.random((states, actions, states))
    here = np.arange(states)
    for step in (-1, 0, 1):
        transitions[here, :, (here + step) % states] += rng.random((states, actions))
    transitions /= transitions.sum(-1, keepdims=True)
    return transitions, rng.random((states, actions))


def dense() -> Iterator[Row]:
    for states in (500, 2000):
        transitions, rewards = fast_mixing(states, 10)
        model = SMDP.from_mdp(MDP(transitions, rewards, DISCOUNT))
        peer = DiscreteDP(rewards, transitions, DISCOUNT)
        reference = check(model, peer)
        runs = 15 if states == 500 else 7
        for method in ("mpi", "pi"):
            call = quantecon(peer, method, reference)
            yield Row(
                f"dense, S={states}, A=10", solve(model).method, f"quantecon {method}", ours(model, call, runs), "1.5"
            )
    transitions, rewards = slow_mixing(500, 10)
    model = SMDP.from_mdp(MDP(transitions, rewards, DISCOUNT))
    reference = check(model, DiscreteDP(rewards, transitions, DISCOUNT))

    def lapack() -> None:
        values = lapack_policy_iteration(transitions, rewards)
        assert np.abs(values - reference).max() <= TOLERANCE

    timed = ours(model, lapack, 15)
    task, other = "dense, slow mixing, S=500, A=10", "NumPy + LAPACK policy iteration"
    yield Row(task, solve(model).method, other, timed, "1/1.2")


def sparse() -> Iterator[Row]:
    goal = grid_world(500, 500, DISCOUNT, slip=0.2)
    rng = np.random.default_rng(SEED)
    paid = rng.random(goal.num_states)[:, None] * ~goal.terminal[:, None] + np.zeros(goal.num_actions)
    for name, mdp in (("one goal", goal), ("one goal, random rewards", goal.replace(rewards=10 * goal.rewards + paid))):
        model = SMDP.from_mdp(mdp)
        pairs = np.arange(mdp.num_states * mdp.num_actions)
        peer = DiscreteDP(
            mdp.rewards.ravel(),
            sp.csr_matrix(mdp.transitions),
            DISCOUNT,
            pairs // mdp.num_actions,
            pairs % mdp.num_actions,
        )
        call = quantecon(peer, "mpi", check(model, peer))
        yield Row(
            f"sparse grid, S=250,000, A=4, {name}",
            solve(model).method,
            "quantecon mpi",
            ours(model, call, 3),
            "4, aim 9",
        )


def batch() -> Iterator[Row]:
    tasks, some = 4096, 256
    transitions, rewards = fast_mixing(64, 8, (tasks,))
    models = SMDPBatch.from_mdps(transitions, rewards, DISCOUNT)
    peers = [DiscreteDP(rewards[i], transitions[i], DISCOUNT) for i in range(some)]
    plan = solve_batch(models, tolerance=TOLERANCE)
    assert plan.converged.all()
    for i in range(0, some, 16):
        assert np.abs(peers[i].solve(method="pi").v - plan.values[i]).max() <= TOLERANCE
    for method in ("pi", "mpi"):
        timed = pair(
            lambda: solve_batch(models, tolerance=TOLERANCE),
            lambda method=method: [p.solve(method=method, epsilon=TOLERANCE) for p in peers],
            5,
            other_scale=tasks / some,
        )
        target = "6" if method == "pi" else ""
        yield Row("4096 tasks, S=64, A=8", plan.method, f"loop over quantecon {method} ({some} timed)", timed, target)


def sweeps() -> Iterator[Row]:
    """Plain value iteration: time of one T V against reading the stored transitions once."""
    for states in (500, 2000):
        transitions, rewards = fast_mixing(states, 10)
        model = SMDP.from_mdp(MDP(transitions, rewards, DISCOUNT))
        yield sweep(f"one sweep, dense, S={states}, A=10", model, transitions.ravel(), "1/1.25")
    model = SMDP.from_mdp(grid_world(500, 500, DISCOUNT, slip=0.2))
    stored = sum(getattr(model.matrix, part).nbytes for part in ("data", "indices", "indptr"))
    yield sweep("one sweep, sparse grid, S=250,000, A=4", model, np.ones(stored // 8), "1/1.5")


def sweep(task: str, model: SMDP, memory: np.ndarray, target: str) -> Row:
    backup = plain_backup(model, kernel_arrays(model))
    values = np.random.default_rng(SEED).random(model.num_states)
    out = np.empty_like(values)
    timed = pair(lambda: backup(values, out), lambda: stream(memory), 41)
    return Row(task, "value iteration", f"reading the transitions once ({memory.nbytes / 1e6:.0f} MB)", timed, target)


def check(model: SMDP, peer: Any) -> np.ndarray:
    """Values far more exact than the tolerance, after making sure that the timed result is within it."""
    exact = solve(model, tolerance=1e-8)
    plan = solve(model, tolerance=TOLERANCE)
    assert plan.converged and exact.converged and plan.value_bound <= TOLERANCE
    assert np.abs(plan.values - exact.values).max() <= TOLERANCE
    return exact.values


def ours(model: SMDP, other: Callable[[], None], runs: int) -> Pair:
    return pair(lambda: solve(model, tolerance=TOLERANCE), other, runs)


def quantecon(peer: Any, method: str, reference: np.ndarray) -> Callable[[], None]:
    def call() -> None:
        values = peer.solve(method=method, epsilon=TOLERANCE, max_iter=10**6).v
        assert np.abs(values - reference).max() <= TOLERANCE

    return call


def lapack_policy_iteration(transitions: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Howard's method as a user of NumPy would write it."""
    states = len(rewards)
    flat, here = transitions.reshape(-1, states), np.arange(states)
    values, policy = rewards.max(1), None
    while True:
        better = (rewards + DISCOUNT * (flat @ values).reshape(rewards.shape)).argmax(1)
        if policy is not None and (better == policy).all():
            return values
        policy = better
        values = np.linalg.solve(np.eye(states) - DISCOUNT * transitions[here, policy], rewards[here, policy])


def option_model() -> dict[str, float]:
    """64 options on FourRooms with about 10,000 states: seconds, and memory against the result's own."""
    mdp = fourrooms(size=101, discount=DISCOUNT)
    landmarks = np.linspace(0, mdp.num_states - 1, 64).astype(int)
    start = time.perf_counter()
    options = OptionSet.point(mdp, landmarks)
    built = time.perf_counter() - start
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        model = SMDP.from_options(mdp, options)
        seconds.append(time.perf_counter() - start)
    tracemalloc.start()
    model = SMDP.from_options(mdp, options)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    size = sum(getattr(model.matrix, part).nbytes for part in ("data", "indices", "indptr"))
    return {
        "states": mdp.num_states,
        "entries": model.matrix.nnz,
        "seconds": float(np.median(seconds)),
        "least": min(seconds),
        "most": max(seconds),
        "point options": built,
        "peak MB": peak / 1e6,
        "result MB": size / 1e6,
        "R and masks MB": 3 * model.R.nbytes / 1e6,
    }


def compilation() -> dict[str, float]:
    """Seconds of a first small solve, dense and sparse, in a new process; with an empty and a filled disk cache."""
    program = (
        "import time, numpy as np, ra3sim\n"
        "mdp = ra3sim.MDP(np.full((4, 2, 4), 0.25), np.ones((4, 2)), 0.9)\n"
        "t = time.perf_counter(); ra3sim.solve(mdp); ra3sim.solve(mdp.to_sparse())\n"
        "print(time.perf_counter() - t)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
        command = [sys.executable, "-c", program]
        first, second = (subprocess.run(command, env=environment, check=True, capture_output=True) for _ in range(2))
        return {"empty": float(first.stdout), "filled": float(second.stdout)}


if __name__ == "__main__":
    for line in report():
        print(line, flush=True)
