"""Plain value iteration: V_N = T^N V_0 with nothing added, for the theorems speak of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from ra3sim.mdp import MDP
from ra3sim.planning import _kernels
from ra3sim.planning._operators import backup, kernel_arrays, plain_backup
from ra3sim.planning.plan import Plan, as_smdp, check_tolerance, contracting_mass, report, rounding_bound, start_values
from ra3sim.smdp import SMDP


def value_iteration(
    model: MDP | SMDP,
    V_0: Any = None,
    *,
    tolerance: float = 1e-6,
    iterations: int | None = None,
    max_iterations: int = 100_000,
    trace: bool = False,
) -> Plan:
    """Jacobi value iteration from any V_0 until ``‖V_N - V*‖ <= tolerance`` is certain, or for N iterations exactly.

    The guarantee comes from the range of ``V_N - V_{N-1}`` and the extreme row masses (MacQueen 1966; Porteus 1971, for
    unequal durations); with equal masses it is never weaker than ``γ̄ ‖V_N - V_{N-1}‖ / (1 - γ̄)``.

    Args:
        model: an SMDP, or an MDP (its primitives).
        V_0: ``(S,)``; None: zeros. Entries of terminal states count as 0.
        iterations: make exactly so many backups, whatever the tolerance.
        trace: keep V_0 to V_N, ``(N + 1, S)``.

    Raises:
        ValueError: V_0 of another shape or not finite, a tolerance or a count that is not positive.

    >>> plan = value_iteration(SMDP(R=[[1.0]], P=[[[0.5]]]), iterations=3)
    >>> plan.values, plan.iterations
    (array([1.75]), 3)
    """
    model = as_smdp(model)
    tolerance = check_tolerance(tolerance)
    limit = max_iterations if iterations is None else iterations
    if limit < 1:
        raise ValueError(f"iterations: at least one, got {limit}")
    masses = contracting_mass(model)
    arrays = kernel_arrays(model)
    sweep, roundings = plain_backup(model, arrays), rounding_bound(model)
    V = start_values(model, V_0)
    TV = np.empty_like(V)
    history = [V.copy()] if trace else None
    made = 0
    while made < limit:
        made += 1
        low, high = _range(*sweep(V, TV))
        V, TV = TV, V
        if history is not None:
            history.append(V.copy())
        shift_low, shift_high = _kernels.certificate(low, high, *masses)
        rounding = roundings(TV) / (1 - masses[1])
        bound = max(abs(shift_low), abs(shift_high)) + rounding
        if iterations is None and bound <= tolerance:
            break
    policy = np.empty(model.num_states, np.int64)
    loss_low, loss_high = _kernels.certificate(*_range(*backup(model, arrays)(V, TV, policy)[:2]), *masses)
    fields = {
        "values": V,
        "policy": policy,
        "iterations": made,
        "residual": max(-low, high),
        "value_bound": bound,
        "policy_loss_bound": loss_high - loss_low + 2 * rounding,
        "method": "value iteration",
        "trace": np.array(history) if trace else None,
    }
    # A fixed number of sweeps was asked for, so ending there is no failure.
    return report(model, tolerance, **fields) if iterations is None else Plan(converged=bound <= tolerance, **fields)


def _range(low: float, high: float) -> tuple[float, float]:
    """Without any state that goes on there is no change at all."""
    return (low, high) if low <= high else (0.0, 0.0)
