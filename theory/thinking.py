"""What a thought costs, and when it pays (Zhang et al. 2025, proposition 5.1; the rest: this project).

κ = q(z_t ≠ z_{t-1}), ν = q given a switch, ρ = (1 - α)(Z - 1)/Z: the prior keeps its latent with probability 1 - ρ and
takes each other one with ρ/(Z - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import numpy as np

from ra3sim.abstraction import TemporalPrior
from ra3sim.latent import posterior_policy
from theory.arithmetic import Arithmetic
from theory.bound import Assumption, Draw, Instance, Overstated, Statement, Without
from theory.instances import is_distribution
from theory.latents import (
    EMISSION,
    KEEP,
    demonstrations,
    emissions,
    inside,
    latents_of,
    prior_matrix,
    random_steps,
    real_steps,
    think_rate,
    times_log,
    total_likelihood,
)

_KAPPA = Assumption(
    "kappa", "κ lies in [0, 1]", lambda xp, i: bool(np.all(i["kappa"] >= 0) and np.all(i["kappa"] <= 1))
)
_NU = Assumption("nu", "ν is a distribution over the other latents", lambda xp, i: is_distribution(i["nu"]))
_BELOW = Assumption("alpha", "0 <= α < 1, so that something new can come", lambda xp, i: bool(0 <= i["keep"] < 1))


def entropy(xp: Arithmetic, nu: Any) -> Any:
    """H(ν) over the last axis, in nats."""
    return -times_log(xp, nu, nu).sum(-1)


def direct_kl(xp: Arithmetic, i: Instance) -> Any:
    """KL(q‖p) as a sum over latents, with q = (1 - κ, κ ν) and p the prior's row: the old latent comes first."""
    kappa, nu = i["kappa"], i["nu"]
    q = xp.stack([1 - kappa, *(kappa * nu[..., k] for k in range(nu.shape[-1]))], -1)
    prior = prior_matrix(xp, i["keep"], q.shape[-1])[0]
    return times_log(xp, q, q / prior).sum(-1)


def split_kl(xp: Arithmetic, i: Instance, spread: int = 1) -> Any:
    """kl_Bernoulli(κ‖ρ) + κ (ln(Z - 1) - H(ν)) (Zhang et al. 2025, proposition 5.1), H(ν) taken ``spread`` times."""
    kappa, rho = i["kappa"], think_rate(xp, i)
    whether = times_log(xp, kappa, kappa / rho) + times_log(xp, 1 - kappa, (1 - kappa) / (1 - rho))
    return whether + kappa * (xp.log(xp.number(latents_of(i) - 1)) - spread * entropy(xp, i["nu"]))


def price(xp: Arithmetic, i: Instance) -> Any:
    """c = ln((1 - ρ)/(ρ/(Z - 1))), the price with the same odds of one new latent against keeping."""
    rho = think_rate(xp, i)
    return xp.log((1 - rho) * (latents_of(i) - 1) / rho)


def soft_rule(xp: Arithmetic, i: Instance) -> Any:
    """κ* = sigmoid(g + H(ν) - c)."""
    return 1 / (1 + xp.exp(price(xp, i) - i["gain"] - entropy(xp, i["nu"])))


def _thought(draw: Draw) -> dict[str, Any]:
    return {"keep": inside(draw.unit()), "kappa": draw.unit(), "nu": draw.distribution(2)}


def _gainful(draw: Draw) -> Instance:
    return _thought(draw) | {"gain": 8 * draw.unit() - 4}


def _uniform(xp: Arithmetic, keep: Any, kappa: Any) -> dict[str, Any]:
    return {"keep": keep, "kappa": kappa, "nu": xp.array([1, 1]) / 2}


def _half_a_nu(xp: Arithmetic) -> dict[str, Any]:
    return _uniform(xp, xp.number(1, 2), xp.number(1, 2)) | {"nu": xp.array([1, 1]) / 4}


def _real_thoughts() -> Iterator[tuple[str, Instance]]:
    """κ, ν and the gain of a new thought, as the posteriors of demonstrations have them."""
    for name, model, trajectories in demonstrations():
        table, _ = posterior_policy(model, trajectories)
        latents, prior = model.num_latents, cast(TemporalPrior, model.prior)
        others = np.array([[z for z in range(latents) if z != before] for before in range(latents)])
        new = np.take_along_axis(table[:, :latents], others[None], -1)
        kappa = new.sum(-1)
        nu = new / kappa[..., None]
        rows = {"keep": prior.keep, "kappa": kappa.ravel(), "nu": nu.reshape(-1, latents - 1)}
        # Of the posterior κ is the soft rule: the gain is what that rule makes it.
        odds = np.log(rows["kappa"] / (1 - rows["kappa"]))
        entropy = -(rows["nu"] * np.log(rows["nu"])).sum(-1)
        yield name, rows | {"gain": odds + prior.price - entropy}


THINKING_KL = Statement(
    name="thinking-kl",
    number="6.1",
    claim="KL(q‖p) = kl_Bernoulli(κ‖ρ) + κ (ln(Z−1) − H(ν)), with κ = q(z_t ≠ z_{t−1}) and ν = q given a switch.",
    source="paper, proposition 5.1",
    assumptions=(_BELOW, _KAPPA, _NU),
    family=_thought,
    measured_side=direct_kl,
    bound_side=split_kl,
    tight=lambda xp: [_uniform(xp, xp.number(1, 2), xp.number(k, 4)) for k in range(5)],
    overstated=Overstated("what is thought costs ln(Z−1), spread or not", bound=lambda xp, i: split_kl(xp, i, 0)),
    without=Without("nu", _half_a_nu),
    equality=True,
    interval=True,
    real=_real_thoughts,
)


def _value(xp: Arithmetic, i: Instance, kappa: Any) -> Any:
    """exp(κ g - KL(q‖p))."""
    return xp.exp(kappa * i["gain"] - direct_kl(xp, {**i, "kappa": kappa}))


def _best_value(xp: Arithmetic, i: Instance) -> Any:
    rho = think_rate(xp, i)
    return 1 - rho + rho * xp.exp(i["gain"] + entropy(xp, i["nu"])) / (latents_of(i) - 1)


def _with_rule(xp: Arithmetic) -> Iterator[Instance]:
    for keep, gain in ((0, 0), (1, 1), (1, -1), (3, 3)):
        i = _uniform(xp, xp.number(keep, 4), xp.number(0)) | {"gain": xp.number(gain)}
        yield i | {"kappa": soft_rule(xp, i)}


SOFT_RULE = Statement(
    name="soft-rule",
    number="6.2",
    claim="e^{κg − KL(q‖p)} ≤ 1 − ρ + ρ e^{g+H(ν)}/(Z−1), met by κ* = sigmoid(g − ln((1−ρ)/ρ) − ln(Z−1) + H(ν)).",
    source="this project",
    assumptions=(_BELOW, _KAPPA, _NU),
    family=_gainful,
    measured_side=lambda xp, i: _value(xp, i, i["kappa"]),
    bound_side=_best_value,
    tight=_with_rule,
    overstated=Overstated(
        "the better of never and always thinking is as good",
        bound=lambda xp, i: xp.maximum(_value(xp, i, 0 * i["kappa"]), _value(xp, i, 0 * i["kappa"] + 1)),
    ),
    without=Without("nu", lambda xp: _half_a_nu(xp) | {"gain": xp.number(0)}),
    interval=True,
    real=_real_thoughts,
)


def _saved(xp: Arithmetic, i: Instance) -> Any:
    """exp(κ ln(1/ρ) - KL(q‖p))."""
    return xp.exp(-i["kappa"] * xp.log(think_rate(xp, i)) - direct_kl(xp, i))


def _dearest(xp: Arithmetic) -> Iterator[Instance]:
    """κ = 1/(2 - ρ), ν uniform."""
    for keep in (xp.number(0), xp.number(1, 2), xp.number(999, 1000)):
        i = _uniform(xp, keep, xp.number(0))
        yield i | {"kappa": 1 / (2 - think_rate(xp, i))}


SWITCHING_COST = Statement(
    name="switching-cost",
    number="6.3",
    claim="KL(q‖p) ≥ κ ln(1/ρ) − ln(2−ρ): as α → 1, ρ → 0 and switching costs without limit.",
    source="this project (makes precise what the paper says of α → 1)",
    assumptions=(_BELOW, _KAPPA, _NU),
    family=_thought,
    measured_side=_saved,
    bound_side=lambda xp, i: 2 - think_rate(xp, i),
    tight=_dearest,
    overstated=Overstated("KL(q‖p) ≥ κ ln(1/ρ)", bound=lambda xp, i: 1 + 0 * think_rate(xp, i)),
    without=Without("nu", lambda xp: _half_a_nu(xp) | {"keep": xp.number(999, 1000)}),
    interval=True,
    real=_real_thoughts,
)


def _above_price(xp: Arithmetic, i: Instance) -> Any:
    """g + H(ν) - c."""
    return i["gain"] + entropy(xp, i["nu"]) - price(xp, i)


def _hard_rule_missed(xp: Arithmetic, i: Instance) -> Any:
    """|κ* - 1{g + H(ν) > c}|."""
    return xp.abs(soft_rule(xp, i) - xp.where(_above_price(xp, i) > 0, 1, 0))


HARD_RULE = Statement(
    name="hard-rule",
    number="6.4",
    claim="|κ* − 1{x > 0}| = 1/(1 + e^{|x|}) ≤ e^{−|x|}, with x = g + H(ν) − c and c the price of the same odds.",
    source="this project",
    assumptions=(_BELOW, _NU),
    family=_gainful,
    measured_side=_hard_rule_missed,
    bound_side=lambda xp, i: 1 / (1 + xp.exp(xp.abs(_above_price(xp, i)))),
    tight=_with_rule,
    overstated=Overstated(
        "the entropy of ν does not matter", bound=lambda xp, i: 1 / (1 + xp.exp(xp.abs(i["gain"] - price(xp, i))))
    ),
    without=Without("alpha", lambda xp: _uniform(xp, xp.number(-2), xp.number(0)) | {"gain": xp.number(0)}),
    equality=True,
    interval=True,
    real=_real_thoughts,
)


def _best_path(xp: Arithmetic, i: Instance, shares: int = 0) -> Any:
    """(1-ρ)^n max_z Π_t π(a_t|s_t,z_t) e^{-c·1{z_t ≠ z_{t-1}}}, and 1/Z for a free start, by dynamic programming.

    Times Z^``shares``.
    """
    rho, latents = think_rate(xp, i), latents_of(i)
    costs = prior_matrix(xp, i["keep"], latents) / (1 - rho)
    best = costs[i["start"]] * i["emission"][0]
    for row in i["emission"][1:]:
        best = xp.max(best[:, None] * costs[:latents], 0) * row
    return (1 - rho) ** len(i["emission"]) * xp.max(best, 0) * latents**shares


PRICED_PATH = Statement(
    name="priced-path",
    number="6.5",
    claim="B ≤ π(a|s) ≤ Z^T B, with B = (1−ρ)^T e^{best Σ_t ln π(a_t|s_t,z_t) − c·1{z_t ≠ z_{t−1}}}: the fixed price.",
    source="this project",
    assumptions=(KEEP, EMISSION),
    family=random_steps,
    measured_side=lambda xp, i: xp.stack([_best_path(xp, i), total_likelihood(xp, i)]),
    bound_side=lambda xp, i: xp.stack([total_likelihood(xp, i), _best_path(xp, i, len(i["emission"]))]),
    tight=lambda xp: [
        emissions(xp, [[1, 1, 1]] * 3, 0, xp.number(0)),
        emissions(xp, [[1, 0, 0]] * 3, 0, xp.number(1, 2)),
    ],
    overstated=Overstated(
        "Z^{T−1} is enough",
        bound=lambda xp, i: xp.stack([total_likelihood(xp, i), _best_path(xp, i, len(i["emission"]) - 1)]),
    ),
    without=Without("alpha", lambda xp: emissions(xp, [[1, 1]], 0, xp.number(2))),
    real=lambda: real_steps(9),
)

STATEMENTS = (THINKING_KL, SOFT_RULE, SWITCHING_COST, HARD_RULE, PRICED_PATH)
