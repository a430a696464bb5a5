"""Four rooms joined by four hallways, and the hallway options (Sutton, Precup & Singh 1999, section 2)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.envs._grid import MOVE_NAMES, Grid, goal_mdp, named_cells, slipping
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet, way_to

SMALLEST = 6


def fourrooms(
    goal: Any = None,
    discount: float = 0.9,
    *,
    slip: float = 1 / 3,
    size: int = 11,
    start: Any = None,
    sparse: bool | None = None,
) -> MDP:
    """Slippery FourRooms: four moves, of which the intended one is made with probability ``1 - slip``.

    Args:
        goal: cell ``(row, column)`` or state; entering it pays 1 and ends. None: no goal and no reward, for options
            that tasks with different goals share.
        slip: probability that one of the other three moves is made, uniformly (the paper has 1/3).
        size: the map is ``size x size`` inside its border and has ``size**2 - 2 * size + 5`` states: 104 for the 11 of
            the paper, 10,004 for 101.
        start: start cell, start distribution ``(S,)``, or None: uniform.
        sparse: None: sparse if there are more than 1000 states.

    Raises:
        ValueError: a size below 6, a slip that is no probability, a goal or start in a wall.

    >>> fourrooms(goal=(10, 10))
    <FourRooms 11: S=104, A=4, discount=0.9, dense>
    """
    grid = fourrooms_grid(size)
    goals = [] if goal is None else [grid.state("goal", goal)]
    return goal_mdp(
        grid.moves(),
        slipping(slip),
        discount,
        goals,
        sparse,
        start=grid.start(start),
        state_names=grid.names(),
        action_names=MOVE_NAMES,
        name=f"FourRooms {size}",
    )


def fourrooms_goals(size: int = 11) -> np.ndarray:
    """The states that lie in a room, not in a hallway: the goals of the family of tasks, drawn uniformly.

    >>> len(fourrooms_goals())
    100
    """
    grid = fourrooms_grid(size)
    return np.setdiff1d(np.arange(grid.num_states), _hallways(grid))


def fourrooms_grid(size: int = 11) -> Grid:
    """The map of the paper; for other sizes with walls and hallways in proportion.

    >>> print(fourrooms_grid(7).draw({}))
    #########
    #...#...#
    #.......#
    #...#...#
    #.###...#
    #...##.##
    #...#...#
    #.......#
    #########
    """
    if size < SMALLEST:
        raise ValueError(f"size: rooms need a size of at least {SMALLEST}, got {size}")
    middle = (size + 1) // 2 - 1
    free = np.ones((size, size), bool)
    free[:, middle] = False
    free[middle, :middle] = False
    free[middle + 1, middle + 1 :] = False
    upper, left = (middle + 1) // 2 - 1, middle // 2 - 1
    right, lower = (middle + size) // 2, (middle + size) // 2 + 1
    for hallway in ((upper, middle), (middle, left), (middle + 1, right), (lower, middle)):
        free[hallway] = True
    return Grid(free)


def hallways(mdp: MDP) -> np.ndarray:
    """States in a gap of a wall: walls on two opposite sides, free cells on the other two.

    Raises:
        ValueError: the MDP has no map.

    >>> [fourrooms().state_names[s] for s in hallways(fourrooms())]
    ['(2, 5)', '(5, 1)', '(6, 8)', '(9, 5)']
    """
    grid = Grid.of(mdp)
    _check_one_state_per_cell(mdp, grid)
    return _hallways(grid)


def hallway_options(mdp: MDP) -> OptionSet:
    """For each room and each of its hallways, the option that goes there: eight in FourRooms.

    An option can begin in its room and in the room's other hallways. Its policy maximises E[γ^τ 1{arrives}] (ties go to
    the first move); it ends in its hallway, and in any cell outside of the room, where slipping may take it.

    Args:
        mdp: any world with one state per cell, a map of rooms and hallways. A goal in a room bends the policies around
            it: take ``fourrooms(goal=None)`` for options that tasks share.

    Raises:
        ValueError: no map, no hallway, or one that cannot be reached from its room.
    """
    grid = Grid.of(mdp)
    _check_one_state_per_cell(mdp, grid)
    halls = _hallways(grid)
    if not halls.size:
        raise ValueError("mdp: its map has no hallways, so there are no rooms to leave")
    is_hall = np.zeros(grid.num_states, bool)
    is_hall[halls] = True
    room = _rooms(grid, is_hall)
    neighbours = grid.neighbours()
    policies, terminations, initiations, names = [], [], [], []
    for number in range(room.max() + 1):
        inside = room == number
        doors = [h for h in halls if inside[neighbours[h][neighbours[h] >= 0]].any()]
        for door in doors:
            others = np.isin(np.arange(grid.num_states), [d for d in doors if d != door])
            initiation = (inside | others) & ~mdp.terminal
            policy, reliable = way_to(mdp, int(door), initiation)
            if not reliable[initiation].all():
                raise ValueError(
                    f"mdp: hallway {mdp.state_names[door]} cannot be reached from all of its room, or only after so "
                    "long that γ^τ is lost in rounding; raise the discount or open the way"
                )
            policies.append(policy)
            terminations.append(~inside)
            initiations.append(initiation)
            names.append(f"room {number} to {mdp.state_names[door]}")
    return OptionSet(np.array(policies), np.array(terminations), np.array(initiations), names)


def _hallways(grid: Grid) -> np.ndarray:
    wall = grid.neighbours() < 0
    up, right, down, left = wall.T
    return np.flatnonzero((up & down & ~right & ~left) | (right & left & ~up & ~down))


def _rooms(grid: Grid, is_hall: np.ndarray) -> np.ndarray:
    """The number of the room ``(S,)`` that each state lies in; -1 in hallways."""
    inside = grid.free.copy()
    inside[grid.free] = ~is_hall
    room = np.full(grid.num_states, -1)
    room[~is_hall] = Grid(inside).parts()
    return room


def _check_one_state_per_cell(mdp: MDP, grid: Grid) -> None:
    cells = named_cells(mdp)
    if len(cells) != grid.num_states or not np.array_equal(cells, grid.cells):
        raise ValueError("mdp: hallways need one state per cell, numbered row by row, as `fourrooms` gives them")
