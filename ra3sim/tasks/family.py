"""Tasks over the same states, actions and discount, drawn from a distribution p(M)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet
from ra3sim.planning import Plan, solve_batch
from ra3sim.smdp import SMDP
from ra3sim.spread import Interval, interval
from ra3sim.tasks._choice import check_count

# Of values, certified.
TOLERANCE = 1e-8


@dataclass(frozen=True, eq=False)
class TaskFamily:
    """T tasks with their probabilities: all there are, or a sample of infinitely many.

    Tasks share states, actions, discount and (where a state is not terminal) which actions are available; transitions,
    rewards, starts and terminal states may differ.

    Args:
        mdps: the tasks.
        weights: p(M), ``(T,)``; None: uniform.
        sampled: the tasks are independent draws from a larger distribution, so that means over them are estimates.
            (From a finite one they may be drawn without replacement; the intervals are then wider than need be.)
        name: for people.
        world: where no task has been set, for options that tasks share (a goal of one task is a dead end in it); of the
            same states, actions and discount. None: the first task.

    Raises:
        ValueError: no task, tasks over other states, actions or discounts, or with other actions available, weights
            that are no distribution, weights for a sample.

    >>> from ra3sim.envs import chain
    >>> family = TaskFamily([chain(5, discount=0.5, start=s) for s in (0, 3)])
    >>> family.at_start(family.solve().values).tolist(), float(family.expectation([0.125, 1.0]).mean)
    ([0.125, 1.0], 0.5625)
    """

    mdps: Sequence[MDP]
    weights: Any = None
    sampled: bool = False
    name: str = "tasks"
    world: MDP = None  # type: ignore[assignment]  # None is replaced by the first task

    def __post_init__(self) -> None:
        mdps = tuple(self.mdps)
        if not mdps:
            raise ValueError("mdps: no task; give at least one")
        first = mdps[0]
        world = first if self.world is None else self.world
        for label, mdp in [*((f"mdps[{number}]", mdp) for number, mdp in enumerate(mdps)), ("world", world)]:
            same = (mdp.num_states, mdp.num_actions, mdp.discount) == (
                first.num_states,
                first.num_actions,
                first.discount,
            )
            if not same:
                raise ValueError(
                    f"{label}: has (S, A, γ) = ({mdp.num_states}, {mdp.num_actions}, {mdp.discount}), mdps[0] "
                    f"({first.num_states}, {first.num_actions}, {first.discount}); tasks of a family share them"
                )
        _check_available(mdps)
        if self.sampled and self.weights is not None:
            raise ValueError("weights: a sample has none; draw more of the tasks that are likelier")
        weights = np.full(len(mdps), 1 / len(mdps)) if self.weights is None else self.weights
        weights = _check.distribution("weights", weights, (len(mdps),), "t")
        object.__setattr__(self, "mdps", mdps)
        object.__setattr__(self, "world", world)
        object.__setattr__(self, "weights", _check.freeze(weights))

    def __len__(self) -> int:
        return len(self.mdps)

    def __getitem__(self, task: int) -> MDP:
        return self.mdps[task]

    @property
    def num_states(self) -> int:
        return self.mdps[0].num_states

    @property
    def num_actions(self) -> int:
        return self.mdps[0].num_actions

    @property
    def discount(self) -> float:
        return self.mdps[0].discount

    @property
    def start(self) -> np.ndarray:
        """Start distributions, ``(T, S)``."""
        return np.array([mdp.start for mdp in self.mdps])

    def subset(self, tasks: Iterable[int]) -> TaskFamily:
        """Some of the tasks, by their numbers; their probabilities in proportion.

        Raises:
            ValueError: no number, one that is none of a task, or only tasks of probability 0.
        """
        chosen = list(tasks)
        for task in chosen:
            if isinstance(task, bool) or not isinstance(task, (int, np.integer)) or not 0 <= task < len(self):
                raise ValueError(
                    f"tasks: give numbers from 0 to {len(self) - 1} (of a mask: np.flatnonzero), got {task!r}"
                )
        mdps = [self.mdps[task] for task in chosen]
        if self.sampled or not chosen:
            return TaskFamily(mdps, sampled=self.sampled, name=self.name, world=self.world)
        weights = self.weights[chosen]
        if not weights.any():
            raise ValueError("tasks: all of them have probability 0; take one that can be drawn")
        return TaskFamily(mdps, weights / weights.sum(), name=self.name, world=self.world)

    def split(self, *counts: int, seed: Any) -> list[np.ndarray]:
        """Disjoint groups of tasks, drawn without replacement, each as ascending numbers.

        Raises:
            ValueError: no count, one below 1, more tasks than there are.
        """
        if not counts or min(counts) < 1 or sum(counts) > len(self):
            raise ValueError(f"counts: at least 1 each, and at most {len(self)} in all; got {counts}")
        order = np.random.default_rng(seed).permutation(len(self))
        return [np.sort(part) for part in np.split(order[: sum(counts)], np.cumsum(counts)[:-1])]

    def draw(self, count: int, seed: Any) -> np.ndarray:
        """Numbers of independently drawn tasks, ``(count,)``; ``seed`` is for `numpy.random.default_rng`.

        Raises:
            ValueError: a count below 1.
        """
        check_count("count", count)
        return np.random.default_rng(seed).choice(len(self), size=count, p=self.weights)

    def models(self, options: OptionSet | None = None) -> list[SMDP]:
        """The exact model of the options (None: of the primitive actions) in every task."""
        if options is None:
            return [SMDP.from_mdp(mdp) for mdp in self.mdps]
        return [SMDP.from_options(mdp, options) for mdp in self.mdps]

    def solve(self, options: OptionSet | None = None, tolerance: float = TOLERANCE, threads: int = 1) -> Plan:
        """V* and an optimal policy of every task over the options (None: primitive actions), ``(T, S)``."""
        return solve_batch(self.models(options), tolerance=tolerance, threads=threads)

    def at_start(self, values: Any) -> np.ndarray:
        """Values ``(T, S)`` at the start of each task, ``(T,)``."""
        return np.einsum("ts,ts->t", self.start, np.asarray(values, dtype=float))

    def expectation(self, values: Any, confidence: float = 0.95) -> Interval:
        """E over p(M) of something known for every task, ``(T, ...)``.

        If the tasks are all there are, the mean is exact and the interval is that point; of a sample it is Student's.
        A `subset` that is no sample counts as all there are: its expectation is that over itself.

        Raises:
            ValueError: not one value a task, NaN or infinity, a confidence outside (0, 1), an interval from one task.
        """
        values = np.asarray(values, dtype=float)
        if values.shape[:1] != (len(self),):
            raise ValueError(f"values: one for each of {len(self)} tasks, got shape {values.shape}")
        if not np.isfinite(values).all():
            task = int(np.argwhere(~np.isfinite(values))[0][0])
            raise ValueError(f"values: task {task} has NaN or infinity; leave the task out")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence: must lie strictly between 0 and 1, got {confidence!r}")
        if not self.sampled:
            mean = np.tensordot(self.weights, values, 1)
            return Interval(mean, mean, mean)
        if len(self) == 1:
            raise ValueError("values: an interval from a sample of tasks needs at least 2 of them")
        return interval(values, confidence=confidence)

    def __repr__(self) -> str:
        of = "a sample of " if self.sampled else ""
        size = f"S={self.num_states}, A={self.num_actions}, discount={self.discount:g}"
        return f"<{self.name}: {of}{len(self)} tasks, {size}>"


def _check_available(mdps: Sequence[MDP]) -> None:
    """Where a state is terminal in a task, that task says nothing about its actions; others may."""
    offered, known = mdps[0].available.copy(), ~mdps[0].terminal
    for number, mdp in enumerate(mdps):
        live = ~mdp.terminal
        other = (mdp.available != offered).any(1) & known & live
        if other.any():
            raise ValueError(
                f"mdps[{number}]: other actions are available in {_check.first(other, 's')} than in the tasks before; "
                "tasks of a family share them: let what a task lacks do nothing there"
            )
        offered[live & ~known] = mdp.available[live & ~known]
        known |= live
