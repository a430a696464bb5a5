"""How fast value iteration converges over options (Zhang et al. 2025, theorem 3.6; sharp form: this project).

The Bellman operator T over options contracts in sup-norm with γ̄ = max E[γ^τ | s, z] (Sutton, Precup & Singh 1999; as
`ra3sim.smdp.SMDP.gamma_bar` counts it), and ‖V*‖ <= R_max / (1 - γ̄). So from V_0 = 0

    ‖V_N - V*‖ <= γ̄^N R_max / (1 - γ̄)                                               (sharp)
                <= exp(-(1 - γ̄) N) R_max / (1 - γ̄)                                   (published)

for ln(1/γ̄) >= 1 - γ̄. Solved for N, these are the iterations that are enough for an error of ε.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.planning import Plan, evaluate_policy
from ra3sim.smdp import SMDP


def sharp_error_bound(iterations: Any, gamma_bar: float, reward_bound: float) -> np.ndarray:
    """γ̄^N R_max / (1 - γ̄), for N = ``iterations`` (a number or an array).

    >>> float(sharp_error_bound(2, gamma_bar=0.5, reward_bound=1.0))
    0.5
    """
    _check_rate(gamma_bar, reward_bound)
    return gamma_bar ** np.asarray(iterations, dtype=np.float64) * (reward_bound / (1 - gamma_bar))


def published_error_bound(iterations: Any, gamma_bar: float, reward_bound: float) -> np.ndarray:
    """exp(-(1 - γ̄) N) R_max / (1 - γ̄): the error that the published number of iterations allows.

    >>> float(published_error_bound(2, gamma_bar=0.5, reward_bound=1.0)) == 2 * math.exp(-1)
    True
    """
    _check_rate(gamma_bar, reward_bound)
    return np.exp(-(1 - gamma_bar) * np.asarray(iterations, dtype=np.float64)) * (reward_bound / (1 - gamma_bar))


def sharp_iterations(epsilon: float, gamma_bar: float, reward_bound: float) -> int:
    """The smallest whole N with N >= ln(R_max / (ε (1 - γ̄))) / ln(1/γ̄).

    >>> sharp_iterations(0.5, gamma_bar=0.5, reward_bound=1.0), sharp_iterations(10.0, gamma_bar=0.5, reward_bound=1.0)
    (2, 0)
    """
    ratio = _log_ratio(epsilon, gamma_bar, reward_bound)
    if gamma_bar == 0:
        return int(ratio > 0)  # one backup is exact
    return _ceil(ratio / -math.log(gamma_bar))


def published_iterations(epsilon: float, gamma_bar: float, reward_bound: float) -> int:
    """The smallest whole N with N >= ln(R_max / (ε (1 - γ̄))) / (1 - γ̄) (Zhang et al. 2025, theorem 3.6).

    >>> published_iterations(0.5, gamma_bar=0.5, reward_bound=1.0)
    3
    """
    return _ceil(_log_ratio(epsilon, gamma_bar, reward_bound) / (1 - gamma_bar))


def error_from_below(
    smdp: SMDP, plan: Plan, V_0: np.ndarray, iterations: int, policy: np.ndarray | None = None
) -> np.ndarray:
    """max_s (V* - V^π + (P_π)^N (V^π - V_0))(s) for N = 0 .. ``iterations``: bounds ‖V* - V_N‖ if V_0 <= V*.

    This project; proof: V_N = T^N V_0 >= T_π^N V_0 = V^π + (P_π)^N (V_0 - V^π), and V_N <= V* by monotony. With π = z*
    optimal it is (P_{z*})^N (V* - V_0): only the durations of a good policy count, however short other options are. So
    keeping the primitives costs nothing from below.

    Args:
        plan: an optimal plan of ``smdp``; its values stand for V*, off by at most ``plan.value_bound``.
        V_0: ``(S,)``.
        policy: π, options ``(S,)``; None: the optimal one.

    Returns:
        ``(iterations + 1,)``.

    Raises:
        ValueError: V_0 exceeds V* somewhere: the statement says nothing then.
    """
    above = V_0 - plan.values > plan.value_bound
    if above.any():
        raise ValueError(f"V_0: exceeds V* in {_check.first(above, 's')}; the bound is from below only")
    policy = plan.policy if policy is None else policy
    values = evaluate_policy(smdp, policy).values
    matrix, _ = smdp.under(np.asarray(policy))
    loss, gap = plan.values - values, values - V_0
    errors = [float((loss + gap).max())]
    for _ in range(iterations):
        gap = matrix @ gap
        errors.append(float((loss + gap).max()))
    return np.array(errors)


def _log_ratio(epsilon: float, gamma_bar: float, reward_bound: float) -> float:
    """ln(R_max / (ε (1 - γ̄))), at least 0: at an error above the start no iteration is needed."""
    _check_rate(gamma_bar, reward_bound)
    if not epsilon > 0:
        raise ValueError(f"epsilon: must be positive, got {epsilon!r}")
    ratio = reward_bound / (epsilon * (1 - gamma_bar))
    return math.log(ratio) if ratio > 1 else 0.0


def _check_rate(gamma_bar: float, reward_bound: float) -> None:
    if not 0 <= gamma_bar < 1:
        raise ValueError(f"gamma_bar: must lie in [0, 1), got {gamma_bar!r}")
    if not (reward_bound >= 0 and math.isfinite(reward_bound)):
        raise ValueError(f"reward_bound: must be finite and >= 0, got {reward_bound!r}")


def _ceil(value: float) -> int:
    # ln of a ratio of floats can miss a whole number by a rounding; that is not one iteration more.
    return math.ceil(value - 1e-12 * max(1.0, value))
