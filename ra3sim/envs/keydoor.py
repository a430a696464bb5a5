"""Two rooms and a locked door between them: the key first, then the door, then the goal."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.envs._grid import MOVE_NAMES, Grid, goal_mdp, slipping
from ra3sim.mdp import MDP

ACTION_NAMES = (*MOVE_NAMES, "pick up", "open")
STAGES = ("key on the floor", "key in hand", "door open")


def keydoor(
    size: int = 4, discount: float = 0.95, *, slip: float = 0.0, start: Any = None, sparse: bool | None = None
) -> MDP:
    """Two rooms of ``size x size`` cells, side by side, with a locked door in the middle of the wall between them.

    The key lies in the lower left corner of the left room; "pick up" takes it from the agent's own cell. "open", beside
    the door with the key in hand, opens the door for good. Entering the lower right corner pays 1 and ends. All else
    changes nothing. There are ``2 size² + (2 size² + 1)`` states: the left room in two stages, then everything.

    Args:
        slip: probability that a move goes in one of the other three directions, uniformly; the other actions never do.
        start: start state, start distribution ``(S,)``, or None: uniform over the left room, the key on the floor.
        sparse: None: sparse if there are more than 1000 states.

    Raises:
        ValueError: a size below 2, a slip outside [0, 1].

    >>> keydoor(3)
    <key and door 3: S=37, A=6, discount=0.95, dense>
    """
    if size < 2:
        raise ValueError(f"size: a room has at least 2 x 2 cells, got size {size}")
    door_row = (size - 1) // 2
    left = np.zeros((size, 2 * size + 1), bool)
    left[:, :size] = True
    whole = np.ones_like(left)
    whole[:, size] = np.arange(size) == door_row
    grids = [Grid(left), Grid(left), Grid(whole)]
    offset = np.cumsum([0] + [grid.num_states for grid in grids])
    blocks = []
    for stage, grid in enumerate(grids):
        here = np.arange(grid.num_states)
        act = np.column_stack([grid.moves(), here, here]) + offset[stage]
        if stage == 0:
            key = grid.index[size - 1, 0]
            act[key, 4] = offset[1] + key
        if stage == 1:
            beside = grid.index[door_row, size - 1]
            act[beside, 5] = offset[2] + grids[2].index[door_row, size - 1]
        blocks.append(act)
    mix = np.eye(len(ACTION_NAMES))
    mix[:4, :4] = slipping(slip)
    states = offset[-1]
    room = np.arange(states) < offset[1]
    return goal_mdp(
        np.concatenate(blocks),
        mix,
        discount,
        [states - 1],
        sparse,
        start=room / room.sum() if start is None else start,
        state_names=[f"{cell} {stage}" for grid, stage in zip(grids, STAGES, strict=True) for cell in grid.names()],
        action_names=ACTION_NAMES,
        name=f"key and door {size}",
    )
