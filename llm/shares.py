"""Rollouts that several processes share: each computes those of some programs, and all know everybody's numbers.

So an E-step sees the whole batch on every process, and what it decides and measures is the same on all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from llm import distributed
from llm.program import Row
from ra3sim.abstraction.interface import Step

if TYPE_CHECKING:
    from llm.world import Evidence, Rolled


class Shares:
    """The rollouts of a batch as a `llm.world.Rolled` of all of it has them; every process must make the same calls.

    Args:
        own: the rollouts of this process, of the programs ``distributed.share(batch)``.
        lengths: lines of each program of the whole batch, I of them.

    Attributes:
        mask: boolean ``(I, T)``, of the whole batch.
        counts: tokens computed by this process.
    """

    def __init__(self, own: Rolled, lengths: Sequence[int]) -> None:
        self.mask = np.arange(max(lengths)) < np.array(lengths)[:, None]
        self.counts = own.counts
        self._own, self._next = own, 0
        self._mine = np.array(distributed.share(range(len(lengths))))

    def step(self, t: int) -> Step:
        self._next = t + 1
        parts = distributed.gather_objects([self._own.step(t) if self._goes_on(t) else None])
        return Step(*(self._whole(parts, name) for name in Step._fields))

    def think_probability(self) -> np.ndarray:
        mine = self._own.think_probability() if self._goes_on(self._next) else None
        return self._put(distributed.gather_objects([mine]), 0.0)

    def select(self, ancestors: np.ndarray) -> None:
        self._own.select(ancestors[self._mine])

    def evidence(self, weights: np.ndarray) -> Evidence:
        found = self._own.annotated(weights[self._mine])
        return self._own.world.filtered(dict(distributed.gather_objects(list(found.items()))))

    def gradient_rows(self, whether: np.ndarray, what: np.ndarray, anchor: float) -> tuple[list[Row], int]:
        own, group = self._own, self._own.group
        decisions = sum(distributed.gather_objects([own.decisions]))
        # The longest program may be another process's.
        whether, what = (advantage[self._mine, :, : own.mask.shape[1]] for advantage in (whether, what))
        rows = own.rows(whether, what, anchor, decisions, len(self.mask) * group)
        programs = distributed.gather_objects([rows[k : k + group] for k in range(0, len(rows), group)])
        return [row for program in programs for row in program], decisions

    def _goes_on(self, t: int) -> bool:
        """Whether a program of this process has a line t."""
        return t < self._own.mask.shape[1]

    def _whole(self, parts: Sequence[Step | None], name: str) -> np.ndarray | None:
        """One field of a step, ``(I, G)``; None if nobody has it."""
        found = [None if part is None else getattr(part, name) for part in parts]
        if all(part is None for part in found):
            return None
        # Where programs have ended anything may stand, but lengths are divided by.
        return self._put(found, 1 if name == "length" else 0)

    def _put(self, parts: Sequence[Any], rest: float) -> np.ndarray:
        """Each process's rows in their places, ``(I, G)``; ``rest`` for those of processes that have none."""
        kind = next(part.dtype for part in parts if part is not None)
        whole = np.full((len(self.mask), self._own.group), rest, kind)
        for k, part in enumerate(parts):
            if part is not None:
                whole[k :: len(parts)] = part
        return whole
