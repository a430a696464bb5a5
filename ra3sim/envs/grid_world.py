"""Slippery grid worlds of any size, built without a loop over states."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.envs._grid import MOVE_NAMES, Grid, check_probability, goal_mdp, slipping
from ra3sim.mdp import MDP


def grid_world(
    height: int,
    width: int,
    discount: float = 0.99,
    *,
    slip: float = 1 / 3,
    goal: Any = None,
    walls: float = 0.0,
    seed: int | None = None,
    start: Any = None,
    sparse: bool | None = None,
) -> MDP:
    """A grid with one goal: entering it pays 1 and ends.

    Args:
        slip: probability that one of the other three moves is made, uniformly.
        goal: cell ``(row, column)``; None: the lower right corner.
        walls: fraction of cells, chosen by ``seed``, that are walls. The goal stays free, and cells that are cut off
            from it become walls too.
        start: start cell ``(row, column)``, start distribution ``(S,)``, or None: uniform.
        sparse: None: sparse if there are more than 1000 states.

    Raises:
        ValueError: a size below 1, a probability outside [0, 1], walls without a seed, a goal off the map.

    >>> grid_world(2, 3, slip=0.0)
    <grid world 2 x 3: S=6, A=4, discount=0.99, dense>
    """
    if height < 1 or width < 1:
        raise ValueError(f"height, width: must be at least 1, got {height} x {width}")
    check_probability("walls", walls)
    free = np.ones((height, width), bool)
    goal = (height - 1, width - 1) if goal is None else goal
    goal = tuple(Grid(free).cells[Grid(free).state("goal", goal)])
    if walls:
        if seed is None:
            raise ValueError("seed: random walls need one")
        free = np.random.default_rng(seed).random((height, width)) >= walls
        free[goal] = True
        grid = Grid(free)
        parts = grid.parts()
        free[free] = parts == parts[grid.index[goal]]
    grid = Grid(free)
    return goal_mdp(
        grid.moves(),
        slipping(slip),
        discount,
        [grid.state("goal", goal)],
        sparse,
        start=grid.start(start),
        state_names=grid.names(),
        action_names=MOVE_NAMES,
        name=f"grid world {height} x {width}",
    )
