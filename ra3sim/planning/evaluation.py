"""The value of a given policy over options."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from ra3sim import _check
from ra3sim._linear import factor
from ra3sim.mdp import MDP
from ra3sim.planning.plan import Plan, as_smdp, contracting_mass, rounding_bound
from ra3sim.smdp import SMDP


def evaluate_policy(model: MDP | SMDP, policy: Any) -> Plan:
    """V^π by one linear solve, with a guaranteed bound on its error.

    Args:
        policy: options ``(S,)`` (-1 in terminal states), or probabilities ``(S, Z)`` with rows that sum to 1.

    Returns:
        A `Plan` with V^π as values; ``policy_loss_bound`` is infinite, for nothing is compared with the optimum.

    Raises:
        ValueError: wrong shape, no distribution, or an option where it is not available.

    >>> evaluate_policy(SMDP(R=[[1.0], [0.9]], P=[[[0.5]], [[0.6]]]), [0]).values
    array([2.])
    """
    model = as_smdp(model)
    masses = contracting_mass(model)
    policy = np.asarray(policy)
    if policy.ndim == 1:
        policy = check_policy(model, policy)
        matrix, reward = model.under(policy)
    else:
        mix = _check.distribution("policy", policy, (model.num_states, model.num_options), "sz")
        wrong = (mix > 0) & ~model.available.T & ~model.terminal[:, None]
        if wrong.any():
            raise ValueError(f"policy[{_check.first(wrong, 'sz')}] > 0, but the option is not available there")
        reward = np.einsum("sz,zs->s", mix, np.where(model.available, model.R, 0.0))
        parts = [model.option_matrix(z) for z in range(model.num_options)]
        if model.is_sparse:
            matrix = sp.csr_array(sum(sp.diags_array(mix[:, z]) @ part for z, part in enumerate(parts)))
        else:
            matrix = sum(mix[:, z, None] * part for z, part in enumerate(parts))
    values = factor(matrix)(reward)
    residual = float(np.abs(reward + matrix @ values - values).max(initial=0))
    rounding = rounding_bound(model)(values)
    return Plan(
        values=values,
        policy=policy,
        iterations=1,
        residual=residual,
        converged=True,
        value_bound=(residual + rounding) / (1 - masses[1]),
        policy_loss_bound=np.inf,
        method="policy evaluation (" + ("SuperLU)" if model.is_sparse else "LAPACK)"),
    )


def check_policy(model: SMDP, policy: Any) -> np.ndarray:
    """A deterministic policy ``(S,)`` as integers; -1 is put into terminal states.

    Raises:
        ValueError: wrong shape, not integers, or an option where it is not available.
    """
    policy = np.asarray(policy)
    if policy.shape != (model.num_states,) or policy.dtype.kind not in "iu":
        raise ValueError(
            f"policy: give one option number a state, ({model.num_states},), got {policy.dtype} {policy.shape}"
        )
    policy = np.where(model.terminal, -1, policy)
    known = (policy >= 0) & (policy < model.num_options)
    allowed = np.zeros(model.num_states, bool)
    allowed[known] = model.available[policy[known], np.flatnonzero(known)]
    wrong = ~allowed & ~model.terminal
    if wrong.any():
        state = int(np.argmax(wrong))
        raise ValueError(f"policy[s={state}] = {policy[state]}: this option is not available there")
    return policy


def exact_values(model: SMDP, policy: np.ndarray) -> np.ndarray:
    """V^π of a deterministic policy, by LAPACK or SuperLU."""
    matrix, reward = model.under(policy)
    return factor(matrix)(reward)
