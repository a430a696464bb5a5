"""All methods of option discovery by name, and the contract that each of them keeps."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from ra3sim.discovery import (
    average_planning_time,
    betweenness,
    compression,
    covering,
    ddo,
    eigenoptions,
    planning_time,
    ra3,
    random_points,
)
from ra3sim.discovery.method import Method
from ra3sim.latent import Trajectories
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.smdp import _closures

# One line a method: each file says all about its own.
_ALL = (
    random_points.METHOD,
    eigenoptions.METHOD,
    covering.METHOD,
    betweenness.METHOD,
    planning_time.METHOD,
    average_planning_time.METHOD,
    compression.METHOD,
    ddo.METHOD,
    ra3.METHOD,
)

METHODS: Mapping[str, Method] = MappingProxyType({method.name: method for method in _ALL})
"""All methods that are registered, by name."""


def discover(
    method: str | Method,
    num_options: int,
    *,
    mdp: MDP,
    demonstrations: Trajectories | None = None,
    seed: int = 0,
    at_most: bool = False,
    **settings: Any,
) -> OptionSet:
    """Options by one of the methods in `METHODS`.

    The contract, checked here for every method: options over the states and actions of ``mdp``, without the primitive
    actions and without their names, so that ``OptionSet.primitives(mdp) | options`` is a decision space; every option
    ends with probability 1 from wherever it may begin; equal arguments and seeds give equal options.

    Args:
        method: a name in `METHODS`, or a method that is not among them.
        num_options: how many options to find.
        mdp: the dynamics, and the task for methods that have one in mind.
        demonstrations: trajectories in the MDP's states and actions; methods that need none ignore them.
        seed: for `numpy.random.default_rng`; most methods draw nothing.
        at_most: accept fewer options where the method has no more to offer.
        settings: of the method, see `Method.settings`.

    Raises:
        ValueError: an unknown method or setting, fewer than one option asked for, demonstrations missing or of another
            state space, fewer options than asked for, or what the method itself says.

    >>> from ra3sim.envs import chain
    >>> discover("random", 2, mdp=chain(6), seed=1)
    <OptionSet: Z=2, S=6, A=2: go to (0, 4), go to (0, 0)>
    """
    if not isinstance(method, Method) and method not in METHODS:
        raise ValueError(f"method: unknown {method!r}; known are {', '.join(METHODS)}")
    chosen = method if isinstance(method, Method) else METHODS[method]
    name = chosen.name
    if isinstance(num_options, bool) or not isinstance(num_options, (int, np.integer)) or num_options < 1:
        raise ValueError(f"num_options: a whole number of at least 1, got {num_options!r}")
    if unknown := set(settings) - set(chosen.settings):
        known = ", ".join(chosen.settings) or "none"
        raise ValueError(f"settings: {name} does not know {', '.join(sorted(unknown))}; it knows {known}")
    if chosen.needs == "demonstrations":
        _check_demonstrations(name, mdp, demonstrations)
        options = chosen.find(mdp, demonstrations, int(num_options), seed=seed, **settings)
    else:
        options = chosen.find(mdp, int(num_options), seed=seed, **settings)
    _check_options(name, mdp, options, int(num_options), at_most)
    return options


def _check_demonstrations(method: str, mdp: MDP, demonstrations: Trajectories | None) -> None:
    if demonstrations is None:
        raise ValueError(f"demonstrations: {method} learns from them; give Trajectories in the MDP's states")
    sizes = (demonstrations.num_states, demonstrations.num_actions)
    if sizes != (mdp.num_states, mdp.num_actions):
        raise ValueError(
            f"demonstrations: over (S, A) = {sizes}, the MDP has {(mdp.num_states, mdp.num_actions)}; "
            "give trajectories of this MDP"
        )


def _check_options(method: str, mdp: MDP, options: OptionSet, num_options: int, at_most: bool) -> None:
    """The contract; a breach of anything but the count is the method's mistake, not the caller's."""
    if len(options) > num_options:
        raise AssertionError(f"{method}: found {len(options)} options where {num_options} were asked for")
    # Unites and walks through the options as a planner would, but factorises nothing: names, shapes, actions, endings.
    _closures(mdp, OptionSet.primitives(mdp) | options)
    if len(options) < num_options and not at_most:
        raise ValueError(
            f"num_options: {method} finds only {len(options)} of {num_options} options here; "
            "ask for fewer, or pass at_most=True"
        )
