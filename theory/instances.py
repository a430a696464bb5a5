"""Instances that several statements share: random options over a random MDP, one state, real environments."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from ra3sim import _store
from ra3sim.envs import chain, fourrooms, from_gymnasium, hallway_options
from ra3sim.options import OptionSet
from ra3sim.smdp import SMDP
from theory.arithmetic import OPTION_KEYS, Arithmetic
from theory.bound import Assumption, Draw, Instance

STATES, ACTIONS, OPTIONS = 3, 2, 3


def random_options(draw: Draw, states: int = STATES, actions: int = ACTIONS, options: int = OPTIONS) -> dict[str, Any]:
    """An MDP with rewards in (0, 1) and a discount below .99, and Markov options over it."""
    return {
        "transitions": draw.distribution(states, actions, states),
        "rewards": draw.unit(states, actions),
        "discount": draw.unit() * 99 / 100,
        "policy": draw.distribution(options, states, actions),
        "termination": draw.unit(options, states),
    }


def one_state(xp: Arithmetic, rate: Any, reward: Any = 1) -> dict[str, Any]:
    """One state, one option with E[γ^τ] = ``rate``."""
    return {"R": xp.array([[reward]]), "P": xp.array([[[rate]]])}


def model(xp: Arithmetic, instance: Instance) -> tuple[Any, Any, np.ndarray]:
    """R ``(Z, S)``, P ``(Z, S, S)`` and availability of an instance: given, or of its options."""
    R, P = (instance["R"], instance["P"]) if "R" in instance else xp.option_model(instance)
    return R, P, instance.get("available", np.ones(R.shape, bool))


def rate(xp: Arithmetic, P: Any, available: np.ndarray) -> Any:
    """γ̄ = max E[γ^τ]."""
    return xp.max(P.sum(-1)[available])


def reward_bound(xp: Arithmetic, R: Any, available: np.ndarray) -> Any:
    """R_max = max |R|."""
    return xp.max(xp.abs(R[available]))


def is_distribution(values: Any) -> bool:
    """Whether entries are >= 0 and sum to 1 over the last axis, up to rounding."""
    return bool(np.all(values >= 0)) and agree(values.sum(-1), 1)


def agree(one: Any, other: Any) -> bool:
    """Whether entries are the same, up to rounding."""
    return all(float(abs(x)) <= 1e-9 for x in np.ravel(one - other))


def _is_model(xp: Arithmetic, instance: Instance) -> bool:
    if "R" in instance:
        P = instance["P"]
        return bool((P >= 0).all() and (P.sum(-1) < 1).all())
    transitions, _, discount, policy, termination = (instance[key] for key in OPTION_KEYS)
    shares = is_distribution(transitions) and is_distribution(policy)
    ends = ((termination >= 0) & (termination <= 1)).all()
    return bool(shares and 0 <= discount < 1 and ends)


MODEL = Assumption(
    "model",
    "outcomes are >= 0 and E[γ^τ] < 1 (of options: distributions, terminations in [0, 1], a discount in [0, 1))",
    _is_model,
)


def from_smdp(smdp: SMDP) -> dict[str, Any]:
    """The instance of a decision model; terminal states pay nothing and lead nowhere, and nothing comes from there."""
    live = ~smdp.terminal
    P: Any = smdp.P
    P = P.toarray().reshape(*smdp.R.shape, -1) if smdp.is_sparse else P
    available = smdp.available.copy()
    available[0] |= smdp.terminal
    return {
        "R": np.where(smdp.available, smdp.R, 0.0),
        "P": P * (live[:, None] & live) * smdp.available[..., None],
        "available": available,
    }


def environments() -> Iterator[tuple[str, dict[str, Any]]]:
    """Decision models of environments that were not made for these statements."""
    rooms = fourrooms((6, 8), 0.95)
    yield "FourRooms, hallway options", from_smdp(SMDP.from_options(rooms, hallway_options(rooms)))
    both = hallway_options(rooms) | OptionSet.primitives(rooms)
    yield "FourRooms, hallway options and primitives", from_smdp(SMDP.from_options(rooms, both))
    lake = from_gymnasium("FrozenLake-v1", 0.95, map_name="8x8")
    yield "FrozenLake, macros of 2", from_smdp(SMDP.from_options(lake, OptionSet.macros(lake, 2)))
    taxi = from_gymnasium("Taxi-v4", 0.95)
    yield "Taxi, primitives", from_smdp(SMDP.from_mdp(taxi))
    line = chain(20, 0.95, start=0)
    yield "chain, macros of 4", from_smdp(SMDP.from_options(line, OptionSet.macros(line, 4)))


def save(path: str | os.PathLike[str], instances: Mapping[str, Instance]) -> None:
    """Write named instances (in floats) to one ``.npz`` file, atomically."""
    arrays = {f"{name}: {key}": np.asarray(value) for name, one in instances.items() for key, value in one.items()}
    _store.write_arrays(path, "instances", arrays, {})


def load(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Read what `save` wrote: ``statements()["sharp-error"].ratio(load(path)["sharp-error, best"])``.

    Raises:
        FileNotFoundError, ValueError: no such file, or a damaged one.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, array in _store.read_arrays(path, "instances")[0].items():
        instance, _, key = name.rpartition(": ")
        # Single numbers come back as numbers.
        found.setdefault(instance, {})[key] = array if array.ndim else array.item()
    return found
