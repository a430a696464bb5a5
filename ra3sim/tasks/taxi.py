"""Rides of Gymnasium's Taxi (Dietterich 2000), with the destination taken out of the state and into the task."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.envs import from_gymnasium
from ra3sim.mdp import MDP
from ra3sim.tasks.family import TaskFamily


def taxi_rides(discount: float, *, sparse: bool | None = None, **kwargs: Any) -> TaskFamily:
    """One task for each waiting place and destination of ``Taxi-v4``, 12 in all, as likely as the real start has them.

    A state is the taxi's cell and where the passenger is (at one of four places, or in the taxi), and one is the end:
    126. Transitions and rewards are those of the real table for the task's destination. A task starts with the taxi
    anywhere and the passenger waiting.

    Args:
        sparse: None: dense.
        kwargs: for `gymnasium.make`, such as ``is_rainy=True``.

    Raises:
        ValueError: what `from_gymnasium` refuses, such as ``fickle_passenger``.

    >>> taxi_rides(0.95)
    <Taxi rides: 12 tasks, S=126, A=6, discount=0.95>
    """
    table = from_gymnasium("Taxi-v4", discount, sparse=True, **kwargs)
    # "(0, 0) passenger at red, to green": the numbers of the states are Gymnasium's business.
    situations, destinations = zip(*(name.split(", to ") for name in table.state_names[:-1]), strict=True)
    mdps, weights = [], []
    for destination in dict.fromkeys(destinations):
        states = np.append(np.flatnonzero(np.array(destinations) == destination), table.num_states - 1)
        names = [situations[state] for state in states[:-1]] + ["end"]
        ride = _within(table, states, names).to_sparse() if sparse else _within(table, states, names)
        for place in dict.fromkeys(name.split("passenger ")[-1] for name in names[:-1]):
            start = table.start[states] * [name.endswith(f"passenger {place}") for name in names]
            # From where it is brought, and in the taxi, no ride starts.
            if start.any():
                name = f"Taxi, {place} to {destination}"
                mdps.append(ride.replace(start=start / start.sum(), name=name))
                weights.append(start.sum())
    return TaskFamily(mdps, np.array(weights) / sum(weights), name="Taxi rides")


def _within(table: MDP, states: np.ndarray, names: list[str]) -> MDP:
    """The MDP of states that no action leaves, dense; `MDP` refuses rows that lose mass."""
    pairs = (states[:, None] * table.num_actions + np.arange(table.num_actions)).ravel()
    rows = sp.csr_array(table.rows())[pairs][:, states].toarray()
    return MDP(
        rows.reshape(len(states), table.num_actions, len(states)),
        table.rewards[states],
        table.discount,
        terminal=table.terminal[states],
        state_names=names,
        action_names=table.action_names,
    )
