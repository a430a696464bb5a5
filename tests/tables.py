"""Random tables for tests, and slow obvious references."""

from __future__ import annotations

import numpy as np

from ra3sim.mdp import MDP, absorb
from ra3sim.options import OptionSet


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
