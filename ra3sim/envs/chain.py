"""A corridor in which every duration has a closed form."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.envs._grid import check_probability, goal_mdp
from ra3sim.mdp import MDP


def chain(length: int, discount: float = 0.9, *, slip: float = 0.0, start: Any = 0, sparse: bool | None = None) -> MDP:
    """A corridor of ``length`` states with moves left and right; entering the right end pays 1 and ends.

    With probability ``slip`` a move fails and the state stays the same. So walking a distance d takes τ = d steps, if
    nothing slips, and in general a negative binomial time: ``E[τ] = d / (1 - slip)`` and
    ``E[γ^τ] = (γ (1 - slip) / (1 - γ slip))^d``, which is also the value of a state at distance d from the right end.

    Args:
        start: start state, start distribution ``(S,)``, or None: uniform.
        sparse: None: sparse if there are more than 1000 states.

    Raises:
        ValueError: fewer than 2 states, a slip outside [0, 1].

    >>> chain(4).transitions[1].tolist()  # from state 1: left, right
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]
    """
    if length < 2:
        raise ValueError(f"length: a corridor has at least 2 states, got {length}")
    check_probability("slip", slip)
    here = np.arange(length)
    left, right = np.maximum(here - 1, 0), np.minimum(here + 1, length - 1)
    return goal_mdp(
        np.stack([left, right, here], axis=1),
        np.array([[1 - slip, 0.0, slip], [0.0, 1 - slip, slip]]),
        discount,
        [length - 1],
        sparse,
        start=start,
        state_names=[f"(0, {i})" for i in here],
        action_names=["left", "right"],
        name=f"chain {length}",
    )
