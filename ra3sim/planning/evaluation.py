"""The value of a given policy over options."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp

from ra3sim import _check
from ra3sim._linear import factor
from ra3sim.mdp import MDP
from ra3sim.planning.batch import SMDPBatch
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


def evaluate_batch(models: SMDPBatch | Sequence[MDP | SMDP], tasks: Any, policies: Any) -> np.ndarray:
    """V^π of L policies, ``(L, S)``, by LAPACK for many policies at once (sparse models: SuperLU, one by one).

    Args:
        models: B models over the same states.
        tasks: ``(L,)``, the number of each policy's model.
        policies: options ``(L, S)`` (-1 in terminal states), or probabilities ``(L, S, Z)``; what they say in terminal
            states is not looked at.

    Raises:
        ValueError: wrong shape, an unknown task, no distribution, or an option where it is not available.

    >>> one, two = (SMDP(R=[[r], [0.9]], P=[[[0.5]], [[0.6]]]) for r in (1.0, 3.0))
    >>> evaluate_batch([one, two], [0, 1, 1], [[0], [0], [1]]).ravel().round(6).tolist()
    [2.0, 6.0, 2.25]
    """
    tasks, policies = np.asarray(tasks), np.asarray(policies)
    known_models = models if isinstance(models, SMDPBatch) else [as_smdp(model) for model in models]
    known = tasks.ndim == 1 and (tasks.dtype.kind in "iu" or not tasks.size)
    if not known or ((tasks < 0) | (tasks >= len(models))).any():
        raise ValueError(f"tasks: give the number of each policy's model, from 0 to {len(models) - 1}")
    if policies.ndim not in (2, 3) or len(policies) != len(tasks):
        raise ValueError(
            f"policies: give ({len(tasks)}, S) options or ({len(tasks)}, S, Z) probabilities, one policy for each of "
            f"the tasks, got {policies.shape}"
        )
    values = np.empty(policies.shape[:2])
    for task in np.unique(tasks):
        rows = _Rows.of(known_models, int(task))
        lanes = np.flatnonzero(tasks == task)
        size = 1 if sp.issparse(rows.matrix) else max(1, _ENTRIES_AT_ONCE // max(1, policies.shape[1] ** 2))
        for part in np.split(lanes, range(size, len(lanes), size)):
            values[part] = rows.evaluate(policies[part], part)
    return values


# Of the matrices that are solved together; more would not fit into the cache.
_ENTRIES_AT_ONCE = 1 << 20


class _Rows(NamedTuple):
    """One model as rows (see `SMDP`): of pair (s, z) at ``s * state_stride + z * option_stride``."""

    matrix: Any
    rewards: np.ndarray
    available: np.ndarray
    terminal: np.ndarray
    scale: float
    state_stride: int
    option_stride: int

    @staticmethod
    def of(models: SMDPBatch | Sequence[SMDP], task: int) -> _Rows:
        if isinstance(models, SMDPBatch):
            of = (models.matrices, models.row_rewards, models.row_available, models.terminal, models.scales)
            matrix, rewards, available, terminal, scale = (stack[task] for stack in of)
            return _Rows(matrix, rewards, available, terminal, scale, *models.strides)
        m = models[task]
        return _Rows(m.matrix, m.row_rewards, m.row_available, m.terminal, m.scale, m.state_stride, m.option_stride)

    def evaluate(self, policies: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Values ``(L, S)`` of ``(L, S)`` or ``(L, S, Z)``; the numbers are those of the policies, for messages."""
        states, options = len(self.terminal), len(self.rewards) // len(self.terminal)
        if policies.shape[1:] not in ((states,), (states, options)):
            raise ValueError(f"policies: {policies.shape} does not fit a model with (S, Z) = ({states}, {options})")
        if policies.ndim == 3:
            mix, chosen = policies, np.broadcast_to(np.arange(options), policies.shape)
        elif policies.dtype.kind in "iu":
            mix, chosen = np.ones((*policies.shape, 1)), policies[..., None]
        else:
            raise ValueError(f"policies: options are numbered, got {policies.dtype}; probabilities are (L, S, Z)")
        mix = np.where(self.terminal[:, None], 0.0, mix)
        off = ~(np.abs(mix.sum(-1) - 1) <= _check.ROW_SUM_TOLERANCE) & ~self.terminal
        if off.any() or (mix < 0).any():
            where = np.argwhere(off | (mix < 0).any(-1))[0]
            raise ValueError(f"policies[{_place(numbers, where)}] is no distribution; divide it by its sum")
        known = (chosen >= 0) & (chosen < options)
        index = np.arange(states)[:, None] * self.state_stride + np.where(known, chosen, 0) * self.option_stride
        wrong = (mix > 0) & ~(known & self.available[index])
        if wrong.any():
            where = np.argwhere(wrong)[0]
            raise ValueError(
                f"policies[{_place(numbers, where)}] takes option {chosen[tuple(where)]}, which is not available there"
            )
        reward = np.einsum("lsz,lsz->ls", mix, np.where(mix > 0, self.rewards[index], 0.0))
        if sp.issparse(self.matrix):
            weight = sp.csr_array(
                (mix[0].ravel(), (np.repeat(np.arange(states), mix.shape[2]), index[0].ravel())),
                shape=(states, self.matrix.shape[0]),
            )
            return factor(sp.csr_array(self.scale * weight @ self.matrix))(reward[0])[None]
        system = np.zeros((len(policies), states, states))
        for z in range(mix.shape[2]):
            system -= (self.scale * mix[..., z, None]) * self.matrix[index[..., z]]
        system[:, np.arange(states), np.arange(states)] += 1.0
        return np.linalg.solve(system, reward[..., None])[..., 0]


def _place(numbers: np.ndarray, where: np.ndarray) -> str:
    return _check.place((numbers[where[0]], where[1]), "ls")


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
