"""Random tables for tests, and slow obvious references."""

from __future__ import annotations

import numpy as np

from ra3sim.mdp import MDP, absorb
from ra3sim.options import OptionSet
from ra3sim.smdp import SMDP


def random_mdp(seed: int, states: int = 6, actions: int = 3, ends: int = 1, missing: bool = True) -> MDP:
    """An MDP with few successors per pair, ``ends`` terminal states, and (if asked) a few missing actions."""
    rng = np.random.default_rng(seed)
    transitions = rng.dirichlet(np.full(states, 0.5), size=(states, actions))
    transitions[transitions < 0.02] = 0
    transitions /= transitions.sum(-1, keepdims=True)
    terminal = np.arange(states - ends, states)
    transitions, rewards = absorb(transitions, rng.normal(size=(states, actions)), terminal)
    available = rng.random((states, actions)) < (0.8 if missing else 1.1)
    available[np.arange(states), rng.integers(actions, size=states)] = True
    return MDP(transitions, rewards, rng.uniform(0.5, 0.99), available=available, terminal=terminal)


def random_options(seed: int, mdp: MDP, count: int = 3) -> OptionSet:
    """Markov options that use available actions only and end everywhere with some probability."""
    rng = np.random.default_rng(seed + 1)
    weights = rng.random((count, mdp.num_states, mdp.num_actions)) * (mdp.available | mdp.terminal[:, None])
    initiation = rng.random((count, mdp.num_states)) < 0.8
    initiation[0] = True
    return OptionSet(
        weights / weights.sum(-1, keepdims=True),
        rng.uniform(0.2, 1.0, size=(count, mdp.num_states)) ** 2,
        initiation | ~initiation.any(1, keepdims=True),
    )


def walk_options(mdp: MDP, options: OptionSet, steps: int = 4000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R ``(Z, S)``, P ``(Z, S, S)`` and E[τ] ``(Z, S)`` by following the distribution over states step by step.

    Rows where an option is not available are zero.
    """
    mdp = mdp.to_dense()
    total, states = len(options), mdp.num_states
    R, P, duration = np.zeros((total, states)), np.zeros((total, states, states)), np.zeros((total, states))
    for z in range(total):
        node = options.start_node[z]
        weight = np.diag((options.initiation[z] & ~mdp.terminal).astype(float))
        for t in range(steps):
            duration[z] += weight.sum(1)
            R[z] += mdp.discount**t * weight @ (options.policy[node] * mdp.rewards).sum(1)
            weight = weight @ sum(
                np.diag(options.policy[node][:, a]) @ mdp.transitions[:, a] for a in range(mdp.num_actions)
            )
            ends = np.where(mdp.terminal, 1.0, options.termination[node])
            P[z] += mdp.discount ** (t + 1) * weight * ends
            weight = weight * (1 - ends)
            node = options.next_node[node]
            if weight.sum() < 1e-14:
                break
        assert weight.sum() < 1e-9, "the sum is cut off too early"
    return R, P, duration


def random_smdp(seed: int) -> SMDP:
    """Models of many kinds: deterministic, periodic, slow, nearly undiscounted, of no duration at all, with ties, with
    rewards of any size and sign, with missing options and terminal states."""
    rng = np.random.default_rng(seed)
    states, options = int(rng.choice([1, 2, 3, 7, 20, 60, 230])), int(rng.integers(1, 6))
    here, pick = np.arange(states), np.arange(options)[:, None]
    P = np.zeros((options, states, states))
    kind = rng.choice(["random", "deterministic", "ring", "cycle", "few"])
    if kind == "random":
        P = rng.dirichlet(np.full(states, rng.choice([0.05, 0.5, 5.0])), (options, states))
    elif kind == "deterministic":
        P[pick, here, rng.integers(0, states, (options, states))] = 1
    elif kind == "ring":
        for step in (-1, 0, 1):
            P[pick, here, (here + step) % states] += rng.random((options, states)) + 0.01
    elif kind == "cycle":
        P[:, here, (here + 1) % states] = 1
        P[0] = np.eye(states)
    else:
        for _ in range(3):
            np.add.at(P, (pick, here, rng.integers(0, states, (options, states))), rng.random((options, states)))
    P /= P.sum(-1, keepdims=True)
    discount = rng.choice([0.0, 0.5, 0.9, 0.99])
    P *= (discount * (1 - rng.choice([0, 0.5, 1]) * rng.random((options, states))))[..., None]
    shapes = [rng.normal(size=(options, states)), -np.round(rng.random((options, states))), np.zeros((options, states))]
    R = rng.choice([1e-6, 1, 1e6]) * shapes[rng.integers(3)]
    available = rng.random((options, states)) < rng.choice([0.6, 1.1])
    available[rng.integers(0, options, states), here] = True
    return SMDP(R, P, available, terminal=rng.random(states) < rng.choice([0, 0.2]))


def howard_values(model: SMDP) -> np.ndarray:
    """V* by Howard's policy iteration in plain NumPy; among equals the old choice stays."""
    states, live = np.arange(model.num_states), ~model.terminal
    rewards = np.where(model.available, model.R, -np.inf)
    policy = rewards.argmax(0)
    while True:
        system = np.eye(len(states)) - model.P[policy, states] * live[:, None]
        values = np.linalg.solve(system, np.where(live, model.R[policy, states], 0.0))
        Q = rewards + model.P @ values
        stays = Q[policy, states] >= Q.max(0) - 1e-13 * np.abs(values).max()
        better = np.where(stays, policy, Q.argmax(0))
        if (better == policy).all():
            return values
        policy = better
