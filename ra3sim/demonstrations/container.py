"""Demonstrations in flat arrays, and the file that they are kept in.

The file is one ``.npz`` (a zip of ``.npy`` arrays) that NumPy reads alone::

    with numpy.load(path, allow_pickle=False) as file:
        manifest = json.loads(str(file["header"]))
        states, offsets = file["states"], file["offsets"]

``header`` is a manifest in JSON:

* ``kind``: "Demonstrations"; ``format``: 1, the version of this format; ``arrays``: the names of all other arrays;
* ``num_trajectories`` M, ``num_steps`` N, ``num_states`` S, ``num_actions`` A;
* ``family``, ``discount``, ``expert``, ``parameter``, ``seed``, ``option_names``: as `Demonstrations` has them;
* ``sha256``: for each array the digest of its bytes in C order.

The arrays: ``states``, ``actions``, ``rewards``, and where known ``options`` and ``begins``, ``(N,)``; ``offsets``
``(M + 1,)``: trajectory i is the slice ``offsets[i] : offsets[i + 1]``; ``tasks``, ``last``, ``terminated``, ``(M,)``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ra3sim import _check, _store
from ra3sim.demonstrations.episodes import read_episodes
from ra3sim.latent.trajectories import Trajectories, _integers

FORMAT = 1
_ABOUT = ("family", "discount", "expert", "parameter", "seed", "option_names")


@dataclass(frozen=True, eq=False)
class Demonstrations:
    """M trajectories of experts, N decisions in all, in tasks that share states, actions and discount.

    Args:
        trajectories: states and actions.
        tasks: ``(M,)``, the number of each trajectory's task in its family.
        rewards: ``(N,)``, of each decision.
        last: ``(M,)``, the state after the last action.
        terminated: boolean ``(M,)``: the task ended there. Otherwise the trajectory was cut.
        discount: γ.
        options: ``(N,)``, the number of the option that drew each action; None: not known.
        begins: boolean ``(N,)``, where an option began; None: not known.
        option_names: of the options, if these are known.
        family, expert, parameter, seed: where the demonstrations come from (`demonstrate`), for people and for files.

    Raises:
        ValueError: lengths that do not fit, numbers out of range, options without begins or names, an option that
            changes where none begins.

    >>> two = Trajectories.from_pairs([([0, 1], [1, 1]), ([1], [1])], num_states=3, num_actions=2)
    >>> shown = Demonstrations(two, [0, 1], [0.0, 1.0, 1.0], last=[2, 2], terminated=[True, True], discount=0.5)
    >>> shown, shown.returns().tolist()
    (<Demonstrations: 2 of 2 tasks, 3 steps, S=3, A=2>, [0.5, 1.0])
    """

    trajectories: Trajectories
    tasks: Any
    rewards: Any
    last: Any
    terminated: Any
    discount: float
    options: Any = None
    begins: Any = None
    option_names: Sequence[str] = ()
    family: str = "tasks"
    expert: str = "unknown"
    parameter: float | None = None
    seed: Any = None

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, _check.freeze(value))  # noqa: E731  (it is frozen)
        count, steps = len(self.trajectories), self.trajectories.num_steps
        put("tasks", _numbers("tasks", self.tasks, count, None))
        put("rewards", _check.real_array("rewards", self.rewards, (steps,), "n"))
        put("last", _numbers("last", self.last, count, self.trajectories.num_states))
        put("terminated", _check.bool_array("terminated", self.terminated, (count,), "m"))
        object.__setattr__(self, "discount", _check.check_discount(self.discount))
        object.__setattr__(self, "option_names", tuple(str(name) for name in self.option_names))
        known = [self.options is not None, self.begins is not None, bool(self.option_names)]
        if any(known) and not all(known):
            raise ValueError("options: they go together with begins and option_names; give all three, or none")
        if self.options is not None:
            put("options", _numbers("options", self.options, steps, len(self.option_names)))
            put("begins", _check.bool_array("begins", self.begins, (steps,), "n"))
            self._check_segments()

    def _check_segments(self) -> None:
        first = self.trajectories.offsets[:-1]
        wrong = np.append(False, self.options[1:] != self.options[:-1])
        wrong[first] = True
        wrong &= ~self.begins
        if wrong.any():
            i, t = self.trajectories.place(int(np.argmax(wrong)))
            raise ValueError(
                f"begins: trajectory {i}, step {t}: the option is not the one of the step before; one begins there"
            )

    @classmethod
    def from_episodes(
        cls, episodes: Iterable[Any], num_states: int, num_actions: int, *, discount: float, tasks: Any = None,
        family: str = "episodes", expert: str = "unknown",
    ) -> Demonstrations:  # fmt: skip
        """From episodes as Minari has them: discrete observations ``(T + 1,)``, actions, rewards and ends ``(T,)``.

        Args:
            episodes: objects (``minari.EpisodeData``) or dicts with ``observations``, ``actions``, ``rewards``,
                ``terminations``, ``truncations``. An episode that ends in neither of these was cut too.
            num_states, num_actions: S and A of the tables that the numbers are of.
            tasks: ``(M,)``; None: one task, number 0.

        Raises:
            ValueError: naming the episode: observations or actions that are no whole numbers, lengths that do not fit,
                numbers of another state space, an end before the last step, no episode.

        >>> episode = {"observations": [0, 1, 2], "actions": [1, 1], "rewards": [0, 1]}
        >>> episode |= {"terminations": [False, True], "truncations": [False, False]}
        >>> Demonstrations.from_episodes([episode], num_states=3, num_actions=2, discount=0.9)
        <Demonstrations: 1 of 1 task, 2 steps, S=3, A=2>
        """
        pairs, rewards, last, terminated = read_episodes(episodes, num_states, num_actions)
        tasks = np.zeros(len(pairs), np.int64) if tasks is None else tasks
        trajectories = Trajectories.from_pairs(pairs, num_states, num_actions)
        return cls(trajectories, tasks, rewards, last, terminated, discount, family=family, expert=expert)

    def __len__(self) -> int:
        return len(self.trajectories)

    def returns(self) -> np.ndarray:
        """The discounted return of each trajectory, ``(M,)``; of one that was cut, up to there."""
        offsets = self.trajectories.offsets
        step = np.arange(len(self.rewards)) - np.repeat(offsets[:-1], self.trajectories.lengths)
        return np.add.reduceat(self.rewards * self.discount**step, offsets[:-1])

    def without_options(self) -> Demonstrations:
        """The same demonstrations as one sees them who does not know the options."""
        return replace(self, options=None, begins=None, option_names=())

    def subset(self, chosen: Sequence[int] | np.ndarray) -> Demonstrations:
        """Some of the trajectories, by number, in the given order."""
        chosen = np.atleast_1d(np.asarray(chosen, np.int64))
        offsets = self.trajectories.offsets
        rows = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for i in chosen] or [np.empty(0, np.int64)])
        picked = {name: getattr(self, name)[chosen] for name in ("tasks", "last", "terminated")}
        picked |= {"rewards": self.rewards[rows]}
        if self.options is not None:
            picked |= {"options": self.options[rows], "begins": self.begins[rows]}
        return replace(self, trajectories=self.trajectories.subset(chosen), **picked)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one ``.npz`` file in the format of this module's text, atomically.

        Raises:
            TypeError: a seed that JSON cannot hold.
        """
        arrays = {"tasks": self.tasks, "rewards": self.rewards, "last": self.last, "terminated": self.terminated}
        arrays |= {name: getattr(self.trajectories, name) for name in ("states", "actions", "offsets")}
        if self.options is not None:
            arrays |= {"options": self.options, "begins": self.begins}
        manifest = {"format": FORMAT, **self._sizes(), **{name: getattr(self, name) for name in _ABOUT}}
        manifest["sha256"] = {name: _digest(array) for name, array in sorted(arrays.items())}
        _store.write_arrays(path, "Demonstrations", arrays, manifest)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Demonstrations:
        """Read what `save` wrote; it is validated like any other.

        Raises:
            FileNotFoundError: no such file.
            ValueError: truncated, damaged, no demonstrations, or of a later format.
        """
        arrays, manifest = _store.read_arrays(path, "Demonstrations")
        if manifest.get("format") != FORMAT:
            raise ValueError(
                f"path: {path} has format {manifest.get('format')}, this version reads {FORMAT}; write it again, or "
                "read it with the version that wrote it"
            )
        changed = [name for name, array in sorted(arrays.items()) if manifest["sha256"].get(name) != _digest(array)]
        if changed:
            raise ValueError(f"path: {path} is damaged, {changed[0]} is not what was written; write it again")
        walked = {name: arrays.pop(name) for name in ("states", "actions", "offsets")}
        trajectories = Trajectories(**walked, num_states=manifest["num_states"], num_actions=manifest["num_actions"])
        recorded: dict[str, Any] = {**arrays, **{name: manifest[name] for name in _ABOUT}}
        return cls(trajectories, **recorded)

    def _sizes(self) -> dict[str, int]:
        of = self.trajectories
        sizes = {"num_trajectories": len(of), "num_steps": of.num_steps}
        return sizes | {"num_states": of.num_states, "num_actions": of.num_actions}

    def __repr__(self) -> str:
        of, tasks = self.trajectories, len(np.unique(self.tasks))
        options = f", {len(self.option_names)} options" if self.options is not None else ""
        return (
            f"<Demonstrations: {len(of)} of {tasks} task{'s' * (tasks > 1)}, {of.num_steps} steps, "
            f"S={of.num_states}, A={of.num_actions}{options}>"
        )


def _numbers(name: str, value: Any, count: int, below: int | None) -> np.ndarray:
    """Whole numbers ``(count,)`` from 0 on, less than ``below``."""
    array = _integers(name, value)
    if len(array) != count:
        raise ValueError(f"{name}: {len(array)} numbers where {count} are needed")
    bad = (array < 0) | (array >= (np.inf if below is None else below))
    if bad.any():
        end = "" if below is None else f" to {below - 1}"
        raise ValueError(f"{name}[{int(np.argmax(bad))}] is {array[bad][0]}; numbers run from 0{end}")
    return array


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()
