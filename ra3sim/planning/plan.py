"""What every planner returns, and the guarantee that it carries."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ra3sim.mdp import MDP
from ra3sim.planning.batch import SMDPBatch
from ra3sim.smdp import SMDP


class NotConvergedWarning(RuntimeWarning):
    """A planner stopped before the tolerance that it was asked for could be certified."""


@dataclass(frozen=True, eq=False)
class Plan:
    """The result of planning.

    Attributes:
        values: ``(S,)``, or ``(B, S)`` for a batch; 0 in terminal states.
        policy: number of the greedy option ``(S,)`` or ``(B, S)``; -1 in terminal states, where nothing is decided.
        iterations: Bellman backups made, an int or ``(B,)``.
        residual: ``‖T V - V‖`` at the last backup (sup-norm), a float or ``(B,)``.
        converged: whether `value_bound` is within the tolerance asked for.
        value_bound: guaranteed bound on ``‖values - V*‖``, rounding included.
        policy_loss_bound: guaranteed bound on ``‖V* - V^policy‖``, rounding included.
        method: what ran.
        trace: ``(N + 1, S)``: V_0 to V_N, if asked for.
    """

    values: np.ndarray
    policy: np.ndarray
    iterations: int | np.ndarray
    residual: float | np.ndarray
    converged: bool | np.ndarray
    value_bound: float | np.ndarray
    policy_loss_bound: float | np.ndarray
    method: str
    trace: np.ndarray | None = None

    def __repr__(self) -> str:
        bound, loss = np.max(self.value_bound), np.max(self.policy_loss_bound)
        state = "converged" if np.all(self.converged) else "NOT converged"
        return (
            f"<Plan by {self.method}: {state}, iterations={np.max(self.iterations)}, "
            f"|V - V*| <= {bound:.3g}, policy loss <= {loss:.3g}>"
        )


def rounding_bound(model: SMDP) -> Callable[[np.ndarray], float]:
    """``values -> bound on the floating-point error of one backup of them``, in sup-norm.

    A sum of n products in any order is off by at most (n + 2) u times the sum of their magnitudes, u = 2^-53
    (Higham 2002, section 3.1); the reward and the scale add three roundings more.
    """
    terms = int(np.diff(model.matrix.indptr).max(initial=0)) if model.is_sparse else model.num_states
    unit, rewards, mass = rounding_unit(terms), model.reward_bound, model.mass_range[1]
    return lambda values: unit * (rewards + mass * max(values.max(initial=0), -values.min(initial=0)))


def rounding_unit(terms: int) -> float:
    """Relative error of a backup whose rows have so many entries."""
    return (terms + 5) * 2.0**-53


def report(model: SMDP | SMDPBatch, tolerance: float, **fields: Any) -> Plan:
    """Build a plan, and say aloud if the tolerance was missed."""
    plan = Plan(converged=fields["value_bound"] <= tolerance, **fields)
    missed = int(np.size(plan.converged) - np.sum(plan.converged))
    if missed:
        of = f" ({missed} of {np.size(plan.converged)} tasks)" if np.ndim(plan.converged) else ""
        warnings.warn(
            f"{plan.method}: stopped after {np.max(plan.iterations)} backups with |V - V*| <= "
            f"{np.max(plan.value_bound):.3g}, tolerance {tolerance:.3g} not reached{of}; "
            "allow more iterations, or a tolerance above the rounding of the values",
            NotConvergedWarning,
            stacklevel=3,
        )
    return plan


def as_smdp(model: object) -> SMDP:
    """The model itself, or the SMDP of an MDP's primitives.

    Raises:
        TypeError: neither an MDP nor an SMDP.
    """
    if isinstance(model, MDP):
        return SMDP.from_mdp(model)
    if not isinstance(model, SMDP):
        raise TypeError(f"model: give an MDP or an SMDP, got {type(model).__name__}")
    return model


def check_tolerance(tolerance: float) -> float:
    value = float(tolerance)
    if not value > 0 or not np.isfinite(value):
        raise ValueError(f"tolerance: must be a positive number, got {tolerance!r}")
    return value


def start_values(model: SMDP, V_0: object) -> np.ndarray:
    """A fresh float64 copy of V_0 ``(S,)`` (None: zeros), 0 in terminal states."""
    values = np.zeros(model.num_states) if V_0 is None else np.array(V_0, dtype=np.float64)
    if values.shape != (model.num_states,):
        raise ValueError(f"V_0: shape {values.shape} does not fit (S={model.num_states},)")
    if not np.isfinite(values).all():
        raise ValueError(f"V_0[s={int(np.argmax(~np.isfinite(values)))}] is NaN or infinite")
    values[model.terminal] = 0
    return values


def contracting_mass(model: SMDP) -> tuple[float, float]:
    """Bounds on what a constant added to V is multiplied by in one backup.

    Raises:
        ValueError: no contraction is left in floating point.
    """
    low, high = model.mass_range
    if not high < 1:
        raise ValueError(f"model: γ̄ = {high!r} leaves no contraction in floating point; use a smaller discount")
    return low, high
