"""Garnet: random MDPs with a given branching (Archibald, McKinnon & Thomas 1995; Bhatnagar et al. 2009)."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from ra3sim.mdp import MDP


def garnet(
    num_states: int,
    num_actions: int,
    branching: int,
    discount: float,
    seed: int,
    *,
    sparse: bool = False,
) -> MDP:
    """A random MDP: every pair (s, a) leads to ``branching`` states, chosen uniformly.

    Their probabilities are the gaps between ``branching - 1`` uniform cuts of [0, 1], as in the paper. Rewards of pairs
    are uniform in [0, 1) (the paper's are normal; the theorems here are stated for rewards in [0, r_max]). The start is
    uniform and no state is terminal. The same arguments give the same MDP, sparse or not.

    Raises:
        ValueError: no state or action, or a branching outside 1 to ``num_states``.

    >>> garnet(20, 4, branching=3, discount=0.95, seed=0, sparse=True)
    <Garnet: S=20, A=4, discount=0.95, sparse, 240 entries>
    """
    if num_states < 1 or num_actions < 1:
        raise ValueError(f"num_states, num_actions: must be at least 1, got {num_states} and {num_actions}")
    if not 1 <= branching <= num_states:
        raise ValueError(f"branching: must lie between 1 and num_states={num_states}, got {branching}")
    rng = np.random.default_rng(seed)
    rows = num_states * num_actions
    rewards = rng.random((num_states, num_actions))
    # Gaps between uniform cuts are Dirichlet(1, ..., 1): exponentials divided by their sum, no sorting needed.
    weights = rng.standard_exponential((rows, branching))
    weights /= weights.sum(1, keepdims=True)
    if branching == num_states and not sparse:
        return MDP(weights.reshape(num_states, num_actions, num_states), rewards, discount, name="Garnet")
    successors = _subsets(rng, rows, num_states, branching)
    if sparse:
        indptr = np.arange(0, rows * branching + 1, branching)
        transitions = sp.csr_array((weights.ravel(), successors.ravel(), indptr), shape=(rows, num_states))
    else:
        transitions = np.zeros((rows, num_states))
        np.put_along_axis(transitions, successors, weights, axis=1)
        transitions = transitions.reshape(num_states, num_actions, num_states)
    return MDP(transitions, rewards, discount, name="Garnet")


def _subsets(rng: np.random.Generator, rows: int, count: int, size: int) -> np.ndarray:
    """In every row a uniform subset of ``range(count)``, sorted, ``(rows, size)``."""
    if size == count:
        return np.broadcast_to(np.arange(count, dtype=np.int32), (rows, count))
    if 2 * size > count:
        # The states left out are the smaller subset.
        keep = np.ones((rows, count), bool)
        np.put_along_axis(keep, _subsets(rng, rows, count, count - size), False, axis=1)
        return np.nonzero(keep)[1].astype(np.int32).reshape(rows, size)
    # Repeats are drawn again until none is left. Nothing here prefers a label, so every subset is equally likely.
    chosen = np.sort(rng.integers(count, size=(rows, size), dtype=np.int32), axis=1)
    todo = np.arange(rows)
    while todo.size:
        part = chosen[todo]
        repeats = np.zeros(part.shape, bool)
        repeats[:, 1:] = part[:, 1:] == part[:, :-1]
        again = repeats.any(1)
        todo, part, repeats = todo[again], part[again], repeats[again]
        part[repeats] = rng.integers(count, size=int(repeats.sum()), dtype=np.int32)
        chosen[todo] = np.sort(part, axis=1)
    return chosen
