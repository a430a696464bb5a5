"""Exact planning: policy iteration whose evaluations are as exact as they pay, with a certified result."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from ra3sim.mdp import MDP
from ra3sim.planning import _kernels
from ra3sim.planning._operators import backup, kernel_arrays, row_rewards
from ra3sim.planning.batch import SMDPBatch, check_sizes
from ra3sim.planning.evaluation import exact_values
from ra3sim.planning.plan import (
    Plan,
    as_smdp,
    check_tolerance,
    contracting_mass,
    report,
    rounding_bound,
    rounding_unit,
    start_values,
)
from ra3sim.planning.value_iteration import value_iteration
from ra3sim.smdp import SMDP

METHODS = ("auto", "policy iteration", "modified policy iteration", "value iteration")
"""What `solve` can be asked for."""
# LAPACK counts as free help up to this size; beyond, a factorisation costs more than any sweeps it could save.
_LAPACK_STATES = 4000
# A dense model of this size whose rows are this empty is solved as a sparse one.
_FEW_STATES, _FEW = 200, 0.05
_KRYLOV_SIZE, _KRYLOV_REDUCTION, _KRYLOV_PATIENCE = 12, 0.2, 50


def solve(
    model: MDP | SMDP, *, tolerance: float = 1e-6, method: str = "auto", V_0: Any = None, max_iterations: int = 100_000
) -> Plan:
    """The optimal values and policy, with ``‖values - V*‖ <= tolerance`` certified.

    Methods:
        * ``auto`` takes a dense model of 200 states or more as sparse if less than 5 % of its entries are not zero.
        * ``auto``, dense: policy iteration that evaluates by sweeps with shift bounds, and by LAPACK as soon as the
          observed contraction says that this is cheaper.
        * ``auto``, sparse: inexact policy iteration; evaluation by GMRES on the double Gauss-Seidel sweep, and plain
          backups, which always converge, once that makes no progress.
        * ``policy iteration`` (Howard 1960): exact evaluation by LAPACK or SuperLU.
        * ``modified policy iteration`` (Puterman & Shin 1978): 20 sweeps an evaluation.
        * ``value iteration``: see `value_iteration`.

    Returns:
        A `Plan`; its ``method`` says what ran. A missed tolerance gives a `NotConvergedWarning` and
        ``converged=False``.

    Raises:
        ValueError: an unknown method, a tolerance that is not positive, V_0 of another shape or not finite.

    >>> plan = solve(SMDP(R=[[1.0], [0.9]], P=[[[0.5]], [[0.6]]]))
    >>> plan.values.round(6), plan.policy, plan.converged
    (array([2.25]), array([1]), True)
    """
    if method not in METHODS:
        raise ValueError(f"method: unknown {method!r}; known are {', '.join(METHODS)}")
    model = as_smdp(model)
    if method == "value iteration":
        return value_iteration(model, V_0, tolerance=tolerance, max_iterations=max_iterations)
    tolerance = check_tolerance(tolerance)
    _check_count("max_iterations", max_iterations)
    V = start_values(model, V_0)
    if method == "auto":
        model = _without_zeros(model)
    if model.is_sparse:
        return report(model, tolerance, **_solve_sparse(model, tolerance, method, V, max_iterations))
    return report(model, tolerance, **_solve_dense(model, tolerance, method, V, max_iterations, V_0 is None))


def solve_batch(
    models: SMDPBatch | Sequence[MDP | SMDP],
    *,
    tolerance: float = 1e-6,
    method: str = "auto",
    max_iterations: int = 100_000,
    threads: int = 1,
) -> Plan:
    """`solve` for B tasks of equal size; arrays of the result have a leading axis B.

    Dense tasks run in one compiled loop, each while it is in cache; ``threads`` share them out (the results do not
    depend on it). Sparse tasks are solved one after the other, and so are dense ones of a list that ``auto`` takes as
    sparse. (Neither threads nor one block-diagonal model of all tasks is quicker for those: 100 goals in MiniGrid's
    FourRooms, S = 1040, take 0.10 s one by one, 0.13 s in two threads, 0.12 s as blocks and 0.34 s to make the blocks.)

    Raises:
        ValueError: as `solve`; no task at all, or tasks of different sizes.
    """
    _check_count("max_iterations", max_iterations)
    _check_count("threads", threads)
    if method not in METHODS[:3]:
        raise ValueError(f"method: unknown for a batch {method!r}; known are {', '.join(METHODS[:3])}")
    if isinstance(models, SMDPBatch):
        batch = models
    else:
        each = [as_smdp(m) for m in models]
        check_sizes(each)
        if method == "auto":
            each = [_without_zeros(m) for m in each]
        if any(m.is_sparse for m in each):
            options: dict[str, Any] = {"tolerance": tolerance, "method": method, "max_iterations": max_iterations}
            return _stack([solve(m, **options) for m in each])
        batch = SMDPBatch.stack(each)
    tolerance = check_tolerance(tolerance)
    sweeps, lu = _dense_mode(method, batch.num_states)
    tasks, states = len(batch), batch.num_states
    V = np.zeros((tasks, states))
    policy = np.full((tasks, states), -2)
    counts, numbers = np.empty((tasks, 2), np.int64), np.empty((tasks, 3))
    rewards = row_rewards(batch)
    unit = rounding_unit(states)

    def run(part: slice) -> None:
        _kernels.solve_batch_dense(
            batch.matrices[part], rewards[part], batch.scales[part], *batch.strides,
            batch.masses[part], unit, tolerance, sweeps, lu, max_iterations, V[part], policy[part], counts[part],
            numbers[part],
        )  # fmt: skip

    edges = np.linspace(0, tasks, threads + 1).astype(int)
    parts = [slice(a, b) for a, b in pairwise(edges)]
    if threads == 1:
        run(parts[0])  # starting a thread takes as long as some small tasks
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, parts))
    return report(
        batch, tolerance, values=V, policy=policy, iterations=counts[:, 0], residual=numbers[:, 0],
        value_bound=numbers[:, 1], policy_loss_bound=numbers[:, 2],
        method=_dense_name(method, int(counts[:, 1].sum())) + ", batched",
    )  # fmt: skip


def _without_zeros(model: SMDP) -> SMDP:
    """A large dense model of few entries as a sparse one; any other as it is."""
    large = not model.is_sparse and model.num_states >= _FEW_STATES
    return model.to_sparse() if large and _share_of_entries(model) < _FEW else model


def _share_of_entries(model: SMDP) -> float:
    """Share of the entries of a dense model that are not zero, from 64 rows."""
    rows = np.linspace(0, len(model.row_rewards) - 1, 64).astype(int)
    return np.count_nonzero(model.matrix[rows]) / (64 * model.num_states)


def _check_count(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"{name}: at least one, got {value}")


def _dense_mode(method: str, states: int) -> tuple[int, int]:
    if method == "policy iteration":
        return 0, _kernels.ALWAYS_LU
    if method == "modified policy iteration":
        return 20, _kernels.NEVER_LU
    return 1000, _kernels.CHOOSE_LU if states <= _LAPACK_STATES else _kernels.NEVER_LU


def _dense_name(method: str, solved: int) -> str:
    if method == "auto":
        method = (
            "policy iteration (" + (f"sweeps, {solved} LAPACK evaluations" if solved else "evaluated by sweeps") + ")"
        )
    return f"dense {method}"


def _solve_dense(
    model: SMDP, tolerance: float, method: str, V: np.ndarray, limit: int, free_start: bool
) -> dict[str, Any]:
    sweeps, lu = _dense_mode(method, model.num_states)
    policy = np.full(model.num_states, -2)
    backups, residual, bound, loss, solved = _kernels.solve_dense(
        *kernel_arrays(model), contracting_mass(model), rounding_unit(model.num_states), tolerance, sweeps, lu, limit,
        free_start, V, policy,
    )  # fmt: skip
    return {
        "values": V, "policy": policy, "iterations": backups, "residual": residual, "value_bound": bound,
        "policy_loss_bound": loss, "method": _dense_name(method, solved),
    }  # fmt: skip


def _solve_sparse(model: SMDP, tolerance: float, method: str, V: np.ndarray, limit: int) -> dict[str, Any]:
    arrays = kernel_arrays(model)
    masses = contracting_mass(model)
    full_backup, roundings = backup(model, arrays), rounding_bound(model)
    TV = np.empty_like(V)
    policy = np.full(model.num_states, -2)
    improve: Any = {
        "auto": _Krylov,
        "policy iteration": _Exact,
        "modified policy iteration": _Sweeps,
    }[method](model, arrays)
    for n in range(1, limit + 1):
        low, high, changes = full_backup(V, TV, policy)
        if low > high:
            low = high = 0.0
        shift_low, shift_high = _kernels.certificate(low, high, *masses)
        rounding = roundings(V) / (1 - masses[1])
        width = shift_high - shift_low
        # At the floor of rounding nothing improves any more; an unchanged exact policy is the last.
        floor = width <= 2 * rounding or (improve.exact and n > 1 and changes == 0)
        if width / 2 + rounding <= tolerance or floor or n == limit:
            break
        V = improve(TV, policy, width)
    values = TV + (shift_low + shift_high) / 2
    values[policy < 0] = 0
    return {
        "values": values, "policy": policy, "iterations": n, "residual": max(-low, high),
        "value_bound": width / 2 + rounding, "policy_loss_bound": width + 2 * rounding, "method": improve.name,
    }  # fmt: skip


class _Exact:
    """Howard's evaluation, by SuperLU."""

    name, exact = "sparse policy iteration (SuperLU)", True

    def __init__(self, model: SMDP, arrays: tuple) -> None:
        self.model = model

    def __call__(self, TV: np.ndarray, policy: np.ndarray, width: float) -> np.ndarray:
        return exact_values(self.model, policy)


class _Correction:
    """V + d, where d nearly solves d = (T_π V - V) + P^π d.

    The correction is found in single precision, which halves the traffic of memory; its rounding is of no account, for
    the next residual is taken in double precision (iterative refinement). The arrays are used again for every policy.
    """

    exact = False

    def __init__(self, model: SMDP, arrays: tuple) -> None:
        longest = int(np.diff(model.matrix.indptr).max(initial=0))
        entries = min(model.matrix.nnz, longest * model.num_states)
        self.arrays = arrays
        self.system = (
            np.empty(entries, np.float32),
            np.empty(entries, arrays[1].dtype),
            np.empty(model.num_states + 1, arrays[2].dtype),
            *np.empty((3, model.num_states), np.float32),
        )


class _Sweeps(_Correction):
    """Puterman and Shin's evaluation: a fixed number of (Gauss-Seidel) sweeps of the policy."""

    name = "sparse modified policy iteration (20 Gauss-Seidel sweeps)"

    def __call__(self, TV: np.ndarray, policy: np.ndarray, width: float) -> np.ndarray:
        _kernels.gather_residual(*self.arrays, TV, policy, *self.system)
        correction = np.zeros(len(TV), np.float32)
        for _ in range(10):
            _kernels.sweep_forward(*self.system, correction)
            _kernels.sweep_backward(*self.system, correction)
        return TV + correction


class _Krylov(_Correction):
    """A Gauss-Seidel backup, then a cycle of GMRES for its policy; backups alone once that does not help."""

    name = "sparse inexact policy iteration (Gauss-Seidel, GMRES)"

    def __init__(self, model: SMDP, arrays: tuple) -> None:
        super().__init__(model, arrays)
        self.basis = np.empty((_KRYLOV_SIZE + 1, model.num_states), np.float32)
        self.backward, self.without_progress, self.best = False, 0, np.inf

    def __call__(self, TV: np.ndarray, policy: np.ndarray, width: float) -> np.ndarray:
        V = TV.copy()
        self.backward = not self.backward
        _kernels.backup_in_place(*self.arrays, V, policy, self.backward)
        # A cycle cut short may leave more than it found; backups always contract, so they finish alone if need be.
        if self.without_progress < _KRYLOV_PATIENCE:
            self.without_progress = 0 if width < 0.5 * self.best else self.without_progress + 1
            self.best = min(self.best, width)
            _kernels.gather_residual(*self.arrays, V, policy, *self.system)
            _kernels.correct_by_krylov(*self.system, V, self.basis, _KRYLOV_REDUCTION)
        return V


def _stack(plans: list[Plan]) -> Plan:
    def column(name: str) -> np.ndarray:
        return np.array([getattr(plan, name) for plan in plans])

    names = ("values", "policy", "iterations", "residual", "converged", "value_bound", "policy_loss_bound")
    return Plan(**{name: column(name) for name in names}, method=plans[0].method + ", one by one")
