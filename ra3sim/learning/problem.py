"""A batch of tasks and the options that an agent may choose from, in the arrays that the compiled loops read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim.learning import _kernels
from ra3sim.learning._reach import out_of_reach
from ra3sim.mdp import MDP
from ra3sim.options import OptionSet


class OptionProblem:
    """T tasks over the same states, actions and γ, and one set of options for all of them.

    Tasks with equal transitions and ends (that differ in start or reward alone) share one table of them.

    Args:
        mdps: one task or several.
        options: None: the primitive actions.
        hopeless: accept tasks in which the options can't get from the start to any end or reward that primitive actions
            reach (what was pruned too hard can still be measured).

    Attributes:
        mdps: a tuple of T tasks.
        options: the set.
        is_primitive: option z is action z in every state: learners may leave out what runs options.

    Raises:
        ValueError: no task, tasks that differ in size or γ, options over other states or actions, a start in a terminal
            state, an option that begins with an action where that is not available, options that can't reach what the
            task is about. The message names the task.

    >>> from ra3sim.envs import chain
    >>> problem = OptionProblem([chain(5, start=s) for s in (0, 3)])
    >>> len(problem.mdps), problem.is_primitive
    (2, True)
    """

    def __init__(self, mdps: MDP | Sequence[MDP], options: OptionSet | None = None, *, hopeless: bool = False) -> None:
        self.mdps = (mdps,) if isinstance(mdps, MDP) else tuple(mdps)
        if not self.mdps:
            raise ValueError("mdps: none given; there is nothing to learn")
        self.options = OptionSet.primitives(self.mdps[0]) if options is None else options
        self._check()
        self.is_primitive = _is_primitive(self.options)
        if not hopeless and not self.is_primitive:
            self._check_reach()
        tables, self._table_of = _distinct(self.mdps)
        starts = sp.csr_array(np.array([mdp.start for mdp in self.mdps]))
        self._draws = _alias([*tables, (starts, starts.indices)])
        self._rewards = np.concatenate([mdp.rewards.ravel() for mdp in self.mdps])
        self._pairs = self.num_states * self.mdps[0].num_actions
        self._first_start = len(tables) * self._pairs
        self._options = _read_options(self.options)
        self.terminal = np.array([mdp.terminal for mdp in self.mdps])

    def __len__(self) -> int:
        return len(self.mdps)

    @property
    def num_states(self) -> int:
        return self.mdps[0].num_states

    @property
    def discount(self) -> float:
        return self.mdps[0].discount

    def lanes(self, tasks: np.ndarray) -> _kernels.Lanes:
        """Where the compiled loops find the tables of each lane's task, ``(L,)``."""
        rows = self._table_of[tasks] * self._pairs
        return _kernels.Lanes(*(a.astype(np.uint64) for a in (rows, tasks * self._pairs, self._first_start + tasks)))

    def _check_reach(self) -> None:
        for task, mdp in enumerate(self.mdps):
            if (lost := out_of_reach(mdp, self.options)) is not None:
                raise ValueError(
                    f"options: from the start of mdps[{task}] they can't reach {lost}, which primitive actions can; "
                    "add options, or pass hopeless=True"
                )

    def _check(self) -> None:
        first, options = self.mdps[0], self.options
        if options.policy.shape[1:] != (first.num_states, first.num_actions):
            raise ValueError(
                f"options: over (S, A) = {options.policy.shape[1:]}, "
                f"the tasks have ({first.num_states}, {first.num_actions})"
            )
        begins = options.policy[options.start_node] > 0
        for task, mdp in enumerate(self.mdps):
            size, want = (mdp.num_states, mdp.num_actions, mdp.discount), (*begins.shape[1:], first.discount)
            if size != want:
                raise ValueError(f"mdps[{task}]: (S, A, γ) = {size}, those of mdps[0] are {want}; give tasks alike")
            if (mdp.start[mdp.terminal] > 0).any():
                raise ValueError(f"mdps[{task}]: may start in a terminal state, where nothing can be done")
            here = (options.initiation & ~mdp.terminal)[..., None]
            wrong = begins & here & ~mdp.available
            if wrong.any():
                z, s, a = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
                raise ValueError(
                    f"options: {options.names[z]!r} begins in state {mdp.state_names[s]} with action "
                    f"{mdp.action_names[a]}, which mdps[{task}] does not offer there; let it not be initiated there"
                )


def _is_primitive(options: OptionSet) -> bool:
    """Whether option z is action z everywhere, and every state has one."""
    actions = options.num_actions
    if not np.array_equal(options.start_node, np.arange(actions)) or len(options.policy) != actions:
        return False
    if not (options.termination == 1).all():
        return False
    same = options.policy == np.eye(actions)[:, None]
    return bool(same.all() and options.initiation.any(0).all())


def _distinct(mdps: Sequence[MDP]) -> tuple[list[tuple[sp.csr_array, np.ndarray]], np.ndarray]:
    """Different transition tables as rows and targets (terminal: top bit), and whose is whose ``(T,)``."""
    tables: list[tuple[sp.csr_array, np.ndarray]] = []
    known: dict[Any, int] = {}
    number = np.empty(len(mdps), np.int64)
    for task, mdp in enumerate(mdps):
        key: Any = (id(mdp.transitions), mdp.terminal.tobytes(), mdp.available.tobytes())
        if key not in known:
            rows = sp.csr_array(mdp.rows(), copy=True)
            # Pairs that are not available have no outcome: taking one is an error.
            used = np.repeat((mdp.available | mdp.terminal[:, None]).ravel(), np.diff(rows.indptr))
            rows.data[~used] = 0
            rows.eliminate_zeros()
            content = (rows.indptr.tobytes(), rows.indices.tobytes(), rows.data.tobytes(), key[1])
            if content not in known:
                known[content] = len(tables)
                targets = rows.indices.astype(np.uint32)
                tables.append((rows, targets | mdp.terminal[rows.indices].astype(np.uint32) << np.uint32(31)))
            known[key] = known[content]
        number[task] = known[key]
    return tables, number


def _alias(tables: Sequence[tuple[sp.csr_array, np.ndarray]]) -> _kernels.Draws:
    """Alias tables of the rows of all matrices, one after the other."""
    counts = np.concatenate([np.diff(rows.indptr) for rows, _ in tables])
    first = np.concatenate([[0], np.cumsum(counts)])
    targets = np.concatenate([np.asarray(targets, np.uint32) for _, targets in tables])
    threshold, target = np.zeros(len(targets), np.uint32), np.zeros((len(targets), 2), np.uint32)
    _kernels.fill_alias(first, targets, np.concatenate([rows.data for rows, _ in tables]), threshold, target)
    return _kernels.Draws(first.astype(np.uint32 if first[-1] < 2**32 else np.uint64), threshold, target)


def _read_options(options: OptionSet) -> _kernels.Options:
    sure = options.policy == 1
    rows = sp.csr_array(options.policy.reshape(-1, options.num_actions))
    choices = np.argsort(~options.initiation.T, axis=1, kind="stable")
    return _kernels.Options(
        np.where(sure.any(-1), sure.argmax(-1), -1),
        _alias([(rows, rows.indices)]),
        np.ascontiguousarray(options.termination),
        np.ascontiguousarray(options.next_node),
        np.ascontiguousarray(options.start_node),
        np.ascontiguousarray(choices),
        options.initiation.sum(0),
    )


def check_states(problem: OptionProblem, error: tuple[int, int, int], tasks: np.ndarray) -> None:
    """Say why a compiled loop could not go on.

    Raises:
        ValueError: if it could not.
    """
    kind, lane, state = error
    if kind == _kernels.DONE:
        return
    task = int(tasks[lane])
    name = problem.mdps[task].state_names[state]
    if kind == _kernels.NO_OPTION:
        raise ValueError(
            f"options: none is available in state {name} of mdps[{task}], where an episode came to; add one, or let "
            "options end elsewhere"
        )
    raise ValueError(
        f"options: one takes an action in state {name} that mdps[{task}] does not offer there; let it end before"
    )
