"""How fast value iteration converges over options (Zhang et al. 2025, theorem 3.6; sharp form: this project).

The Bellman operator T over options contracts in sup-norm with γ̄ = max E[γ^τ | s, z] (Sutton, Precup & Singh 1999; as
`ra3sim.smdp.SMDP.gamma_bar` counts it), and ‖V*‖ <= R_max / (1 - γ̄). So from V_0 = 0

    ‖V_N - V*‖ <= γ̄^N R_max / (1 - γ̄)                                               (sharp)
                <= exp(-(1 - γ̄) N) R_max / (1 - γ̄)                                   (published)

for ln(1/γ̄) >= 1 - γ̄. Solved for N, these are the iterations that are enough for an error of ε.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ra3sim import _check
from ra3sim.planning import Plan, evaluate_policy
from ra3sim.smdp import SMDP
from theory.arithmetic import FLOAT, Arithmetic, backup, iterates, optimal_values
from theory.bound import Assumption, Draw, Instance, Overstated, Side, Statement, Without
from theory.instances import MODEL, STATES, environments, model, one_state, random_options, rate, reward_bound


def sharp_error_bound(iterations: Any, gamma_bar: float, reward_bound: float) -> np.ndarray:
    """γ̄^N R_max / (1 - γ̄), for N = ``iterations`` (a number or an array).

    >>> float(sharp_error_bound(2, gamma_bar=0.5, reward_bound=1.0))
    0.5
    """
    _check_rate(gamma_bar, reward_bound)
    return _sharp(FLOAT, np.asarray(iterations, dtype=np.float64), gamma_bar, reward_bound)


def published_error_bound(iterations: Any, gamma_bar: float, reward_bound: float) -> np.ndarray:
    """exp(-(1 - γ̄) N) R_max / (1 - γ̄): the error that the published number of iterations allows.

    >>> float(published_error_bound(2, gamma_bar=0.5, reward_bound=1.0)) == 2 * math.exp(-1)
    True
    """
    _check_rate(gamma_bar, reward_bound)
    return _published(FLOAT, np.asarray(iterations, dtype=np.float64), gamma_bar, reward_bound)


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


# ---- Statements

ITERATIONS = 6


def start(xp: Arithmetic, instance: Instance, states: int) -> Any:
    return instance["V_0"] if "V_0" in instance else xp.zeros(states)


def error(xp: Arithmetic, instance: Instance) -> Any:
    """|V_N - V*| for N = 1 .. `ITERATIONS`, ``(N, S)``."""
    R, P, available = model(xp, instance)
    values = iterates(xp, R, P, start(xp, instance, R.shape[1]), ITERATIONS, available)
    return xp.abs(values[1:] - optimal_values(xp, R, P, available))


def largest_error(xp: Arithmetic, instance: Instance) -> Any:
    return xp.max(error(xp, instance), 1)


def _for_all_n(formula: Callable[[Arithmetic, int, Any, Any], Any]) -> Side:
    """A bound for N = 1 .. `ITERATIONS`, from N, γ̄ and R_max."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        known = rate(xp, P, available), reward_bound(xp, R, available)
        return xp.stack([formula(xp, n, *known) for n in range(1, ITERATIONS + 1)])

    return bound


_FROM_ZERO = Assumption(
    "V_0 = 0", "value iteration starts from 0", lambda xp, i: "V_0" not in i or bool((i["V_0"] == 0).all())
)


def one_state_rates(xp: Arithmetic) -> Iterator[Instance]:
    for numerator, denominator in ((1, 2), (9, 10), (99, 100)):
        yield one_state(xp, xp.number(numerator, denominator))


def _nearly_undiscounted(xp: Arithmetic) -> Iterator[Instance]:
    yield one_state(xp, xp.number(9_999, 10_000))


def _negative_outcomes(xp: Arithmetic) -> Instance:
    """Two states whose outcomes sum to 0, so that γ̄ = 0, and T is no constant."""
    half = xp.number(1, 2)
    return {
        "R": xp.array([[1, 0]]),
        "P": xp.array([[[half, -half], [-half, half]]]),
        "V": xp.array([1, -1]),
        "U": xp.array([0, 0]),
    }


def _two_values(draw: Draw) -> Instance:
    return random_options(draw) | {"V": 10 * draw.unit(STATES), "U": 10 * draw.unit(STATES)}


CONTRACTION = Statement(
    name="contraction",
    number="3.1",
    claim="‖TV − TU‖ ≤ γ̄ ‖V − U‖ in sup-norm, with γ̄ = max E[γ^τ | s, z].",
    source="Sutton, Precup & Singh 1999; paper, section 3",
    assumptions=(MODEL,),
    family=_two_values,
    measured_side=lambda xp, i: xp.max(
        xp.abs(backup(xp, *_with(model(xp, i), i["V"])) - backup(xp, *_with(model(xp, i), i["U"])))
    ),
    bound_side=lambda xp, i: rate(xp, *model(xp, i)[1:]) * xp.max(xp.abs(i["V"] - i["U"])),
    tight=lambda xp: [one | {"V": xp.array([3]), "U": xp.array([1])} for one in one_state_rates(xp)],
    overstated=Overstated(
        "the rate is γ̄²", lambda xp, i: rate(xp, *model(xp, i)[1:]) ** 2 * xp.max(xp.abs(i["V"] - i["U"]))
    ),
    without=Without("model", _negative_outcomes),
    real=lambda: [
        (name, one | {"V": np.linspace(0, 9, one["R"].shape[1]), "U": np.zeros(one["R"].shape[1])})
        for name, one in environments()
    ],
)


def _with(known: tuple[Any, Any, np.ndarray], V: Any) -> tuple[Any, Any, Any, np.ndarray]:
    R, P, available = known
    return R, P, V, available


def _sharp(xp: Arithmetic, n: Any, rate: Any, reward: Any) -> Any:
    return rate**n * (reward / (1 - rate))


def _published(xp: Arithmetic, n: Any, rate: Any, reward: Any) -> Any:
    return xp.exp(-(1 - rate) * n) * (reward / (1 - rate))


SHARP_ERROR = Statement(
    name="sharp-error",
    number="3.2",
    claim="From V_0 = 0, ‖V_N − V*‖ ≤ γ̄^N R_max/(1−γ̄).",
    source="this project (sharp form of the paper's theorem 3.6)",
    assumptions=(MODEL, _FROM_ZERO),
    family=random_options,
    measured_side=largest_error,
    bound_side=_for_all_n(_sharp),
    tight=one_state_rates,
    overstated=Overstated("the rate is γ̄²", _for_all_n(lambda xp, n, g, r: _sharp(xp, 2 * n, g, r))),
    without=Without("V_0 = 0", lambda xp: one_state(xp, xp.number(1, 2), 0) | {"V_0": xp.array([1])}),
    real=environments,
)

PUBLISHED_ERROR = Statement(
    name="published-error",
    number="3.3",
    claim="From V_0 = 0, ‖V_N − V*‖ ≤ exp(−(1−γ̄) N) R_max/(1−γ̄).",
    source="paper, theorem 3.6",
    assumptions=(MODEL, _FROM_ZERO),
    family=random_options,
    measured_side=largest_error,
    bound_side=_for_all_n(_published),
    tight=_nearly_undiscounted,
    attains=1 - 1e-6,
    overstated=Overstated("the exponent is −2(1−γ̄)N", _for_all_n(lambda xp, n, g, r: _published(xp, 2 * n, g, r))),
    without=Without("V_0 = 0", lambda xp: one_state(xp, xp.number(1, 2), 0) | {"V_0": xp.array([1])}),
    interval=True,
    real=environments,
)


# ---- Enough iterations


def _with_epsilon(draw: Draw) -> Instance:
    options = random_options(draw)
    # A discount below .9, so that the iterations are few. The model is made once, for both sides.
    R, P = Arithmetic.option_model(draw.xp, options | {"discount": options["discount"] * 9 / 10})
    return {"R": R, "P": P, "epsilon": draw.unit()}


def _after(count: Callable[[Arithmetic, Any, Any, Any], int]) -> Side:
    """‖V_N - V*‖ after the N iterations that ``count`` finds enough for ε R_max."""

    def measured(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        g, r = rate(xp, P, available), reward_bound(xp, R, available)
        enough = count(xp, instance["epsilon"] * r, g, r)
        values = iterates(xp, R, P, start(xp, instance, R.shape[1]), enough, available)[-1]
        return xp.max(xp.abs(values - optimal_values(xp, R, P, available)))

    return measured


def _enough(xp: Arithmetic, epsilon: Any, rate: Any, reward: Any) -> int:
    """`sharp_iterations`, without its logarithm in exact arithmetic."""
    if xp is FLOAT:
        return sharp_iterations(float(epsilon), float(rate), float(reward))
    n = 0
    while _sharp(xp, n, rate, reward) > epsilon:
        n += 1
    return n


def _enough_published(xp: Arithmetic, epsilon: Any, rate: Any, reward: Any) -> int:
    """`published_iterations`; in exact arithmetic the smallest N that is certainly large enough."""
    if xp is FLOAT:
        return published_iterations(float(epsilon), float(rate), float(reward))
    n = 0
    while not _published(xp, n, rate, reward) <= epsilon:
        n += 1
    return n


_POSITIVE = Assumption("epsilon", "the accuracy ε is positive", lambda xp, i: bool(i["epsilon"] > 0))


def _accuracy(xp: Arithmetic, instance: Instance) -> Any:
    R, _, available = model(xp, instance)
    return instance["epsilon"] * reward_bound(xp, R, available)


SHARPITERATIONS = Statement(
    name="sharp-iterations",
    number="3.4",
    claim="N ≥ ln(R_max/(ε(1−γ̄))) / ln(1/γ̄) iterations from V_0 = 0 are enough for ‖V_N − V*‖ ≤ ε.",
    source="this project (sharp form of the paper's theorem 3.6)",
    assumptions=(MODEL, _FROM_ZERO, _POSITIVE),
    family=_with_epsilon,
    measured_side=_after(_enough),
    bound_side=_accuracy,
    # ε = γ̄^N / (1 - γ̄) for a whole N.
    tight=lambda xp: [one_state(xp, xp.number(1, 2)) | {"epsilon": xp.number(1, 2**n)} for n in (0, 1, 5)],
    overstated=Overstated(
        "half of the iterations are enough", measured=_after(lambda xp, *known: _enough(xp, *known) // 2)
    ),
    without=Without(
        "V_0 = 0",
        lambda xp: one_state(xp, xp.number(1, 2)) | {"V_0": xp.array([8]), "epsilon": xp.number(1, 2)},
    ),
    differentiable=False,
)

PUBLISHEDITERATIONS = Statement(
    name="published-iterations",
    number="3.5",
    claim="N ≥ ln(R_max/(ε(1−γ̄))) / (1−γ̄) iterations from V_0 = 0 are enough for ‖V_N − V*‖ ≤ ε.",
    source="paper, theorem 3.6",
    assumptions=(MODEL, _FROM_ZERO, _POSITIVE),
    family=_with_epsilon,
    measured_side=_after(_enough_published),
    bound_side=_accuracy,
    # Nearly undiscounted the two forms agree; ε is just above what one iteration leaves.
    tight=lambda xp: [one_state(xp, xp.number(9_999, 10_000)) | {"epsilon": xp.number(99_990_001, 10_000)}],
    attains=1 - 1e-6,
    overstated=Overstated(
        "a third of the iterations is enough", measured=_after(lambda xp, *known: _enough_published(xp, *known) // 3)
    ),
    without=Without(
        "V_0 = 0",
        lambda xp: one_state(xp, xp.number(1, 2)) | {"V_0": xp.array([20]), "epsilon": xp.number(1, 2)},
    ),
    differentiable=False,
    interval=True,
)

STATEMENTS = (CONTRACTION, SHARP_ERROR, PUBLISHED_ERROR, SHARPITERATIONS, PUBLISHEDITERATIONS)
