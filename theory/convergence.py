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
from theory.arithmetic import FLOAT, Arithmetic, backup, iterates, masked, optimal_values, policy_values
from theory.bound import Assumption, Draw, Instance, Overstated, Side, Statement, Without
from theory.instances import MODEL, OPTIONS, STATES, environments, model, one_state, random_options, rate, reward_bound


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


# ---- Statements ------------------------------------------------------------------------------------------------------

_ITERATIONS = 6
_HALF = (1, 2)


def _start(xp: Arithmetic, instance: Instance, states: int) -> Any:
    return instance["V_0"] if "V_0" in instance else xp.zeros(states)


def _error(xp: Arithmetic, instance: Instance) -> Any:
    """|V_N - V*| for N = 1 .. `_ITERATIONS`, ``(N, S)``."""
    R, P, available = model(xp, instance)
    values = iterates(xp, R, P, _start(xp, instance, R.shape[1]), _ITERATIONS, available)
    return xp.abs(values[1:] - optimal_values(xp, R, P, available))


def _largest_error(xp: Arithmetic, instance: Instance) -> Any:
    return xp.max(_error(xp, instance), 1)


def _for_all_n(formula: Callable[[Arithmetic, int, Any, Any], Any]) -> Side:
    """A bound for N = 1 .. `_ITERATIONS`, from N, γ̄ and R_max."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        known = rate(xp, P, available), reward_bound(xp, R, available)
        return xp.stack([formula(xp, n, *known) for n in range(1, _ITERATIONS + 1)])

    return bound


_FROM_ZERO = Assumption(
    "V_0 = 0", "value iteration starts from 0", lambda xp, i: "V_0" not in i or bool((i["V_0"] == 0).all())
)
_FROM_BELOW = Assumption(
    "V_0 <= V*",
    "value iteration starts from below the optimum",
    lambda xp, i: bool((_start(xp, i, model(xp, i)[0].shape[1]) <= optimal_values(xp, *model(xp, i))).all()),
)


def _one_state_rates(xp: Arithmetic) -> Iterator[Instance]:
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


def _with_start(draw: Draw) -> Instance:
    return random_options(draw) | {"V_0": 20 * draw.unit(STATES)}


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
    tight=lambda xp: [one | {"V": xp.array([3]), "U": xp.array([1])} for one in _one_state_rates(xp)],
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


def _sharp(xp: Arithmetic, n: int, rate: Any, reward: Any) -> Any:
    return rate**n * reward / (1 - rate)


def _published(xp: Arithmetic, n: int, rate: Any, reward: Any) -> Any:
    return xp.exp(-(1 - rate) * n) * reward / (1 - rate)


SHARP_ERROR = Statement(
    name="sharp-error",
    number="3.2",
    claim="From V_0 = 0, ‖V_N − V*‖ ≤ γ̄^N R_max/(1−γ̄).",
    source="this project (sharp form of the paper's theorem 3.6)",
    assumptions=(MODEL, _FROM_ZERO),
    family=random_options,
    measured_side=_largest_error,
    bound_side=_for_all_n(_sharp),
    tight=_one_state_rates,
    overstated=Overstated("the rate is γ̄²", _for_all_n(lambda xp, n, g, r: _sharp(xp, 2 * n, g, r))),
    without=Without("V_0 = 0", lambda xp: one_state(xp, xp.number(*_HALF), 0) | {"V_0": xp.array([1])}),
    real=environments,
)

PUBLISHED_ERROR = Statement(
    name="published-error",
    number="3.3",
    claim="From V_0 = 0, ‖V_N − V*‖ ≤ exp(−(1−γ̄) N) R_max/(1−γ̄).",
    source="paper, theorem 3.6",
    assumptions=(MODEL, _FROM_ZERO),
    family=random_options,
    measured_side=_largest_error,
    bound_side=_for_all_n(_published),
    tight=_nearly_undiscounted,
    attains=1 - 1e-6,
    overstated=Overstated("the exponent is −2(1−γ̄)N", _for_all_n(lambda xp, n, g, r: _published(xp, 2 * n, g, r))),
    without=Without("V_0 = 0", lambda xp: one_state(xp, xp.number(*_HALF), 0) | {"V_0": xp.array([1])}),
    interval=True,
    real=environments,
)


# ---- Enough iterations


def _with_epsilon(draw: Draw) -> Instance:
    # A discount below .9, so that the iterations are few.
    options = random_options(draw)
    return options | {"discount": options["discount"] * 9 / 10, "epsilon": draw.unit()}


def _after(count: Callable[[Arithmetic, Any, Any, Any], int]) -> Side:
    """‖V_N - V*‖ after the N iterations that ``count`` finds enough for ε R_max."""

    def measured(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        g, r = rate(xp, P, available), reward_bound(xp, R, available)
        enough = count(xp, instance["epsilon"] * r, g, r)
        values = iterates(xp, R, P, _start(xp, instance, R.shape[1]), enough, available)[-1]
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


SHARP_ITERATIONS = Statement(
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

PUBLISHED_ITERATIONS = Statement(
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

# ---- Certificates of the instance


def _share_left(steps: int) -> Side:
    """κ_N(s) ‖V_0 - V*‖ for N = 1 .. `_ITERATIONS`, ``(N, S)``; with ``steps`` more than N it is too small."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        left = _start(xp, instance, R.shape[1]) - optimal_values(xp, R, P, available)
        # κ_N = T^N 1 for the model without rewards.
        kappa = iterates(xp, 0 * R, P, 0 * left + 1, _ITERATIONS + steps, available)
        return kappa[1 + steps :] * xp.max(xp.abs(left))

    return bound


def _slow_and_fast(xp: Arithmetic) -> Iterator[Instance]:
    """One state, V_0 above V*: what is left shrinks by the slowest option, though another is optimal."""
    yield {
        "R": xp.array([[1], [0]]),
        "P": xp.array([[[xp.number(1, 2)]], [[xp.number(9, 10)]]]),
        "V_0": xp.array([1000]),
    }
    yield from (one | {"V_0": xp.array([0])} for one in _one_state_rates(xp))


POINTWISE = Statement(
    name="pointwise-certificate",
    number="3.6",
    claim="|V_N − V*|(s) ≤ κ_N(s) ‖V_0 − V*‖ for any V_0, with κ_0 = 1, κ_N(s) = max_z Σ_s' P(s'|s,z) κ_{N−1}(s').",
    source="this project",
    assumptions=(MODEL,),
    family=_with_start,
    measured_side=_error,
    bound_side=_share_left(0),
    tight=_slow_and_fast,
    overstated=Overstated("κ of one iteration more", _share_left(1)),
    without=Without("model", lambda xp: one_state(xp, xp.number(-1, 2))),
    real=environments,
)


def _optimal_step(xp: Arithmetic, R: Any, P: Any, available: np.ndarray) -> Any:
    """P of an optimal policy over options, ``(S, S)``."""
    return P[xp.optimal_policy(R, P, available), np.arange(R.shape[1])]


def _from_below(steps: int) -> Side:
    """(P_{z*})^N (V* - V_0) for N = 1 .. `_ITERATIONS`, ``(N, S)``; ``steps`` more powers are too many."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        step = _optimal_step(xp, R, P, available)
        left = xp.abs(optimal_values(xp, R, P, available) - _start(xp, instance, R.shape[1]))
        rows = []
        for _ in range(_ITERATIONS + steps):
            left = step @ left
            rows.append(left)
        return xp.stack(rows[steps:])

    return bound


def _below(draw: Draw) -> Instance:
    """A start below every reward's worth: 0 less something."""
    return random_options(draw) | {"V_0": -10 * draw.unit(STATES)}


FROM_BELOW = Statement(
    name="from-below",
    number="3.7",
    claim="If V_0 ≤ V*, then |V* − V_N| ≤ (P_{z*})^N (V* − V_0) in every state, z* an optimal policy over options.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _FROM_BELOW),
    family=_below,
    measured_side=_error,
    bound_side=_from_below(0),
    tight=_one_state_rates,
    overstated=Overstated("one more power of P", _from_below(1)),
    without=Without("V_0 <= V*", lambda xp: next(iter(_slow_and_fast(xp)))),
    real=environments,
)


def _from_below_under(factor: int) -> Side:
    """V* - V^π + (P_π)^N (V^π - V_0), π as the instance has it; with ``factor`` 0, V^π's own loss is left out."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        chosen = instance["choice"]
        values = policy_values(xp, R, P, chosen)
        loss = optimal_values(xp, R, P, available) - values
        step = P[chosen, np.arange(R.shape[1])]
        gap, rows = values - _start(xp, instance, R.shape[1]), []
        for _ in range(_ITERATIONS):
            gap = step @ gap
            rows.append(factor * loss + gap)
        return xp.stack(rows)

    return bound


def _with_choice(draw: Draw) -> Instance:
    return _below(draw) | {"choice": draw.whole(OPTIONS, STATES)}


FROM_BELOW_ANY = Statement(
    name="from-below-any-policy",
    number="3.8",
    claim="If V_0 ≤ V*, then |V* − V_N| ≤ V* − V^π + (P_π)^N (V^π − V_0) in every state, for any π over options.",
    source="this project",
    assumptions=(MODEL, _FROM_BELOW),
    family=_with_choice,
    measured_side=_error,
    bound_side=_from_below_under(1),
    tight=lambda xp: [one | {"choice": np.zeros(1, int)} for one in _one_state_rates(xp)],
    overstated=Overstated("what π loses is left out", _from_below_under(0)),
    without=Without("V_0 <= V*", lambda xp: next(iter(_slow_and_fast(xp))) | {"choice": np.zeros(1, int)}),
)

# ---- The pitfall: one primitive kept


def _with_primitive(draw: Draw) -> Instance:
    options = random_options(draw)
    # Option 0 ends after one step.
    ends = options["termination"]
    first = draw.xp.where(np.arange(OPTIONS)[:, None] == 0, 1 + 0 * ends, ends)
    return options | {"termination": first}


def _keeps_primitive(xp: Arithmetic, instance: Instance) -> bool:
    return bool((instance["termination"][0] == 1).all())


_PRIMITIVE = Assumption("primitive", "option 0 is primitive: it ends after one step, in every state", _keeps_primitive)


def _two_options(xp: Arithmetic, first_ends: Any, rewards: Any = 1) -> dict[str, Any]:
    """One state that pays, option 0 as it is asked to end, option 1 rarely ending."""
    return {
        "transitions": xp.array([[[1]]]),
        "rewards": xp.array([[rewards]]),
        "discount": xp.number(9, 10),
        "policy": xp.array([[[1]], [[1]]]),
        "termination": xp.array([[first_ends], [xp.number(1, 10)]]),
    }


def _largest_rate(first: int) -> Side:
    def bound(xp: Arithmetic, instance: Instance) -> Any:
        return xp.max(xp.option_model(instance)[1].sum(-1)[first:])

    return bound


PITFALL_RATE = Statement(
    name="pitfall-rate",
    number="3.9",
    claim="As soon as one primitive action is kept, γ̄ = γ, however long the other options are.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _PRIMITIVE),
    family=_with_primitive,
    measured_side=lambda xp, i: i["discount"],
    bound_side=_largest_rate(0),
    tight=lambda xp: [_two_options(xp, 1)],
    overstated=Overstated("γ̄ is that of the other options", _largest_rate(1)),
    without=Without("primitive", lambda xp: _two_options(xp, xp.number(1, 2))),
    equality=True,
)


def _own_rate(power: int) -> Side:
    """(max_s E[γ^τ | s, z*(s)])^N ‖V* - V_0‖, to the ``power``."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        own = xp.max(_optimal_step(xp, R, P, available).sum(-1))
        left = xp.max(xp.abs(optimal_values(xp, R, P, available) - _start(xp, instance, R.shape[1])))
        return xp.stack([own ** (power * n) * left for n in range(1, _ITERATIONS + 1)])

    return bound


PITFALL_BELOW = Statement(
    name="pitfall-below",
    number="3.10",
    claim="With primitives kept, from V_0 ≤ V* still ‖V_N − V*‖ ≤ (max_s E[γ^τ|s,z*(s)])^N ‖V_0 − V*‖: "
    "only an optimal policy's durations count.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _PRIMITIVE, _FROM_BELOW),
    family=lambda draw: _with_primitive(draw) | {"V_0": -10 * draw.unit(STATES)},
    measured_side=_largest_error,
    bound_side=_own_rate(1),
    tight=lambda xp: [_slow_primitive(xp) | {"V_0": xp.array([0])}],
    overstated=Overstated("the rate is squared", _own_rate(2)),
    without=Without("V_0 <= V*", lambda xp: _slow_primitive(xp) | {"V_0": xp.array([100])}),
)


def _slow_primitive(xp: Arithmetic) -> dict[str, Any]:
    """One state; the primitive action pays nothing, the long option takes the other action, which pays."""
    return {
        "transitions": xp.array([[[1], [1]]]),
        "rewards": xp.array([[0, 1]]),
        "discount": xp.number(9, 10),
        "policy": xp.array([[[1, 0]], [[0, 1]]]),
        "termination": xp.array([[1], [xp.number(1, 10)]]),
    }


def _slowest(extra: int) -> Side:
    """γ^N min V_0, N = 1 .. `_ITERATIONS`, with ``extra`` iterations fewer."""

    def measured(xp: Arithmetic, instance: Instance) -> Any:
        V_0 = xp.min(instance["V_0"])
        return xp.stack([instance["discount"] ** (n - extra) * V_0 for n in range(1, _ITERATIONS + 1)])

    return measured


def _smallest_value(xp: Arithmetic, instance: Instance) -> Any:
    R, P, available = model(xp, instance)
    return xp.min(iterates(xp, R, P, instance["V_0"], _ITERATIONS, available)[1:], 1)


PITFALL_ABOVE = Statement(
    name="pitfall-above",
    number="3.11",
    claim="With one primitive kept and rewards ≥ 0, V_N ≥ γ^N min V_0 everywhere: "
    "from far above, value iteration falls no faster than γ^N, however long the other options are.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _PRIMITIVE),
    family=lambda draw: _with_primitive(draw) | {"V_0": 20 * draw.unit(STATES)},
    measured_side=_slowest(0),
    bound_side=_smallest_value,
    tight=lambda xp: [_two_options(xp, 1, 0) | {"V_0": xp.array([5])}],
    overstated=Overstated("it falls no faster than γ^(N−1)", measured=_slowest(1)),
    without=Without("primitive", lambda xp: _two_options(xp, xp.number(1, 10), 0) | {"V_0": xp.array([5])}),
)

# ---- What the greedy policy loses


def _greedy_loss(xp: Arithmetic, instance: Instance) -> Any:
    R, P, available = model(xp, instance)
    chosen = xp.argmax(masked(xp, R + P @ instance["V"], available))
    return xp.max(optimal_values(xp, R, P, available) - policy_values(xp, R, P, chosen))


def _loss_bound(factor: int) -> Side:
    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        g = rate(xp, P, available)
        return factor * g * xp.max(xp.abs(instance["V"] - optimal_values(xp, R, P, available))) / (1 - g)

    return bound


def _tied(xp: Arithmetic) -> Iterator[Instance]:
    """Staying and leaving look alike to V = V* ± 1, and staying, which is taken, loses 2γ for ever."""
    for g in (xp.number(1, 2), xp.number(3, 4)):
        best = 2 * g / (1 - g)
        yield {
            "R": xp.array([[0, 2 * g], [2 * g, 2 * g]]),
            "P": xp.array([[[g, 0], [0, g]], [[0, g], [0, g]]]),
            "V": xp.array([best + 1, best - 1]),
        }


def _falls_below_zero(xp: Arithmetic) -> Instance:
    """One state; the second option is the better, has a negative outcome, and γ̄ = 0."""
    return {"R": xp.array([[1], [2]]), "P": xp.array([[[0]], [[xp.number(-1, 2)]]]), "V": xp.array([10])}


GREEDY_LOSS = Statement(
    name="greedy-loss",
    number="3.12",
    claim="‖V* − V^π‖ ≤ 2γ̄ ‖V − V*‖/(1−γ̄) for the policy π over options that is greedy for V (so for V = V_N).",
    source="paper, section 3; Bertsekas & Tsitsiklis 1996, proposition 6.1",
    assumptions=(MODEL,),
    family=lambda draw: random_options(draw) | {"V": 50 * draw.unit(STATES)},
    measured_side=_greedy_loss,
    bound_side=_loss_bound(2),
    tight=_tied,
    overstated=Overstated("without the factor 2", _loss_bound(1)),
    without=Without("model", _falls_below_zero),
)

STATEMENTS = (
    CONTRACTION,
    SHARP_ERROR,
    PUBLISHED_ERROR,
    SHARP_ITERATIONS,
    PUBLISHED_ITERATIONS,
    POINTWISE,
    FROM_BELOW,
    FROM_BELOW_ANY,
    PITFALL_RATE,
    PITFALL_BELOW,
    PITFALL_ABOVE,
    GREEDY_LOSS,
)
