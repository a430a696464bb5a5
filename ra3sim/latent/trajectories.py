"""Demonstrations: many trajectories of unequal length in three flat arrays."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ra3sim import _check, _store


@dataclass(frozen=True, eq=False)
class Trajectories:
    """M trajectories with N decisions in all: trajectory i is the slice ``offsets[i] : offsets[i + 1]``.

    Args:
        states: ``(N,)``, the state of each decision.
        actions: ``(N,)``, the action taken there.
        offsets: ``(M + 1,)``, increasing, from 0 to N; no trajectory is empty.
        num_states, num_actions: S and A.

    Raises:
        ValueError: no trajectory, an empty one, a state or action out of range (says which trajectory and step).

    >>> two = Trajectories.from_pairs([([0, 1], [1, 0]), ([2], [1])], num_states=3, num_actions=2)
    >>> len(two), two.lengths.tolist(), two.states.tolist()
    (2, [2, 1], [0, 1, 2])
    """

    states: Any
    actions: Any
    offsets: Any
    num_states: int
    num_actions: int

    def __post_init__(self) -> None:
        offsets = _integers("offsets", self.offsets)
        states, actions = _integers("states", self.states), _integers("actions", self.actions)
        if len(offsets) < 2:
            raise ValueError("offsets: no trajectory; give at least one")
        if len(states) != len(actions):
            raise ValueError(f"actions: {len(actions)} for {len(states)} states; there is one for each state")
        if offsets[0] != 0 or offsets[-1] != len(states):
            raise ValueError(f"offsets: must run from 0 to {len(states)}, got {offsets[0]} to {offsets[-1]}")
        if (np.diff(offsets) < 1).any():
            empty = int(np.argmax(np.diff(offsets) < 1))
            raise ValueError(f"offsets: trajectory {empty} is empty; drop it")
        object.__setattr__(self, "offsets", _check.freeze(offsets))
        for name, array, count in (("states", states, self.num_states), ("actions", actions, self.num_actions)):
            bad = (array < 0) | (array >= count)
            if bad.any():
                i, t = self.place(int(np.argmax(bad)))
                raise ValueError(
                    f"{name}: trajectory {i}, step {t}: there is no {name[:-1]} {array[bad][0]}; "
                    f"numbers run from 0 to {count - 1}"
                )
            object.__setattr__(self, name, _check.freeze(array.astype(np.int32)))

    @classmethod
    def from_pairs(cls, pairs: Iterable[tuple[Any, Any]], num_states: int, num_actions: int) -> Trajectories:
        """From one ``(states, actions)`` a trajectory, of equal lengths."""
        pairs = [(np.asarray(s), np.asarray(a)) for s, a in pairs]
        if not pairs:
            raise ValueError("pairs: no trajectory; give at least one")
        for i, (states, actions) in enumerate(pairs):
            if states.shape != actions.shape or states.ndim != 1 or not states.size:
                raise ValueError(f"pairs[{i}]: states {states.shape} and actions {actions.shape} must be (T,), T >= 1")
        offsets = np.cumsum([0] + [len(s) for s, _ in pairs])
        return cls(
            np.concatenate([s for s, _ in pairs]),
            np.concatenate([a for _, a in pairs]),
            offsets,
            num_states,
            num_actions,
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """States and actions of one trajectory, ``(T,)`` each."""
        rows = slice(self.offsets[i], self.offsets[i + 1])
        return self.states[rows], self.actions[rows]

    @property
    def lengths(self) -> np.ndarray:
        """``(M,)``"""
        return np.diff(self.offsets)

    @property
    def num_steps(self) -> int:
        return len(self.states)

    def place(self, row: int) -> tuple[int, int]:
        """Trajectory and step of a row of the flat arrays."""
        i = int(np.searchsorted(self.offsets, row, side="right")) - 1
        return i, row - int(self.offsets[i])

    def subset(self, chosen: Sequence[int] | np.ndarray) -> Trajectories:
        """Some of the trajectories, by number, in the given order."""
        return Trajectories.from_pairs([self[int(i)] for i in chosen], self.num_states, self.num_actions)

    def merge(self, classes: Any) -> Trajectories:
        """The same decisions with states replaced by their class: ``classes`` ``(S,)``, numbers from 0.

        A latent model of the classes then shares what it learns between all states of a class.
        """
        classes = _integers("classes", classes)
        if len(classes) != self.num_states:
            raise ValueError(f"classes: {len(classes)} for {self.num_states} states; give one for each state")
        count = int(classes.max()) + 1
        return Trajectories(classes[self.states], self.actions, self.offsets, count, self.num_actions)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.npz`` file, atomically."""
        arrays = {"states": self.states, "actions": self.actions, "offsets": self.offsets}
        sizes = {"num_states": self.num_states, "num_actions": self.num_actions}
        _store.write_arrays(path, "Trajectories", arrays, sizes)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Trajectories:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError, ValueError: no such file, or a damaged one.
        """
        arrays, sizes = _store.read_arrays(path, "Trajectories")
        return cls(**arrays, num_states=sizes["num_states"], num_actions=sizes["num_actions"])

    def __repr__(self) -> str:
        return f"<Trajectories: {len(self)}, {self.num_steps} steps, S={self.num_states}, A={self.num_actions}>"


def _integers(name: str, value: Any) -> np.ndarray:
    array = _check.any_array(name, value)
    if array.ndim != 1 or not (np.issubdtype(array.dtype, np.integer) or array.size == 0):
        raise ValueError(f"{name}: must be a list of whole numbers, got shape {array.shape} of {array.dtype}")
    return array.astype(np.int64)
