"""Decision models in continuous duration: the multi-time model of options, and one container for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim import _check
from ra3sim._linear import factor
from ra3sim.mdp import MDP, _state_mask
from ra3sim.options import OptionSet, drop_rows, option_numbers, reached, reaching


class SMDP:
    """A semi-Markov decision process with Z options over S states (Sutton, Precup & Singh 1999, section 3).

    Args:
        R: expected discounted reward of a whole option, ``(Z, S)``.
        P: discounted outcome ``P(s' | s, z) = E[γ^τ 1{s_τ = s'}]``: dense ``(Z, S, S)``, sparse ``(Z * S, S)`` with row
            ``z * S + s``, or a sequence of Z sparse ``(S, S)``. Rows sum to E[γ^τ] < 1 (γ is already inside).
        available: boolean ``(Z, S)``; None: every option everywhere (in terminal states nothing is decided).
        terminal: boolean ``(S,)`` or a list of states; their value is 0.
        names: Z names.

    Raises:
        ValueError: naming the argument, the place and the remedy.

    >>> one = SMDP(R=[[1.0]], P=[[[0.5]]])
    >>> one.gamma_bar, one.reward_bound
    (0.5, 1.0)
    """

    # One layout serves all: a matrix whose row `state * state_stride + option * option_stride` is the outcome of the
    # pair, times `scale`. So the SMDP of an MDP's primitives shares the MDP's memory (scale = γ, state-major rows).
    matrix: Any  # dense or CSR
    row_rewards: np.ndarray
    row_available: np.ndarray
    scale: float
    state_stride: int
    option_stride: int
    terminal: np.ndarray
    names: tuple[str, ...]

    def __init__(
        self, R: Any, P: Any, available: Any = None, *, terminal: Any = None, names: Sequence[str] | None = None
    ) -> None:
        R = _check.real_array("R", R, (None, None), "zs")
        options, states = R.shape
        if isinstance(P, (list, tuple)) and len(P) and all(sp.issparse(p) for p in P):
            P = sp.vstack([_check.canonical_csr(f"P[z={z}]", p, (states, states)) for z, p in enumerate(P)]).tocsr()
        if sp.issparse(P):
            matrix = _check.canonical_csr("P", P, (options * states, states))
        else:
            matrix = _check.real_array("P", P, (options, states, states), "zst").reshape(-1, states)
        if available is not None:
            available = _check.bool_array("available", available, (options, states), "zs")
        self._fill(matrix, R, available, terminal, 1.0, False, names)
        entries: Any = matrix.data if sp.issparse(matrix) else matrix
        if entries.size and entries.min() < 0:
            negative = (matrix.min(1).toarray() if sp.issparse(matrix) else matrix.min(1)) < 0
            where = _check.first(negative.reshape(options, states), "zs")
            raise ValueError(f"P[{where}] has a negative entry; discounted probabilities are >= 0")
        sums = np.asarray(matrix.sum(1)).ravel()
        mass = self._by_option(np.where(self.row_available, sums, 0.0))
        heavy = mass >= 1
        if heavy.any():
            raise ValueError(
                f"P[{_check.first(heavy, 'zs')}] sums to {mass[heavy][0]:.9g}; E[γ^τ] must be below 1: "
                "multiply the outcome by γ^τ"
            )
        self._mass_range = self._find_mass_range(sums, slack=0.0)

    @classmethod
    def from_rows(
        cls,
        matrix: Any,
        rewards: np.ndarray,
        available: np.ndarray,
        terminal: np.ndarray,
        scale: float,
        names: Any,
        row_error: float = _check.ROW_SUM_TOLERANCE,
    ) -> SMDP:
        """One-step options over state-major rows that sum to 1: shares the memory of a transition model.

        Args:
            matrix: ``(S * A, S)``, dense or CSR, already validated (as `MDP.rows` gives it).
            rewards, available: ``(S, A)``.
            scale: the discount γ.
            row_error: how far the rows miss 1 at most.
        """
        self = cls.__new__(cls)
        self._fill(matrix, rewards, available, terminal, float(scale), True, names)
        self._mass_range = self._find_mass_range(np.ones(matrix.shape[0]), slack=row_error)
        return self

    @classmethod
    def from_mdp(cls, mdp: MDP) -> SMDP:
        """The SMDP of the primitive actions (every duration is 1); no transition is copied."""
        return cls.from_rows(
            mdp.rows(), mdp.rewards, mdp.available, mdp.terminal, mdp.discount, mdp.action_names, mdp.row_error
        )

    @classmethod
    def from_options(cls, mdp: MDP, options: OptionSet) -> SMDP:
        """The exact multi-time model of options: one factorisation per option.

        ``R_z = (I - γ P^π (I-B))^-1 r^π`` and ``P_z = (I - γ P^π (I-B))^-1 γ P^π B`` with ``B = diag(β)``
        (Sutton, Precup & Singh 1999, theorem 1 and equations 8 to 10), solved on the states that the option can visit.

        Raises:
            ValueError: other states or actions than the MDP's, an option that may never end (with its name), one that
                uses an action where it is not available, a state left without any option.
        """
        reach = _closures(mdp, options)
        kernels: dict[int, tuple[np.ndarray, Any]] = {}
        for node in options.node_order()[::-1]:
            kernels[node] = _node_model(mdp, options, int(node), reach[node], kernels)
        stack = [kernels[n] for n in options.start_node]
        available = options.initiation & ~mdp.terminal
        R = np.where(available, [r for r, _ in stack], 0.0)
        if mdp.is_sparse:
            P = sp.vstack([drop_rows(p, ~a) for (_, p), a in zip(stack, available, strict=True)]).tocsr()
        else:
            P = np.array([p for _, p in stack])
            P[~available] = 0
        return cls(R, P, available, terminal=mdp.terminal, names=options.names)

    @property
    def num_options(self) -> int:
        return len(self.names)

    @property
    def num_states(self) -> int:
        return len(self.terminal)

    @property
    def is_sparse(self) -> bool:
        return sp.issparse(self.matrix)

    @property
    def R(self) -> np.ndarray:
        """Expected discounted reward of a whole option, ``(Z, S)``, read-only."""
        return self._by_option(self.row_rewards)

    @property
    def available(self) -> np.ndarray:
        """Boolean ``(Z, S)``, read-only."""
        return self._by_option(self.row_available)

    @property
    def P(self) -> np.ndarray | sp.csr_array:
        """Discounted outcomes in option order: dense ``(Z, S, S)`` or sparse ``(Z * S, S)``; rows of pairs that are not
        available are zero. A copy if this is the SMDP of an MDP's primitives."""
        shape = (self.num_options, self.num_states)
        order = np.arange(shape[0])[:, None] * self.option_stride + np.arange(shape[1]) * self.state_stride
        if self.is_sparse:
            used = sp.diags_array(np.where(self.available, self.scale, 0.0).ravel())
            result = sp.csr_array(used @ self.matrix[order.ravel()])
            result.eliminate_zeros()
            return result
        return self.matrix[order] * np.where(self.available, self.scale, 0.0)[..., None]

    def option_matrix(self, option: int) -> np.ndarray | sp.csr_array:
        """Discounted outcomes ``(S, S)`` of one option; rows where it is not available are zero."""
        first = option * self.option_stride
        rows = self.matrix[first : first + self.num_states * self.state_stride : self.state_stride]
        used = np.where(self.available[option], self.scale, 0.0)
        if self.is_sparse:
            return drop_rows(sp.csr_array(sp.diags_array(used) @ rows), used == 0)
        return rows * used[:, None]

    def under(self, policy: np.ndarray) -> tuple[np.ndarray | sp.csr_array, np.ndarray]:
        """Discounted outcomes ``(S, S)`` and reward ``(S,)`` of a deterministic policy ``(S,)`` (-1 if terminal)."""
        live = policy >= 0
        rows = np.arange(self.num_states) * self.state_stride + np.maximum(policy, 0) * self.option_stride
        reward = np.where(live, self.row_rewards[rows], 0.0)
        if self.is_sparse:
            return sp.csr_array(sp.diags_array(live * self.scale) @ self.matrix[rows]), reward
        return self.matrix[rows] * (live * self.scale)[:, None], reward

    @property
    def expected_discount(self) -> np.ndarray:
        """E[γ^τ | s, z], ``(Z, S)``; 0 where the option is not available."""
        mass = np.asarray(self.matrix.sum(1)).ravel() * self.scale
        return self._by_option(np.where(self.row_available, mass, 0.0))

    @property
    def gamma_bar(self) -> float:
        """γ̄ = max over available pairs of E[γ^τ 1{the episode goes on}]: the contraction rate of the Bellman operator.

        Arriving in a terminal state counts for nothing: its value is 0 for every V, as if γ were 0 there. So a macro
        that may be cut short by the end of the episode does not spoil γ̄; without terminal states it is max E[γ^τ].
        """
        return self._gamma_bar

    @property
    def mass_range(self) -> tuple[float, float]:
        """Bounds, rounding included, on E[γ^τ 1{the episode goes on}] over available pairs."""
        return self._mass_range

    @property
    def reward_bound(self) -> float:
        """R_max = max |R(s, z)| over available pairs; with it ``‖V*‖ <= R_max / (1 - γ̄)``, also for costs."""
        return float(np.abs(self.row_rewards).max(initial=0, where=self.row_available))

    def to_sparse(self) -> SMDP:
        """The same model with sparse outcomes."""
        if self.is_sparse:
            return self
        twin = SMDP.__new__(SMDP)
        twin.__dict__.update(self.__dict__)
        twin.matrix = _check.canonical_csr("P", sp.csr_array(self.matrix), self.matrix.shape)
        return twin

    def restrict(self, options: Sequence[int | str]) -> SMDP:
        """The pruned decision space: only these options, by number or name.

        Raises:
            ValueError: an unknown or repeated option, none at all, or a state that is left without any.
        """
        chosen = option_numbers(options, self.names)
        if self.is_sparse:
            P = sp.vstack([self.option_matrix(z) for z in chosen]).tocsr()
        else:
            P = np.array([self.option_matrix(z) for z in chosen])
        names = [self.names[z] for z in chosen]
        return SMDP(self.R[chosen], P, self.available[chosen], terminal=self.terminal, names=names)

    def _fill(
        self, matrix: Any, rewards: Any, available: Any, terminal: Any, scale: float, state_major: bool, names: Any
    ) -> None:
        states = matrix.shape[1]
        options = matrix.shape[0] // states
        self.terminal = _check.freeze(_state_mask("terminal", terminal, states))
        names = [f"option {z}" for z in range(options)] if names is None else names
        self.names = _check.check_names("names", names, options)
        self.state_stride, self.option_stride = (options, 1) if state_major else (1, states)
        self.matrix = matrix if sp.issparse(matrix) else _check.freeze(matrix)
        self.scale = scale
        ends = self.terminal[:, None] if state_major else self.terminal[None, :]
        shape = (states, options) if state_major else (options, states)
        available = np.ones(shape, bool) if available is None else available
        self.row_available = _check.freeze((available & ~ends).ravel())
        self.row_rewards = _check.freeze(np.ascontiguousarray(rewards).ravel())
        lacking = ~self.available.any(0) & ~self.terminal
        if lacking.any():
            raise ValueError(
                f"available: no option in {_check.first(lacking, 's')} ({int(lacking.sum())} such states); "
                "keep at least one in every state that is not terminal"
            )

    def _find_mass_range(self, going_on: np.ndarray, slack: float) -> tuple[float, float]:
        """The range of what goes on, from the sums of the rows; ``slack``: how far these may be off."""
        if self.terminal.any():
            going_on = going_on - self.matrix @ self.terminal.astype(np.float64)
        mass = self.scale * going_on[self.row_available]
        if not mass.size:
            self._gamma_bar = 0.0
            return 0.0, 0.0
        self._gamma_bar = float(mass.max())
        # A sum of n terms below 1 is off by n u at most.
        slack = self.scale * (slack + 2 * self.num_states * 2.0**-53)
        return max(0.0, float(mass.min()) - slack), self._gamma_bar + slack

    def _by_option(self, rows: np.ndarray) -> np.ndarray:
        if self.option_stride == 1:
            return _check.freeze(rows.reshape(self.num_states, -1).T)
        return _check.freeze(rows.reshape(-1, self.num_states))

    def __repr__(self) -> str:
        kind = f"sparse, {self.matrix.nnz} entries" if self.is_sparse else "dense"
        return f"<SMDP: Z={self.num_options}, S={self.num_states}, gamma_bar={self.gamma_bar:.6g}, {kind}>"


def expected_durations(mdp: MDP, options: OptionSet) -> np.ndarray:
    """E[τ | s, z], the expected number of primitive steps of every option, ``(Z, S)``; NaN where it is not available.

    Raises:
        ValueError: as `SMDP.from_options`.
    """
    reach = _closures(mdp, options)
    steps: dict[int, np.ndarray] = {}
    for node in options.node_order()[::-1]:
        at = np.flatnonzero(reach[node])
        going_on = _going_on(mdp, options, int(node))
        duration = np.ones(mdp.num_states)
        if options.next_node[node] == node:
            duration[at] = factor(_block(going_on, at, at))(np.ones(at.size))
        else:
            duration += going_on @ steps[options.next_node[node]]
        steps[node] = duration
    return np.where(options.initiation & ~mdp.terminal, [steps[n] for n in options.start_node], np.nan)


def _going_on(mdp: MDP, options: OptionSet, node: int) -> Any:
    """``P^π (I - B)``, undiscounted: where the option is after a step if it has not ended."""
    stays = np.where(mdp.terminal, 0.0, 1 - options.termination[node])
    return _scale_columns(mdp.under(options.policy[node])[0], stays)


def _closures(mdp: MDP, options: OptionSet) -> np.ndarray:
    """States ``(N, S)`` in which a node may have to act; checks that every option can be run and ends for sure."""
    if (options.num_states, options.num_actions) != (mdp.num_states, mdp.num_actions):
        raise ValueError(
            f"options: made for (S, A) = {(options.num_states, options.num_actions)}, "
            f"the MDP has {(mdp.num_states, mdp.num_actions)}"
        )
    owner = np.full(len(options.next_node), -1)
    reach = np.zeros((len(options.next_node), mdp.num_states), bool)
    for z, node in enumerate(options.start_node):
        reach[node] |= options.initiation[z] & ~mdp.terminal
        owner[node] = z if owner[node] < 0 else owner[node]
    for node in options.node_order():
        name = options.names[owner[node]]
        after = options.next_node[node]
        going_on = sp.csr_array(_going_on(mdp, options, int(node)))
        going_on.eliminate_zeros()
        if after == node:
            reach[node] = reached(going_on, reach[node])
            leaks = np.asarray(going_on.sum(1)).ravel() < 1 - 1e-12
            never = reach[node] & ~reaching(going_on, leaks)
            if never.any():
                raise ValueError(
                    f"options: {name!r} may never end: from {_check.first(never, 's')} it reaches no state where it "
                    "terminates; raise its termination there or narrow its initiation"
                )
        else:
            reach[after] |= going_on.T @ reach[node].astype(float) > 0
            owner[after] = owner[node] if owner[after] < 0 else owner[after]
        missing = (options.policy[node] > 0) & ~mdp.available & reach[node][:, None]
        if missing.any():
            raise ValueError(
                f"options: {name!r} uses an action that is not available: {_check.first(missing, 'sa')}; "
                "give that action probability 0 or narrow the initiation"
            )
    return reach


def _node_model(
    mdp: MDP, options: OptionSet, node: int, reach: np.ndarray, done: dict[int, tuple[np.ndarray, Any]]
) -> tuple[np.ndarray, Any]:
    """Reward ``(S,)`` and discounted outcome ``(S, S)`` from acting in a node until the option ends."""
    step, reward = mdp.under(options.policy[node])
    ends = np.where(mdp.terminal, 1.0, options.termination[node])
    ending = _scale_columns(step, mdp.discount * ends)
    after = int(options.next_node[node])
    if (ends == 1).all():
        return reward, ending
    going_on = _scale_columns(step, mdp.discount * (1 - ends))
    if after != node:
        later_reward, later = done[after]
        return reward + going_on @ later_reward, ending + going_on @ later
    at = np.flatnonzero(reach)
    # Only states in which the option can really end are columns of its outcome.
    columns = np.flatnonzero(np.asarray((ending[at] != 0).sum(0)).ravel())
    right = _block(ending, at, columns)
    solution = _solve(_block(going_on, at, at), reward[at], right)
    full_reward = np.zeros(mdp.num_states)
    full_reward[at] = solution[0]
    if not mdp.is_sparse:
        outcome = np.zeros((mdp.num_states, mdp.num_states))
        outcome[np.ix_(at, columns)] = solution[1]
        return full_reward, outcome
    inner = sp.coo_array(solution[1])
    shape = (mdp.num_states, mdp.num_states)
    return full_reward, sp.csr_array((inner.data, (at[inner.row], columns[inner.col])), shape=shape)


def _block(matrix: Any, rows: np.ndarray, columns: np.ndarray) -> Any:
    return matrix[rows][:, columns] if sp.issparse(matrix) else matrix[np.ix_(rows, columns)]


def _scale_columns(matrix: Any, factors: np.ndarray) -> Any:
    return sp.csr_array(matrix @ sp.diags_array(factors)) if sp.issparse(matrix) else matrix * factors


def _solve(going_on: Any, reward: np.ndarray, right: Any) -> tuple[np.ndarray, Any]:
    """``(I - going_on)^-1`` times the reward and times the outcome columns; one factorisation."""
    solve = factor(going_on)
    if not sp.issparse(going_on):
        # Probabilities: below 0 is the rounding of LAPACK, which exchanges rows.
        return solve(reward), solve(right).clip(0)
    # A few hundred dense columns at a time: memory stays in proportion to the sparse result.
    right = sp.csc_array(right)
    blocks = [
        sp.csr_array(solve(right[:, first : first + _COLUMNS].toarray()))
        for first in range(0, right.shape[1], _COLUMNS)
    ]
    return solve(reward), sp.hstack(blocks) if blocks else sp.csr_array(right.shape)


_COLUMNS = 256
