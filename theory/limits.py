"""What is left of the method as thoughts get dear or free: the limits α → 1 and α → 0, and how fast they come.

With ρ = (1 - α)(Z - 1)/Z, the prior keeps its latent with probability 1 - ρ. As α → 1 nothing new is thought: one
policy is kept for the whole trajectory (Zhang et al. 2025, section 5). As α → 0 every step chooses anew.
"""

from __future__ import annotations

from typing import Any

from theory.arithmetic import Arithmetic
from theory.bound import Assumption, Instance, Overstated, Statement, Without
from theory.latents import (
    EMISSION,
    KEEP,
    emissions,
    latents_of,
    prior_matrix,
    random_steps,
    real_steps,
    think_rate,
    total_likelihood,
)


def kept(xp: Arithmetic, i: Instance) -> Any:
    """The likelihood if one latent is kept throughout: Π_t π(a_t|s_t,z) of the start, or the mean over z if it is free.

    The first is behaviour cloning with the policy of the start.
    """
    return (prior_matrix(xp, 1, latents_of(i))[i["start"]] * i["emission"].prod(-2)).sum(-1)


def fresh(xp: Arithmetic, i: Instance) -> Any:
    """The likelihood if every step draws its latent uniformly: Π_t mean_z π(a_t|s_t,z)."""
    return (i["emission"].sum(-1) / latents_of(i)).prod(-1)


def _every_time(xp: Arithmetic, i: Instance, probability: Any, fewer: int = 0) -> Any:
    """``probability`` to the power of n, the number of steps that have a latent before: T, or T - 1 of a free start."""
    return probability ** (i["emission"].shape[0] - 1 - fewer) * xp.where(i["start"] < latents_of(i), probability, 1)


def _at(keep: int) -> Assumption:
    return Assumption(f"alpha = {keep}", f"α = {keep}", lambda xp, i: bool(i["keep"] == keep))


def _telling(xp: Arithmetic, keep: Any) -> Instance:
    """Two latents, both of which are needed to explain two steps."""
    return emissions(xp, [[3, 1], [1, 3]], 2, keep, 4)


BEHAVIOUR_CLONING = Statement(
    name="behaviour-cloning",
    number="5.8",
    claim="At α = 1: π(a|s) = Π_t π(a_t|s_t,z_start); with a free start the mean of Π_t π(a_t|s_t,z) over z.",
    source="paper, section 5, for a fixed start; this project for a free one",
    assumptions=(_at(1), EMISSION),
    family=lambda draw: random_steps(draw) | {"keep": draw.xp.number(1)},
    measured_side=total_likelihood,
    bound_side=kept,
    tight=lambda xp: [_telling(xp, xp.number(1))],
    overstated=Overstated("latents are chosen anew at every step", bound=fresh),
    without=Without("alpha = 1", lambda xp: _telling(xp, xp.number(1, 2))),
    equality=True,
    real=lambda: [(name, i | {"keep": 1.0}) for name, i in real_steps(9)],
)

KEPT_SHARE = Statement(
    name="kept-share",
    number="5.9",
    claim="(1−ρ)^n p_1 ≤ p_α, with n = T (T − 1 for a free start) and p_1 the likelihood at α = 1.",
    source="this project",
    assumptions=(KEEP, EMISSION),
    family=random_steps,
    measured_side=lambda xp, i: _every_time(xp, i, 1 - think_rate(xp, i)) * kept(xp, i),
    bound_side=total_likelihood,
    tight=lambda xp: [emissions(xp, [[1, 0, 0]] * 3, 0, xp.number(1, 2))],
    overstated=Overstated(
        "one step less counts", measured=lambda xp, i: _every_time(xp, i, 1 - think_rate(xp, i), 1) * kept(xp, i)
    ),
    without=Without("alpha", lambda xp: emissions(xp, [[1, 1]], 0, xp.number(2))),
    real=lambda: real_steps(9),
)


def _kept_or_best(xp: Arithmetic, i: Instance, fewer: int = 0) -> Any:
    share = _every_time(xp, i, 1 - think_rate(xp, i), fewer)
    return share * kept(xp, i) + (1 - share) * xp.max(i["emission"], -1).prod(-1)


KEPT_RATE = Statement(
    name="kept-rate",
    number="5.10",
    claim="p_α ≤ (1−ρ)^n p_1 + (1 − (1−ρ)^n) Π_t max_z π(a_t|s_t,z), so that |p_α − p_1| ≤ nρ Π_t max_z π(a_t|s_t,z).",
    source="this project",
    assumptions=(KEEP, EMISSION),
    family=random_steps,
    measured_side=total_likelihood,
    bound_side=_kept_or_best,
    tight=lambda xp: [emissions(xp, [[0, 1, 1]], 0, xp.number(k, 4)) for k in (0, 1, 2)],
    overstated=Overstated("one step less counts", bound=lambda xp, i: _kept_or_best(xp, i, 1)),
    without=Without("alpha", lambda xp: emissions(xp, [[1, 0]], 0, xp.number(2))),
    real=lambda: real_steps(9),
)

FRESH_EVERY_STEP = Statement(
    name="fresh-every-step",
    number="5.11",
    claim="At α = 0: π(a|s) = Π_t mean_z π(a_t|s_t,z), whatever the start.",
    source="this project",
    assumptions=(_at(0), EMISSION),
    family=lambda draw: random_steps(draw) | {"keep": draw.xp.number(0)},
    measured_side=total_likelihood,
    bound_side=fresh,
    tight=lambda xp: [_telling(xp, xp.number(0))],
    overstated=Overstated("a latent is kept for the whole trajectory", bound=kept),
    without=Without("alpha = 0", lambda xp: _telling(xp, xp.number(1, 2))),
    equality=True,
    real=lambda: [(name, i | {"keep": 0.0}) for name, i in real_steps(9)],
)


def _step_by_step(xp: Arithmetic, i: Instance, kept_emission: Any, keep: Any) -> Any:
    """Π_t (α k_t + (1 - α) mean_z π(a_t|s_t,z)), k_t for what a kept latent makes of the step."""
    mean = i["emission"].sum(-1) / latents_of(i)
    steps = keep * kept_emission + (1 - keep) * mean
    return xp.where(i["start"] < latents_of(i), steps[0], mean[0]) * steps[1:].prod()


FRESH_BELOW = Statement(
    name="fresh-below",
    number="5.12",
    claim="Π_t (α min_z π(a_t|s_t,z) + (1−α) mean_z π(a_t|s_t,z)) ≤ p_α (a free start: only the mean at t = 0).",
    source="this project",
    assumptions=(KEEP, EMISSION),
    family=random_steps,
    measured_side=lambda xp, i: _step_by_step(xp, i, xp.min(i["emission"], -1), i["keep"]),
    bound_side=total_likelihood,
    tight=lambda xp: [emissions(xp, [[0, 1, 1]], 0, xp.number(1, 4))],
    overstated=Overstated(
        "α counts half", measured=lambda xp, i: _step_by_step(xp, i, xp.min(i["emission"], -1), i["keep"] / 2)
    ),
    without=Without("alpha", lambda xp: emissions(xp, [[1, 0]], 0, xp.number(-1, 2))),
    real=lambda: real_steps(9),
)

FRESH_ABOVE = Statement(
    name="fresh-above",
    number="5.13",
    claim="p_α ≤ Π_t (α max_z π(a_t|s_t,z) + (1−α) mean_z π(a_t|s_t,z)), so |p_α − p_0| ≤ nα Π_t max_z π(a_t|s_t,z).",
    source="this project",
    assumptions=(KEEP, EMISSION),
    family=random_steps,
    measured_side=total_likelihood,
    bound_side=lambda xp, i: _step_by_step(xp, i, xp.max(i["emission"], -1), i["keep"]),
    tight=lambda xp: [emissions(xp, [[1, 0, 0]] * 3, 0, xp.number(3, 4))],
    overstated=Overstated(
        "α counts half", bound=lambda xp, i: _step_by_step(xp, i, xp.max(i["emission"], -1), i["keep"] / 2)
    ),
    without=Without("alpha", lambda xp: emissions(xp, [[0, 1]], 0, xp.number(-1, 2))),
    real=lambda: real_steps(9),
)

STATEMENTS = (BEHAVIOUR_CLONING, KEPT_SHARE, KEPT_RATE, FRESH_EVERY_STEP, FRESH_BELOW, FRESH_ABOVE)
