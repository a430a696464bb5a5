"""Finite Markov decision processes: one frozen container, dense or sparse, validated at construction."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim import _check, _store


@dataclass(frozen=True, eq=False)
class MDP:
    """A finite discounted MDP with terminal states (Puterman 1994, chapter 6).

    Args:
        transitions: probabilities, dense ``(S, A, S)``, or sparse ``(S * A, S)`` whose row ``s * A + a`` belongs to the
            pair (s, a) (or a sequence of A sparse ``(S, S)`` matrices, one per action). Rows of available pairs sum to
            1 within 1e-9. A dense float64 C-contiguous array is not copied.
        rewards: expected reward of a pair, ``(S, A)``; or per transition, in the shape of ``transitions``.
        discount: γ in [0, 1), per step.
        start: start distribution ``(S,)``, or one state; None: uniform over the states that are not terminal.
        available: boolean ``(S, A)``; None: every action in every state. Terminal states offer no decision, whatever is
            said here; every other state needs at least one action.
        terminal: boolean ``(S,)``, or a list of states. Their rows must be self-loops without reward: their value is 0.
        state_names, action_names: for people; None: numbers.
        name: for people.

    Raises:
        ValueError: naming the argument, the place and the remedy.

    >>> coin = MDP(transitions=[[[0.5, 0.5]], [[0.0, 1.0]]], rewards=[[1.0], [0.0]], discount=0.9, terminal=[1])
    >>> coin.num_states, coin.num_actions, coin.is_sparse
    (2, 1, False)
    """

    transitions: Any
    rewards: Any
    discount: float
    start: Any = None
    available: Any = None
    terminal: Any = None
    state_names: Any = None
    action_names: Any = None
    name: str = "MDP"
    num_states: int = field(init=False)
    num_actions: int = field(init=False)
    row_error: float = field(init=False)  # how far the rows of used pairs miss 1 at most

    def __post_init__(self) -> None:
        put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731  (the container is frozen)
        transitions, states, actions = _read_transitions(self.transitions)
        put("num_states", states)
        put("num_actions", actions)
        put("discount", _check.check_discount(self.discount))
        put("terminal", _check.freeze(_state_mask("terminal", self.terminal, states)))
        put("available", _check.freeze(self._read_available()))
        put("row_error", _check_rows(transitions, self.available | self.terminal[:, None]))
        put("rewards", _check.freeze(_read_rewards(self.rewards, transitions, states, actions)))
        put("transitions", transitions if sp.issparse(transitions) else _check.freeze(transitions))
        self._check_terminal_rows()
        put("start", _check.freeze(self._read_start()))
        names = range(states) if self.state_names is None else self.state_names
        put("state_names", _check.check_names("state_names", names, states))
        names = range(actions) if self.action_names is None else self.action_names
        put("action_names", _check.check_names("action_names", names, actions))

    @property
    def is_sparse(self) -> bool:
        return sp.issparse(self.transitions)

    def rows(self) -> np.ndarray | sp.csr_array:
        """The transitions as a matrix ``(S * A, S)``, without a copy; row ``s * A + a`` is the pair (s, a)."""
        return self.transitions if self.is_sparse else self.transitions.reshape(-1, self.num_states)

    def action_matrix(self, action: int) -> np.ndarray | sp.csr_array:
        """The transition matrix ``(S, S)`` of one action."""
        return self.rows()[action :: self.num_actions]

    def under(self, policy: np.ndarray) -> tuple[np.ndarray | sp.csr_array, np.ndarray]:
        """Transition matrix ``(S, S)`` and expected reward ``(S,)`` of one step of a policy ``(S, A)``."""
        reward = np.einsum("sa,sa->s", policy, self.rewards)
        if self.is_sparse:
            states, actions = np.nonzero(policy)
            mix = sp.csr_array(
                (policy[states, actions], (states, states * self.num_actions + actions)),
                shape=(self.num_states, self.num_states * self.num_actions),
            )
            return sp.csr_array(mix @ self.transitions), reward
        return np.einsum("sa,sat->st", policy, self.transitions), reward

    def to_sparse(self) -> MDP:
        """The same MDP with sparse transitions."""
        return self if self.is_sparse else self.replace(transitions=sp.csr_array(self.rows()))

    def to_dense(self) -> MDP:
        """The same MDP with dense transitions."""
        shape = (self.num_states, self.num_actions, self.num_states)
        return self.replace(transitions=self.transitions.toarray().reshape(shape)) if self.is_sparse else self

    def replace(self, **changes: Any) -> MDP:
        """A copy with some arguments changed; it is validated again."""
        arguments = {name: getattr(self, name) for name in _ARGUMENTS}
        return MDP(**{**arguments, **changes})

    def reachable(self, start: np.ndarray | None = None) -> np.ndarray:
        """States ``(S,)`` that some policy can visit from the start distribution (or from a mask of states)."""
        seen = (self.start > 0) if start is None else _state_mask("start", start, self.num_states)
        rows = sp.csr_array(self.rows())
        frontier = np.flatnonzero(seen & ~self.terminal)
        seen = seen.copy()
        while frontier.size:
            pairs = (frontier[:, None] * self.num_actions + np.arange(self.num_actions))[self.available[frontier]]
            new = np.unique(_successors(rows, pairs))
            new = new[~seen[new]]
            seen[new] = True
            frontier = new[~self.terminal[new]]
        return seen

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the MDP to one ``.npz`` file, atomically."""
        arrays = {"rewards": self.rewards, "start": self.start, "available": self.available, "terminal": self.terminal}
        if self.is_sparse:
            arrays |= {part: getattr(self.transitions, part) for part in ("data", "indices", "indptr")}
        else:
            arrays["transitions"] = self.transitions
        meta = {k: getattr(self, k) for k in ("discount", "state_names", "action_names", "name")}
        _store.write_arrays(path, "MDP", arrays, meta)

    @staticmethod
    def load(path: str | os.PathLike[str]) -> MDP:
        """Read an MDP that `save` wrote; it is validated like any other.

        Raises:
            FileNotFoundError: no such file.
            ValueError: truncated, or not an MDP.
        """
        arrays, meta = _store.read_arrays(path, "MDP")
        if "transitions" not in arrays:
            parts = tuple(arrays.pop(part) for part in ("data", "indices", "indptr"))
            states, actions = arrays["rewards"].shape
            arrays["transitions"] = sp.csr_array(parts, shape=(states * actions, states))
        fields: dict[str, Any] = {**arrays, **meta}
        return MDP(**fields)

    def _read_available(self) -> np.ndarray:
        states, actions = self.num_states, self.num_actions
        if self.available is None:
            available = np.ones((states, actions), bool)
        else:
            available = _check.bool_array("available", self.available, (states, actions), "sa").copy()
        available[self.terminal] = False
        empty = ~available.any(1) & ~self.terminal
        if empty.any():
            where = _check.first(empty, "s")
            raise ValueError(f"available: no action in {where}; give it one, or make the state terminal")
        return available

    def _check_terminal_rows(self) -> None:
        for state in np.flatnonzero(self.terminal):
            rows: Any = self.rows()[state * self.num_actions : (state + 1) * self.num_actions]
            back = np.asarray(rows[:, [state]].todense() if self.is_sparse else rows[:, state])
            leaves = (np.abs(back - 1) > _check.ROW_SUM_TOLERANCE).any()
            if leaves or self.rewards[state].any():
                raise ValueError(
                    f"terminal: state {state} moves on or is rewarded; make its rows self-loops with reward 0 "
                    "(ra3sim.mdp.absorb does so)"
                )

    def _read_start(self) -> np.ndarray:
        if self.start is None:
            if self.terminal.all():
                raise ValueError("start: every state is terminal; give a start distribution")
            return ~self.terminal / (~self.terminal).sum()
        if np.ndim(self.start) == 0:
            if not isinstance(self.start, (int, np.integer)):
                raise ValueError(
                    f"start: give a state from 0 to {self.num_states - 1} or a distribution ({self.num_states},), "
                    f"got {self.start!r}"
                )
            state = int(self.start)
            if not 0 <= state < self.num_states:
                raise ValueError(f"start: there is no state {state}; states are 0 to {self.num_states - 1}")
            return np.eye(1, self.num_states, state)[0]
        return _check.distribution("start", self.start, (self.num_states,), "s")

    def __repr__(self) -> str:
        kind = f"sparse, {self.transitions.nnz} entries" if self.is_sparse else "dense"
        return f"<{self.name}: S={self.num_states}, A={self.num_actions}, discount={self.discount:g}, {kind}>"


_ARGUMENTS = (
    "transitions", "rewards", "discount", "start", "available", "terminal", "state_names", "action_names", "name",
)  # fmt: skip


def absorb(transitions: Any, rewards: Any, terminal: Any) -> tuple[Any, np.ndarray]:
    """Copies of transitions and rewards ``(S, A)`` in which terminal states loop on themselves without reward."""
    transitions, states, actions = _read_transitions(transitions)
    rewards = _read_rewards(rewards, transitions, states, actions).copy()
    ends = np.flatnonzero(_state_mask("terminal", terminal, states))
    rewards[ends] = 0
    if sp.issparse(transitions):
        rows = (ends[:, None] * actions + np.arange(actions)).ravel()
        keep = np.ones(states * actions)
        keep[rows] = 0
        loops = sp.csr_array((np.ones(rows.size), (rows, rows // actions)), shape=transitions.shape)
        transitions = sp.csr_array(sp.diags_array(keep) @ transitions + loops)
        transitions.eliminate_zeros()
    else:
        transitions = transitions.copy()
        transitions[ends] = 0
        transitions[ends, :, ends] = 1
    return transitions, rewards


def _successors(rows: sp.csr_array, selected: np.ndarray) -> np.ndarray:
    picked = rows[selected]
    return picked.indices[picked.data > 0]


def _read_transitions(value: Any) -> tuple[Any, int, int]:
    if isinstance(value, (list, tuple)) and len(value) and all(sp.issparse(v) for v in value):
        states, actions = value[0].shape[0], len(value)
        stacked = sp.vstack(
            [_check.canonical_csr(f"transitions[a={a}]", v, (states, states)) for a, v in enumerate(value)]
        )
        order = np.arange(states * actions).reshape(actions, states).T.ravel()
        value = sp.csr_array(stacked.tocsr()[order])
    if sp.issparse(value):
        rows, states = value.shape
        if states == 0 or rows % states:
            raise ValueError(f"transitions: sparse shape {value.shape} is not (S * A, S)")
        return _check.canonical_csr("transitions", value, value.shape), states, rows // states
    array = _check.any_array("transitions", value)
    if array.ndim != 3 or array.shape[0] != array.shape[2] or 0 in array.shape:
        raise ValueError(f"transitions: shape {array.shape} does not fit (S, A, S) with S, A >= 1")
    array = _check.real_array("transitions", value, array.shape, "sat")
    return array, array.shape[0], array.shape[1]


def _check_rows(transitions: Any, used: np.ndarray) -> float:
    """Rows of used pairs are distributions, no row has a negative entry; returns how far they miss 1."""
    if sp.issparse(transitions):
        sums = np.asarray(transitions.sum(1)).reshape(used.shape)
        negative = transitions.data < 0
        if negative.any():
            row = np.searchsorted(transitions.indptr, int(np.argmax(negative)), side="right") - 1
            where = _check.place(divmod(row, used.shape[1]), "sa")
            raise ValueError(f"transitions[{where}] has a negative entry; probabilities are >= 0")
    else:
        sums = transitions.sum(-1)
        if transitions.min() < 0:
            raise ValueError(f"transitions[{_check.first(transitions < 0, 'sat')}] is negative; probabilities are >= 0")
    off = used & ~(np.abs(sums - 1) <= _check.ROW_SUM_TOLERANCE)
    if off.any():
        raise ValueError(
            f"transitions[{_check.first(off, 'sa')}] sums to {sums[off][0]:.9g}, must sum to 1; "
            "divide the row by its sum, or mark the pair in `available` as missing"
        )
    return float(np.abs(sums - 1).max(initial=0, where=used))


def _read_rewards(value: Any, transitions: Any, states: int, actions: int) -> np.ndarray:
    if sp.issparse(value):
        value = _check.canonical_csr("rewards", value, (states * actions, states))
        rows = transitions if sp.issparse(transitions) else transitions.reshape(-1, states)
        return np.asarray(value.multiply(rows).sum(1)).reshape(states, actions)
    if np.ndim(value) == 3:
        value = _check.real_array("rewards", value, (states, actions, states), "sat")
        if sp.issparse(transitions):
            row = np.repeat(np.arange(states * actions), np.diff(transitions.indptr))
            weighted = transitions.data * value.reshape(-1, states)[row, transitions.indices]
            return np.bincount(row, weighted, minlength=states * actions).reshape(states, actions)
        return np.einsum("sat,sat->sa", transitions, value)
    return _check.real_array("rewards", value, (states, actions), "sa")


def _state_mask(name: str, value: Any, states: int) -> np.ndarray:
    """A boolean ``(S,)`` from None, a mask, or a list of states."""
    if value is None:
        return np.zeros(states, bool)
    array = _check.any_array(name, value)
    if array.dtype == bool:
        return _check.bool_array(name, array, (states,), "s")
    if array.size and (array.dtype.kind not in "iu" or array.min() < 0 or array.max() >= states):
        raise ValueError(f"{name}: give a boolean mask ({states},) or states from 0 to {states - 1}, got {value!r}")
    mask = np.zeros(states, bool)
    mask[array.astype(np.int64)] = True
    return mask
