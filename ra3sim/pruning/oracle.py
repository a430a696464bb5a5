"""The exact pruning error Δ(M, Z') of every task of a family and every subset of candidate options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from ra3sim.options import OptionSet
from ra3sim.planning import SMDPBatch, solve_batch
from ra3sim.smdp import SMDP
from ra3sim.tasks.family import TOLERANCE, TaskFamily


class PruningOracle:
    """A family of tasks, candidates Z with their exact model in every task, and what subsets of Z lose.

    Values are those at the tasks' starts, certified within `TOLERANCE`; each subset is solved once and remembered.

    Args:
        family: the tasks. Subsets are cut out of dense arrays ``(T, Z, S, S)``, all tasks at once.
        options: the candidates Z.
        models, primitive: of the options in every task, and V*_A ``(T,)``, if they are known already.

    Attributes:
        primitive, whole: V*_A and V*_Z, ``(T,)``.

    Raises:
        ValueError: options over other states or actions than the tasks', a state without any candidate.

    >>> from ra3sim.envs import chain
    >>> tasks = [chain(5, discount=0.5, start=s) for s in (0, 3)]
    >>> oracle = PruningOracle(TaskFamily(tasks), OptionSet.macros(tasks[0], 2))
    >>> oracle.whole.tolist(), oracle.pruning_error([3]).tolist()
    ([0.125, 1.0], [0.0, 0.0])
    """

    def __init__(
        self, family: TaskFamily, options: OptionSet, models: SMDPBatch | None = None, primitive: Any = None
    ) -> None:
        self.family, self.options = family, options
        self.models = _models(family, options) if models is None else models
        self._known: dict[tuple[int, ...], np.ndarray] = {}
        self.primitive = family.at_start(family.solve().values) if primitive is None else primitive
        self.whole = self.values(range(len(options)))

    @cached_property
    def gamma_bar(self) -> float:
        """The largest mass that goes on, over tasks and Z: as `SMDP.gamma_bar`."""
        going_on = np.einsum("bzst,bt->bzs", _outcomes(self.models), ~self.models.terminal)
        return float(going_on.max(initial=0, where=self.models.available))

    @property
    def reward_bound(self) -> float:
        """max |R(s, z)| over tasks and Z."""
        return float(np.abs(self.models.R).max(initial=0, where=self.models.available))

    @property
    def one_is_enough(self) -> bool:
        """Whether it is plain that a set of options is worth its best member: a task is one decision in one state."""
        return bool(((self.family.start > 0).sum(1) == 1).all()) and self.gamma_bar == 0

    def on(self, tasks: Sequence[int] | np.ndarray) -> PruningOracle:
        """The same for some of the tasks."""
        chosen, models = [int(task) for task in tasks], self.models
        part = SMDPBatch(
            models.R[chosen], _outcomes(models)[chosen], models.available[chosen], terminal=models.terminal[chosen]
        )
        return PruningOracle(self.family.subset(chosen), self.options, part, self.primitive[chosen])

    def select(self, candidates: Sequence[int]) -> PruningOracle:
        """The same tasks with some of the candidates, numbered anew in this order.

        Raises:
            ValueError: an unknown candidate, or a state without any.
        """
        options = self.options.subset(list(candidates))
        models = self.restricted(candidates)
        if models is None:
            raise ValueError("candidates: some state has none of them; add the primitive actions")
        return PruningOracle(self.family, options, models, self.primitive)

    def extend(self, options: OptionSet) -> PruningOracle:
        """The same with further candidates, numbered after the present ones; they may leave out some states."""
        # A model needs an option in every state: the primitive actions stand in while it is made.
        actions = OptionSet.primitives(self.family.world)
        more = _models(self.family, actions | options)
        R, P, available = (
            np.concatenate([old, new[:, len(actions) :]], axis=1)
            for old, new in (
                (self.models.R, more.R),
                (_outcomes(self.models), _outcomes(more)),
                (self.models.available, more.available),
            )
        )
        models = SMDPBatch(R, P, available, terminal=self.models.terminal)
        return PruningOracle(self.family, self.options | options, models, self.primitive)

    def restricted(
        self, kept: Iterable[int], initiation: np.ndarray | None = None, tasks: Sequence[int] | np.ndarray | None = None
    ) -> SMDPBatch | None:
        """The models of the tasks with these options alone, in this order; None if some state has none of them.

        Args:
            initiation: boolean ``(len(kept), S)``, where they may begin at most; None: where they could before.
            tasks: numbers; None: all.
        """
        chosen, models = list(kept), self.models
        tasks = range(len(self.family)) if tasks is None else tasks
        which = np.ix_(np.asarray(tasks, int), np.asarray(chosen, int))
        terminal = models.terminal[which[0].ravel()]
        available = models.available[which]
        if initiation is not None:
            available = available & initiation
        if not (available.any(1) | terminal).all():
            return None
        return SMDPBatch(models.R[which], _outcomes(models)[which], available, terminal=terminal)

    def values(self, kept: Iterable[int], initiation: np.ndarray | None = None) -> np.ndarray:
        """V*_Z' of every task, ``(T,)``; -inf if Z' leaves some state without an option. As `restricted`."""
        key = tuple(kept if initiation is not None else sorted(kept))
        if initiation is None and key in self._known:
            return self._known[key]
        models = self.restricted(key, initiation)
        if models is None:
            values = np.full(len(self.family), -np.inf)
        else:
            values = self.family.at_start(solve_batch(models, tolerance=TOLERANCE).values)
        if initiation is None:
            self._known[key] = values
        return values

    def pruning_error(self, kept: Iterable[int], initiation: np.ndarray | None = None) -> np.ndarray:
        """Δ = V*_Z − V*_Z' of every task, ``(T,)``; inf if Z' leaves some state without an option."""
        return self.whole - self.values(kept, initiation)

    def refutes(self, kept: Iterable[int], epsilon: float = 0.0) -> np.ndarray:
        """Which tasks refute Z': Δ > ε by more than the planners' errors, boolean ``(T,)``."""
        return self.pruning_error(kept) > epsilon + 2 * TOLERANCE


def _models(family: TaskFamily, options: OptionSet) -> SMDPBatch:
    return SMDPBatch.stack([SMDP.from_options(mdp.to_dense(), options) for mdp in family.mdps])


def _outcomes(models: SMDPBatch) -> np.ndarray:
    """``(T, Z, S, S)``, without a copy."""
    return models.matrices.reshape(len(models), -1, models.num_states, models.num_states)
