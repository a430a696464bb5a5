"""Environments: each as an exact `MDP`; importing this registers the project's own ones with Gymnasium.

``ra3sim/FourRooms-v0``, ``ra3sim/Chain-v0``, ``ra3sim/KeyDoor-v0`` and ``ra3sim/Garnet-v0`` are each a `TabularEnv`;
`gymnasium.make` passes the arguments of their makers on, and the MDP is ``env.unwrapped.mdp``. So is
``ra3sim/LineWorld-v0``, a `LineWorldEnv`, whose MDP is that of the current task.

>>> import gymnasium
>>> gymnasium.make("ra3sim/Chain-v0", length=5, slip=0.1).unwrapped.mdp
<chain 5: S=5, A=2, discount=0.9, dense>
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium

from ra3sim.envs.chain import chain
from ra3sim.envs.fourrooms import fourrooms, fourrooms_goals, hallway_options, hallways
from ra3sim.envs.garnet import garnet
from ra3sim.envs.grid_world import grid_world
from ra3sim.envs.keydoor import keydoor
from ra3sim.envs.lineworld import LineProgram, LineTable, LineTask, LineWorld, LineWorldEnv
from ra3sim.envs.minigrid import from_minigrid
from ra3sim.envs.toy_text import from_gymnasium
from ra3sim.mdp import MDP
from ra3sim.simulate import TabularEnv

__all__ = [
    "LineProgram", "LineTable", "LineTask", "LineWorld", "LineWorldEnv", "chain", "fourrooms", "fourrooms_goals",
    "from_gymnasium", "from_minigrid", "garnet", "grid_world", "hallway_options", "hallways", "keydoor",
]  # fmt: skip

_REGISTERED: dict[str, tuple[Callable[..., MDP], dict[str, Any]]] = {
    "FourRooms": (fourrooms, {"goal": (10, 10)}),
    "Chain": (chain, {"length": 10}),
    "KeyDoor": (keydoor, {}),
    "Garnet": (garnet, {"num_states": 20, "num_actions": 4, "branching": 3, "discount": 0.95, "seed": 0}),
}


def make_registered(
    family: str, max_steps: int | None = None, render_mode: str | None = None, **arguments: Any
) -> TabularEnv:
    """The entry point of the registered environments."""
    maker, defaults = _REGISTERED[family]
    return TabularEnv(maker(**{**defaults, **arguments}), max_steps, render_mode)


for _family in _REGISTERED:
    gymnasium.register(f"ra3sim/{_family}-v0", entry_point="ra3sim.envs:make_registered", kwargs={"family": _family})

gymnasium.register("ra3sim/LineWorld-v0", entry_point="ra3sim.envs.lineworld:LineWorldEnv")
