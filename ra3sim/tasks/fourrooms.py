"""Goals in FourRooms: the family of tasks of Sutton, Precup & Singh (1999), section 2."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ra3sim.envs.fourrooms import fourrooms, fourrooms_goals, fourrooms_grid
from ra3sim.tasks._choice import prefers_sparse
from ra3sim.tasks.family import TaskFamily


def goals_in_fourrooms(
    goals: Iterable[Any] | None = None,
    discount: float = 0.9,
    *,
    slip: float = 1 / 3,
    size: int = 11,
    start: Any = None,
    sparse: bool | None = None,
) -> TaskFamily:
    """One task for each goal; entering it pays 1 and ends. They are all there are, and equally likely.

    Args:
        goals: cells ``(row, column)`` or states; None: every cell of a room (hallways are none) where no task starts.
        discount, slip, size: of `fourrooms`.
        start: start cell (``(0, 0)`` is a corner), start state, start distribution ``(S,)``, or None: anywhere but in
            the goal.
        sparse: None: if the tasks are large, see `ra3sim.tasks`.

    Raises:
        ValueError: what `fourrooms` refuses (a goal in a wall), a goal that stands twice or where a task starts, no
            goal at all.

    >>> goals_in_fourrooms(start=(0, 0))
    <goals in FourRooms 11: 99 tasks, S=104, A=4, discount=0.9>
    """
    grid = fourrooms_grid(size)
    empty = fourrooms(None, discount, slip=slip, size=size, start=start, sparse=sparse)
    taken = np.flatnonzero(empty.start if start is not None else [])
    if goals is None:
        chosen = np.setdiff1d(fourrooms_goals(size), taken).tolist()
    else:
        chosen = [grid.state("goals", goal) for goal in goals]
    for goal in chosen:
        if goal in taken:
            raise ValueError(f"goals: {empty.state_names[goal]} is where tasks start; leave it out or start elsewhere")
        if chosen.count(goal) > 1:
            raise ValueError(f"goals: {empty.state_names[goal]} stands twice; give every goal once")
    if not chosen:
        raise ValueError("goals: none; give at least one, or a start that leaves a cell free")
    sparse = prefers_sparse(len(chosen), empty.num_states, empty.num_actions) if sparse is None else sparse
    make = {"discount": discount, "slip": slip, "size": size, "start": start, "sparse": sparse}
    names = [f"{empty.name}, goal {empty.state_names[goal]}" for goal in chosen]
    mdps = [fourrooms(goal, **make).replace(name=name) for goal, name in zip(chosen, names, strict=True)]
    return TaskFamily(mdps, name=f"goals in {empty.name}", world=fourrooms(None, **make))
