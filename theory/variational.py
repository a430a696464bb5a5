"""The temporal variational bound (Zhang et al. 2025, section 4), its optimum and its gap; EM climbs.

Likelihoods stay likelihoods, so that both sides are >= 0: exp(ELBO(q)) <= π(a_{0:T}|s_{0:T}). The likelihood and the
soft Bellman recursion are rational for rational models; only the bound of a given q takes logarithms.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from theory.arithmetic import FLOAT, Arithmetic
from theory.bound import Assumption, Draw, Instance, Overstated, Statement, Without
from theory.instances import agree, is_distribution
from theory.latents import (
    EMISSION,
    INSIDE,
    KEEP,
    POSSIBLE,
    ROWS,
    demonstrations,
    expected_log_ratio,
    inside,
    likelihood,
    path_weights,
    prior_table,
    random_steps,
    real_steps,
    soft_bellman,
    step_weights,
    times_log,
    total_likelihood,
)

_STEPS, _LATENTS = 3, 2
_PATHS = Assumption("q", "q is a distribution over sequences of latents", lambda xp, i: is_distribution(i["paths"]))


# ---- Any q -----------------------------------------------------------------------------------------------------------


def _joint_bound(xp: Arithmetic, i: Instance) -> Any:
    """exp(ELBO(q)) of a q over whole sequences, ``paths (Z^T,)``, by enumeration of them."""
    q = i["paths"]
    joint = path_weights(xp, i["start"], step_weights(xp, i))
    return xp.exp(times_log(xp, q, joint / xp.where(q > 0, q, 1)).sum())


def _half_price(xp: Arithmetic, i: Instance) -> Any:
    q = i["paths"]
    prior = path_weights(xp, i["start"], prior_table(xp, i))
    emission = path_weights(xp, i["start"], i["emission"][:, None, :] + xp.zeros(i["emission"].shape[1] + 1, 1))
    return xp.exp((times_log(xp, q, emission) + times_log(xp, q, prior / xp.where(q > 0, q, 1)) / 2).sum())


def _example(xp: Arithmetic, start: int) -> dict[str, Any]:
    emission = xp.array([[4, 5], [5, 3], [4, 5]]) / 5
    return {"keep": xp.number(2, 5), "start": start, "emission": emission}


def _posterior_paths(xp: Arithmetic) -> Iterator[Instance]:
    for start in (0, _LATENTS):
        joint = path_weights(xp, start, step_weights(xp, _example(xp, start)))
        yield _example(xp, start) | {"paths": joint / joint.sum()}


def _half_of_q(xp: Arithmetic) -> dict[str, Any]:
    """One step; what is here of q sums to 1/2."""
    quarter = xp.number(1, 4)
    half = xp.array([quarter, quarter])
    q = xp.zeros(1, 3, 2) + half
    return {"keep": xp.number(0), "start": 2, "emission": xp.array([[quarter, quarter]]), "paths": half, "q": q}


ELBO = Statement(
    name="elbo",
    number="5.1",
    claim="exp(E_q[Σ_t ln π(a_t|s_t,z_t) − KL(q(z_t|z_{<t})‖p(z_t|z_{t−1}))]) ≤ π(a_{0:T}|s_{0:T}), for every q.",
    source="paper, section 4",
    assumptions=(KEEP, EMISSION, _PATHS),
    family=lambda draw: random_steps(draw, _STEPS, _LATENTS) | {"paths": draw.distribution(_LATENTS**_STEPS)},
    measured_side=_joint_bound,
    bound_side=total_likelihood,
    tight=_posterior_paths,
    overstated=Overstated("the KL counts half", measured=_half_price),
    without=Without("q", _half_of_q),
    interval=True,
    real=lambda: [
        (f"{name}, q = prior", i | {"paths": path_weights(FLOAT, i["start"], prior_table(FLOAT, i))})
        for name, i in real_steps(5)
    ],
)


def _bound_of_best(xp: Arithmetic, i: Instance) -> Any:
    weights = step_weights(xp, i)
    return xp.exp(expected_log_ratio(xp, i["start"], soft_bellman(xp, weights), weights))


def _bound_of_greedy(xp: Arithmetic, i: Instance) -> Any:
    """q_t(z|z') ∝ p(z|z') π(a_t|s_t,z): the recursion without what follows."""
    weights = step_weights(xp, i)
    greedy = weights / weights.sum(-1)[..., None]
    return xp.exp(expected_log_ratio(xp, i["start"], greedy, weights))


def _unexplained(xp: Arithmetic) -> Instance:
    return {"keep": xp.number(1, 2), "start": 0, "emission": xp.array([[0, 0]])}


SOFT_BELLMAN = Statement(
    name="soft-bellman",
    number="5.2",
    claim="q*_t(z|z') ∝ p(z|z') π(a_t|s_t,z) exp b_{t+1}(z), b the soft Bellman recursion: ELBO(q*) = ln π(a|s).",
    source="this project (closed form of the paper's E-step in a table)",
    assumptions=(KEEP, EMISSION, POSSIBLE),
    family=random_steps,
    measured_side=_bound_of_best,
    bound_side=total_likelihood,
    tight=lambda xp: [_example(xp, 0), _example(xp, 2), _example(xp, 1) | {"keep": xp.number(1)}],
    overstated=Overstated("the greedy q ∝ p π is as good", measured=_bound_of_greedy),
    without=Without("possible", _unexplained),
    equality=True,
    interval=True,
    real=lambda: real_steps(9),
)


def _with_q(draw: Draw) -> Instance:
    i = random_steps(draw, _STEPS, _LATENTS)
    q = inside(draw.distribution(_STEPS, _LATENTS + 1, _LATENTS), _LATENTS)
    return i | {"keep": inside(i["keep"]), "emission": inside(i["emission"]), "q": q}


def _gap(xp: Arithmetic, i: Instance) -> Any:
    weights = step_weights(xp, i)
    elbo = expected_log_ratio(xp, i["start"], i["q"], weights)
    return xp.log(likelihood(xp, i["start"], weights)) - elbo


def _kl_to_posterior(xp: Arithmetic, i: Instance) -> Any:
    """By enumeration of the sequences, and step by step: ``(2,)``."""
    weights = step_weights(xp, i)
    joint, q = path_weights(xp, i["start"], weights), path_weights(xp, i["start"], i["q"])
    posterior = joint / joint.sum()
    whole = -times_log(xp, q, posterior / xp.where(q > 0, q, 1)).sum()
    return xp.stack([whole, -expected_log_ratio(xp, i["start"], i["q"], soft_bellman(xp, weights))])


def _prior_as_q(xp: Arithmetic) -> Iterator[Instance]:
    for start in (0, 2):
        yield _example(xp, start) | {"q": prior_table(xp, _example(xp, start))}


ELBO_GAP = Statement(
    name="elbo-gap",
    number="5.3",
    claim="ln π(a|s) − ELBO(q) = KL(q‖posterior) = E_q Σ_t KL(q_t(·|z_{t−1})‖q*_t(·|z_{t−1})).",
    source="this project (as the paper's bound implies)",
    assumptions=(INSIDE, ROWS),
    family=_with_q,
    measured_side=lambda xp, i: xp.stack([_gap(xp, i)] * 2),
    bound_side=_kl_to_posterior,
    tight=_prior_as_q,
    overstated=Overstated(
        "the gap is KL(posterior‖q)",
        bound=lambda xp, i: -expected_log_ratio(xp, i["start"], soft_bellman(xp, step_weights(xp, i)), i["q"]),
    ),
    without=Without("q", _half_of_q),
    equality=True,
    interval=True,
    real=lambda: [(f"{name}, q = prior", i | {"q": prior_table(FLOAT, i)}) for name, i in real_steps(5)],
)

# ---- EM --------------------------------------------------------------------------------------------------------------


def with_policy(i: Instance, policy: Any) -> dict[str, Any]:
    """The instance with the emissions ``(M, T, Z)`` of a policy ``(Z, S, A)`` on ``states`` and ``actions (M, T)``."""
    return {**i, "policy": policy, "emission": policy[:, i["states"], i["actions"]].transpose(1, 2, 0)}


def responsibilities(xp: Arithmetic, i: Instance) -> Any:
    """P(z_t = z | a), ``(M, T, Z)``: the marginals of q*."""
    q, latents = soft_bellman(xp, step_weights(xp, i)), i["emission"].shape[-1]
    marginal = [q[:, 0, i["start"]]]
    for t in range(1, q.shape[1]):
        marginal.append((marginal[-1][:, :, None] * q[:, t, :latents]).sum(1))
    return xp.stack(marginal, 1)


def m_step(xp: Arithmetic, i: Instance) -> Any:
    """π ∝ expected counts, ``(Z, S, A)``; where there are none, as before."""
    policy, (states, actions) = i["policy"], (i["states"], i["actions"])
    known = i["responsibilities"] if "responsibilities" in i else responsibilities(xp, i)
    here = (states[..., None] == np.arange(policy.shape[1]))[..., None]
    done = here & (actions[..., None] == np.arange(policy.shape[2]))[..., None, :]
    counts = xp.where(done[..., None], known[:, :, None, None, :], 0).sum((0, 1)).transpose(2, 0, 1)
    total = counts.sum(-1)[..., None]
    return xp.where(total == 0, policy, counts / xp.where(total == 0, 1, total))


def _after(xp: Arithmetic, i: Instance) -> Any:
    return total_likelihood(xp, with_policy(i, m_step(xp, i)))


def _sequences(draw: Draw) -> dict[str, Any]:
    i = {"keep": draw.unit(), "start": draw.whole(_LATENTS + 1), "states": _STATES, "actions": _ACTIONS}
    return with_policy(i, draw.distribution(_LATENTS, 2, 2))


_STATES, _ACTIONS = np.array([[0, 1, 0], [0, 0, 1]]), np.array([[0, 1, 1], [0, 0, 0]])


def _all_explained(xp: Arithmetic) -> Iterator[Instance]:
    """Latents that all act as often as the trajectories do: a fixed point."""
    i = {"keep": xp.number(1, 3), "start": 2, "states": np.array([[0, 0, 0]]), "actions": np.array([[0, 0, 1]])}
    yield with_policy(i, xp.array([[[2, 1]], [[2, 1]]]) / 3)


def _wrong_counts(xp: Arithmetic) -> Instance:
    """The first latent is kept for both actions, but said to have taken one of them only."""
    i = {"keep": xp.number(1), "start": 0, "states": np.array([[0, 0]]), "actions": np.array([[0, 1]])}
    return with_policy(i, xp.array([[[1, 1]], [[1, 1]]]) / 2) | {"responsibilities": xp.array([[[1, 0], [0, 1]]])}


def _real_sequences() -> Iterator[tuple[str, Instance]]:
    for name, model, trajectories in demonstrations():
        states, actions = (np.stack(x) for x in zip(*((x[:4] for x in trajectories[m]) for m in (0, 1)), strict=True))
        prior: Any = model.prior
        i = {"keep": prior.keep, "start": model.num_latents, "states": states, "actions": actions}
        yield name, with_policy(i, model.policy)


EM_MONOTONE = Statement(
    name="em-monotone",
    number="5.4",
    claim="The M-step π ∝ expected counts of the exact E-step does not lower the likelihood of the trajectories.",
    source="Dempster, Laird & Rubin 1977; paper, section 4",
    assumptions=(
        KEEP,
        EMISSION,
        POSSIBLE,
        Assumption(
            "exact E-step",
            "the expected counts are those of the posterior",
            lambda xp, i: "responsibilities" not in i or agree(i["responsibilities"], responsibilities(xp, i)),
        ),
    ),
    family=_sequences,
    measured_side=lambda xp, i: total_likelihood(xp, i).prod(),
    bound_side=lambda xp, i: _after(xp, i).prod(),
    tight=_all_explained,
    overstated=Overstated("nor that of any single trajectory", measured=total_likelihood, bound=_after),
    without=Without("exact E-step", _wrong_counts),
    real=_real_sequences,
)

STATEMENTS = (ELBO, SOFT_BELLMAN, ELBO_GAP, EM_MONOTONE)
