"""Gymnasium's toy-text environments as exact MDPs, from their own transition tables."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import scipy.sparse as sp

from ra3sim.envs._grid import DENSE_LIMIT
from ra3sim.envs._gym import unwrapped
from ra3sim.mdp import MDP

_ACTIONS = {
    "FrozenLakeEnv": ("left", "down", "right", "up"),
    "CliffWalkingEnv": ("up", "right", "down", "left"),
    "TaxiEnv": ("down", "up", "right", "left", "pick up", "drop off"),
}
_TILES = {b"S": " start", b"F": "", b"H": " hole", b"G": " goal"}
_STOPS = ("red", "green", "yellow", "blue")


def from_gymnasium(
    env_or_id: gymnasium.Env | str, discount: float, *, sparse: bool | None = None, **kwargs: Any
) -> MDP:
    """The MDP of an environment that has a table ``P[s][a] = [(probability, s', reward, terminated), ...]``.

    States and actions keep Gymnasium's numbers. There, ``terminated`` belongs to the transition; here, a state is
    terminal. A state that is only ever entered by terminated transitions is terminal: it loops on itself without
    reward. If a state is entered both ways (Taxi) or is a possible start, the terminated transitions go to one extra
    state ``end`` instead, appended as the last. Time limits are no part of the table and of the MDP.

    Args:
        env_or_id: an environment, or an id such as ``"FrozenLake-v1"``, ``"FrozenLake8x8-v1"``, ``"Taxi-v4"``,
            ``"CliffWalking-v1"``.
        sparse: None: sparse if there are more than 1000 states.
        kwargs: for `gymnasium.make`, such as ``is_slippery=False``.

    Raises:
        ValueError: no such table, or one that leaves out part of the dynamics (Taxi's ``fickle_passenger``); arguments
            for an environment that is made already.
        gymnasium.error.Error: an unknown id.

    >>> from_gymnasium("FrozenLake-v1", 0.99)
    <FrozenLake-v1: S=16, A=4, discount=0.99, dense>
    """
    env, name = unwrapped(env_or_id, kwargs)
    table, start = getattr(env, "P", None), getattr(env, "initial_state_distrib", None)
    if not isinstance(table, dict) or start is None:
        raise ValueError(f"env_or_id: {name} has no table P with an initial_state_distrib; toy-text environments have")
    if getattr(env, "fickle_passenger", False):
        raise ValueError(f"env_or_id: {name} with fickle_passenger moves on outside its table P; set it to False")
    states, actions = len(table), len(table[0])
    entries = [
        (s * actions + a, t, p, r, done) for s in range(states) for a in range(actions) for p, t, r, done in table[s][a]
    ]
    row, target, probability, reward, done = (np.array(column) for column in zip(*entries, strict=True))
    start = np.asarray(start, dtype=float)
    terminal, extra = _endings(row // actions, target, done, start)
    target = np.where(done & ~terminal[target], states, target)
    leaves = ~terminal[row // actions]
    total = states + extra
    # Terminal states and the extra one: loops without reward in place of what the table says.
    loops = np.flatnonzero(np.append(terminal, np.ones(extra, bool)))
    loop_rows = (loops[:, None] * actions + np.arange(actions)).ravel()
    transitions = sp.csr_array(
        (
            np.concatenate([probability[leaves], np.ones(loop_rows.size)]),
            (np.concatenate([row[leaves], loop_rows]), np.concatenate([target[leaves], loop_rows // actions])),
        ),
        shape=(total * actions, total),
    )
    if not (total > DENSE_LIMIT if sparse is None else sparse):
        transitions = transitions.toarray().reshape(total, actions, total)
    rewards = np.bincount(row[leaves], probability[leaves] * reward[leaves], minlength=total * actions)
    return MDP(
        transitions,
        rewards.reshape(total, actions),
        discount,
        start=np.append(start, np.zeros(extra)),
        terminal=loops,
        state_names=_state_names(env, states) + ["end"] * extra,
        action_names=_ACTIONS.get(type(env).__name__),
        name=name,
    )


def _endings(source: np.ndarray, target: np.ndarray, done: np.ndarray, start: np.ndarray) -> tuple[np.ndarray, int]:
    """Which states ``(S,)`` are terminal, and whether (0 or 1) an extra end state is needed."""
    ended = np.zeros(len(start), bool)
    ended[target[done]] = True
    # A loop of a state on itself is no way in: it says nothing about how the state is entered.
    going_on = start > 0
    going_on[target[~done & (source != target)]] = True
    return ended & ~going_on, int((ended & going_on).any())


def _state_names(env: Any, states: int) -> list[str]:
    kind = type(env).__name__
    if kind == "FrozenLakeEnv":
        return [f"({s // env.ncol}, {s % env.ncol}){_TILES.get(env.desc.flat[s], '')}" for s in range(states)]
    if kind == "CliffWalkingEnv":
        return [f"({s // env.shape[1]}, {s % env.shape[1]})" for s in range(states)]
    if kind == "TaxiEnv":
        places = ("at red", "at green", "at yellow", "at blue", "in taxi")
        decoded = [env.decode(s) for s in range(states)]
        return [f"({row}, {col}) passenger {places[p]}, to {_STOPS[d]}" for row, col, p, d in decoded]
    return [str(s) for s in range(states)]
