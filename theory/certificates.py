"""What an instance says about value iteration in it: certificates, the pitfall of one primitive, greedy policies"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from theory.arithmetic import FLOAT, Arithmetic, iterates, masked, optimal_values, policy_values
from theory.bound import Assumption, Draw, Instance, Overstated, Side, Statement, Without
from theory.convergence import ITERATIONS, error, largest_error, one_state_rates, start
from theory.instances import MODEL, OPTIONS, STATES, environments, model, one_state, random_options, rate, reward_bound

_FROM_BELOW = Assumption(
    "V_0 <= V*",
    "value iteration starts from below the optimum",
    lambda xp, i: bool((start(xp, i, model(xp, i)[0].shape[1]) <= optimal_values(xp, *model(xp, i))).all()),
)


def _with_start(draw: Draw) -> Instance:
    return random_options(draw) | {"V_0": 20 * draw.unit(STATES)}


def _share_left(steps: int) -> Side:
    """κ_N(s) ‖V_0 - V*‖ for N = 1 .. `ITERATIONS`, ``(N, S)``; with ``steps`` more than N it is too small."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        left = start(xp, instance, R.shape[1]) - optimal_values(xp, R, P, available)
        # κ_N = T^N 1 for the model without rewards.
        kappa = iterates(xp, 0 * R, P, 0 * left + 1, ITERATIONS + steps, available)
        return kappa[1 + steps :] * xp.max(xp.abs(left))

    return bound


def _slow_and_fast(xp: Arithmetic) -> Iterator[Instance]:
    """One state, V_0 above V*: what is left shrinks by the slowest option, though another is optimal."""
    yield {
        "R": xp.array([[1], [0]]),
        "P": xp.array([[[xp.number(1, 2)]], [[xp.number(9, 10)]]]),
        "V_0": xp.array([1000]),
    }
    yield from (one | {"V_0": xp.array([0])} for one in one_state_rates(xp))


POINTWISE = Statement(
    name="pointwise-certificate",
    number="3.6",
    claim="|V_N − V*|(s) ≤ κ_N(s) ‖V_0 − V*‖ for any V_0, with κ_0 = 1, κ_N(s) = max_z Σ_s' P(s'|s,z) κ_{N−1}(s').",
    source="this project",
    assumptions=(MODEL,),
    family=_with_start,
    measured_side=error,
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
    """(P_{z*})^N (V* - V_0) for N = 1 .. `ITERATIONS`, ``(N, S)``; ``steps`` more powers are too many."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        step = _optimal_step(xp, R, P, available)
        left = xp.abs(optimal_values(xp, R, P, available) - start(xp, instance, R.shape[1]))
        rows = []
        for _ in range(ITERATIONS + steps):
            left = step @ left
            rows.append(left)
        return xp.stack(rows[steps:])

    return bound


def _below(draw: Draw) -> Instance:
    """A start below every reward's worth: 0 less something."""
    return random_options(draw) | {"V_0": -10 * draw.unit(STATES)}


def _environments_from_below() -> Iterator[tuple[str, Instance]]:
    """From below every value that there can be: some rewards are costs."""
    for name, one in environments():
        R, P, available = model(FLOAT, one)
        least = -reward_bound(FLOAT, R, available) / (1 - rate(FLOAT, P, available))
        yield name, one | {"V_0": np.full(R.shape[1], least)}


FROM_BELOW = Statement(
    name="from-below",
    number="3.7",
    claim="If V_0 ≤ V*, then |V* − V_N| ≤ (P_{z*})^N (V* − V_0) in every state, z* an optimal policy over options.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _FROM_BELOW),
    family=_below,
    measured_side=error,
    bound_side=_from_below(0),
    tight=one_state_rates,
    overstated=Overstated("one more power of P", _from_below(1)),
    without=Without("V_0 <= V*", lambda xp: next(iter(_slow_and_fast(xp)))),
    real=_environments_from_below,
)


def _from_below_under(factor: int) -> Side:
    """V* - V^π + (P_π)^N (V^π - V_0), π as the instance has it; with ``factor`` 0, V^π's own loss is left out."""

    def bound(xp: Arithmetic, instance: Instance) -> Any:
        R, P, available = model(xp, instance)
        chosen = instance["choice"]
        values = policy_values(xp, R, P, chosen)
        loss = optimal_values(xp, R, P, available) - values
        step = P[chosen, np.arange(R.shape[1])]
        gap, rows = values - start(xp, instance, R.shape[1]), []
        for _ in range(ITERATIONS):
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
    measured_side=error,
    bound_side=_from_below_under(1),
    tight=lambda xp: [one | {"choice": np.zeros(1, int)} for one in one_state_rates(xp)],
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
        left = xp.max(xp.abs(optimal_values(xp, R, P, available) - start(xp, instance, R.shape[1])))
        return xp.stack([own ** (power * n) * left for n in range(1, ITERATIONS + 1)])

    return bound


PITFALL_BELOW = Statement(
    name="pitfall-below",
    number="3.10",
    claim="With primitives kept, from V_0 ≤ V* still ‖V_N − V*‖ ≤ (max_s E[γ^τ|s,z*(s)])^N ‖V_0 − V*‖: "
    "only an optimal policy's durations count.",
    source="this project (the effect: Mann & Mannor 2014)",
    assumptions=(MODEL, _PRIMITIVE, _FROM_BELOW),
    family=lambda draw: _with_primitive(draw) | {"V_0": -10 * draw.unit(STATES)},
    measured_side=largest_error,
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
    """γ^N min V_0, N = 1 .. `ITERATIONS`, with ``extra`` iterations fewer."""

    def measured(xp: Arithmetic, instance: Instance) -> Any:
        V_0 = xp.min(instance["V_0"])
        return xp.stack([instance["discount"] ** (n - extra) * V_0 for n in range(1, ITERATIONS + 1)])

    return measured


def _smallest_value(xp: Arithmetic, instance: Instance) -> Any:
    R, P, available = model(xp, instance)
    return xp.min(iterates(xp, R, P, instance["V_0"], ITERATIONS, available)[1:], 1)


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


def _near_optimum(draw: Draw) -> Instance:
    """V* and something: greedy for anything far from it is mostly greedy for noise."""
    R, P = draw.xp.option_model(random_options(draw))
    return {"R": R, "P": P, "V": optimal_values(draw.xp, R, P) + draw.unit() * (2 * draw.unit(STATES) - 1)}


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
    family=_near_optimum,
    measured_side=_greedy_loss,
    bound_side=_loss_bound(2),
    tight=_tied,
    overstated=Overstated("without the factor 2", _loss_bound(1)),
    without=Without("model", _falls_below_zero),
)

STATEMENTS = (
    POINTWISE,
    FROM_BELOW,
    FROM_BELOW_ANY,
    PITFALL_RATE,
    PITFALL_BELOW,
    PITFALL_ABOVE,
    GREEDY_LOSS,
)
